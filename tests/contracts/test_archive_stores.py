"""The contract of an archive's files, in a folder, in an object store and in memory."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateways.embedded import Addresses
from streams.archive.archived_replay import ArchivedReplay
from streams.archive.errors import ArchiveError
from streams.archive.export import export_stream
from streams.archive.manifest import load_chain
from streams.archive.store import Archive
from streams.connection import Connection
from streams.topology import RAW
from tests.streams.archiving import NOON, at, live_only, put, spread
from tests.streams.object_store import ObjectStore, object_store

NAME = "RAW/2026-11-20/000000000001-000000000009.parquet"


class ArchiveStoreContract:
    """Subclasses provide the fixture `url`: where an empty archive is."""

    @pytest.fixture
    def archive(self, url: str) -> Archive:
        return Archive(url)

    async def test_a_created_file_can_be_read(self, archive: Archive) -> None:
        assert await archive.create(NAME, b"content")
        assert await archive.read(NAME) == b"content"
        assert await archive.sizes("RAW") == {NAME: 7}

    async def test_content_may_be_an_open_file(self, archive: Archive) -> None:
        content = bytes(range(256)) * 40_000
        assert await archive.create(NAME, io.BytesIO(content))
        assert await archive.read(NAME) == content

    async def test_create_never_replaces_a_file(self, archive: Archive) -> None:
        assert await archive.create(NAME, b"first")
        assert not await archive.create(NAME, b"second")
        assert await archive.read(NAME) == b"first"

    async def test_one_of_two_concurrent_creates_succeeds(self, archive: Archive, url: str) -> None:
        # memory:/// is another store for each instance.
        other = archive if url.startswith("memory:") else Archive(url)
        contents = {number: f"writer {number}".encode() for number in range(8)}
        created = await asyncio.gather(
            *((other if number % 2 else archive).create(NAME, content) for number, content in contents.items())
        )
        assert sum(created) == 1
        assert await archive.read(NAME) == contents[created.index(True)]

    async def test_replace_writes_over_a_file(self, archive: Archive) -> None:
        await archive.create(NAME, b"a longer first content")
        await archive.replace(NAME, io.BytesIO(b"second"))
        assert await archive.read(NAME) == b"second"
        assert await archive.sizes("RAW") == {NAME: 6}

    async def test_a_removed_file_may_be_created_again(self, archive: Archive) -> None:
        await archive.create(NAME, b"first")
        await archive.remove(NAME)
        assert await archive.sizes("RAW") == {}
        assert await archive.create(NAME, b"second")

    async def test_sizes_lists_every_file_below_a_prefix(self, archive: Archive) -> None:
        names = [f"RAW/2026-11-{day:02d}/{number}.parquet" for day in range(1, 4) for number in range(4)]
        for number, name in enumerate([*names, "SIGNALS/2026-11-01/0.parquet", "RAWER/0.parquet"]):
            await archive.create(name, b"x" * number)
        assert await archive.sizes("RAW") == {name: number for number, name in enumerate(names)}
        assert await archive.sizes("RAW/2026-11-02") == {name: names.index(name) for name in names[4:8]}
        assert await archive.sizes("GROUPS") == {}

    async def test_an_opened_file_is_seekable(self, archive: Archive) -> None:
        await archive.create(NAME, b"0123456789")
        async with archive.opened(NAME) as file:
            assert file.seek(-4, io.SEEK_END) == 6
            assert file.read() == b"6789"
            assert file.seek(2) == 2
            assert file.read(3) == b"234"

    async def test_a_missing_file_raises_an_error_that_names_it(self, archive: Archive, url: str) -> None:
        with pytest.raises(ArchiveError, match=f"archive {url}: {NAME} cannot be read: .*check VIBE_ARCHIVE_URL"):
            await archive.read(NAME)
        with pytest.raises(ArchiveError, match=NAME):
            async with archive.opened(NAME):
                pass

    async def test_partial_files_of_a_prefix_without_files_can_be_removed(self, archive: Archive) -> None:
        archive.remove_partial_files("RAW")
        assert await archive.sizes("RAW") == {}

    async def test_an_exported_stream_is_replayed_from_it(
        self, archive: Archive, running: Addresses, log: Connection
    ) -> None:
        await put(log, RAW, spread([1, 2, 3], 50))
        done = await export_stream(archive, running.nats_url, RAW, now_ns=at(3, NOON), file_events=30)
        assert (done.files, done.last) == (4, 100)
        assert (await load_chain(archive, "RAW")).last == 100
        reader = ArchivedReplay(archive, running.nats_url, "RAW")
        payloads = [payload async for block in reader.blocks() for payload in block.payloads]
        assert payloads == (await live_only(running.nats_url, "RAW")).payloads
        assert (reader.archived, reader.done) == (100, 150)


class TestFolder(ArchiveStoreContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "it's here")


class TestFileUrl(ArchiveStoreContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/archive"


class TestMemory(ArchiveStoreContract):
    @pytest.fixture
    def url(self) -> str:
        return "memory:///"


class TestObjectStore(ArchiveStoreContract):
    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
        with object_store() as server:
            for name, value in server.settings.items():
                monkeypatch.setenv(name, value)
            yield server

    @pytest.fixture
    def url(self, server: ObjectStore) -> str:
        return "s3://bucket/some/prefix"

    async def test_files_are_below_the_prefix(self, archive: Archive, server: ObjectStore) -> None:
        await archive.create(NAME, b"content")
        assert server.objects == {f"/bucket/some/prefix/{NAME}": b"content"}
