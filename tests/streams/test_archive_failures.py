"""Damaged archives, other logs and lost events are detected and named."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gateways.embedded import Addresses
from streams.archive.arrow_rows import COLUMNS
from streams.archive.errors import (
    AnotherLogError,
    ArchiveError,
    BrokenChainError,
    DamagedError,
    OvertakenError,
)
from streams.archive.export import export_stream
from streams.archive.manifest import load_chain
from streams.archive.store import Archive
from streams.bulk_replay import Replay
from streams.connection import Connection
from streams.errors import DataLossError
from streams.topology import RAW, SIGNALS, Stream
from tests.conftest import empty
from tests.streams.archiving import (
    NOON,
    ArchivedLog,
    archived_and_live,
    at,
    create_removable,
    day,
    drop_before,
    live_only,
    put,
    replaced_attribute,
    spread,
)


@pytest.fixture
def case(tmp_path: Path, running: Addresses, log: Connection) -> ArchivedLog:
    return ArchivedLog(tmp_path / "archive", running.nats_url, log)


@pytest.fixture
async def thin(log: Connection) -> Stream:
    return await create_removable(log)


async def archived(case: ArchivedLog) -> list[Path]:
    await put(case.log, RAW, spread([1, 2, 3, 4], 400))
    await case.run(today=4)
    return [case.folder / one.file for one in (await case.chain()).links]


async def test_one_changed_byte_is_detected(case: ArchivedLog) -> None:
    path = (await archived(case))[1]
    good = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    places = [
        (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 3
        for chunk in chunks
        if chunk.path_in_schema in COLUMNS
    ]
    assert len(places) == 5
    for place in places:
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(DamagedError, match=day(2)):
            await archived_and_live(case.archive, case.url, "RAW")
    path.write_bytes(good)
    assert (await archived_and_live(case.archive, case.url, "RAW")) == await live_only(case.url, "RAW")


async def test_the_content_of_another_file_is_detected_by_its_digest(case: ArchivedLog) -> None:
    """Valid Parquet with the right sequences, but with other events than the manifest's."""
    await archived(case)
    link = (await case.chain()).links[1]
    elsewhere = Archive(str(case.folder.parent / "other"))
    await empty(case.log)
    await put(case.log, RAW, spread([1, 2, 3, 4], 400))
    await export_stream(elsewhere, case.url, RAW, now_ns=at(4, NOON))
    swapped = await elsewhere.read(link.file)
    manifest = case.folder / link.name
    manifest.write_text(manifest.read_text().replace(f'"bytes": {link.bytes}', f'"bytes": {len(swapped)}'))
    (case.folder / link.file).write_bytes(swapped)
    created = (await load_chain(elsewhere, "RAW")).links[0].created
    for path in (case.folder / "RAW/manifests").iterdir():
        path.write_text(path.read_text().replace(link.created, created))
    with pytest.raises(DamagedError, match="its digest is sha256:"):
        await archived_and_live(case.archive, case.url, "RAW")


async def test_missing_files_and_manifests_break_the_chain(case: ArchivedLog) -> None:
    paths = await archived(case)
    moved = paths[1].with_suffix(".away")
    paths[1].rename(moved)
    with pytest.raises(BrokenChainError, match="is missing"):
        await case.run(today=4)
    moved.rename(paths[1])
    manifest = case.folder / (await case.chain()).links[1].name
    text = manifest.read_text()
    manifest.unlink()
    with pytest.raises(BrokenChainError, match="the next one is 401"):
        await archived_and_live(case.archive, case.url, "RAW")
    manifest.write_text(text[:-5])
    with pytest.raises(BrokenChainError, match="is not a manifest"):
        await case.run(today=4)
    manifest.write_text(text)
    assert (await case.run(today=4)).last == 1200


async def test_another_log_is_refused(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1, 2], 20))
    await case.run(today=2)
    before = case.files()
    await empty(case.log)
    await put(case.log, RAW, spread([1, 2, 3], 20))
    with pytest.raises(AnotherLogError, match="VIBE_ARCHIVE_URL to an empty location"):
        await case.run(today=3)
    with pytest.raises(AnotherLogError):
        await archived_and_live(case.archive, case.url, "RAW")
    assert case.files() == before
    assert (await case.run(SIGNALS, today=3)).last == 0  # no events of this stream are archived


async def test_events_that_an_age_limit_removed_are_recorded_and_named(case: ArchivedLog, thin: Stream) -> None:
    await put(case.log, thin, spread([1, 2, 3, 4], 10))
    await drop_before(case.log, thin, 4)
    assert (await case.run(thin, today=2)).lost is None  # before the first export: the history begins there
    await drop_before(case.log, thin, 16)
    done = await case.run(thin, today=4)
    assert (done.lost, done.files, done.last) == ((11, 15), 2, 30)
    links = (await case.chain(thin)).links
    assert [(one.first, one.last, one.lost) for one in links] == [(4, 10, None), (16, 20, (11, 15)), (21, 30, None)]
    with pytest.raises(DataLossError, match=r"sequences 11\.\.15"):
        await archived_and_live(case.archive, case.url, thin.name)
    read = await archived_and_live(case.archive, case.url, thin.name, across=True)
    assert read.sequences == [*range(4, 11), *range(16, 41)]
    assert (await archived_and_live(case.archive, case.url, thin.name, first=16)).sequences == list(range(16, 41))
    for size in (1, 3, 7):  # ranges that begin and end inside the lost one
        pieces = [
            await archived_and_live(case.archive, case.url, thin.name, first=first, until=first + size - 1, across=True)
            for first in range(1, 41, size)
        ]
        assert [sequence for piece in pieces for sequence in piece.sequences] == read.sequences
    await drop_before(case.log, thin, 33)
    with pytest.raises(DataLossError, match=r"sequences 31\.\.32"):
        await archived_and_live(case.archive, case.url, thin.name, across=True)


async def test_events_removed_during_an_export_stop_it_before_the_gap(case: ArchivedLog, thin: Stream) -> None:
    await put(case.log, thin, spread([1, 2, 3], 400))

    async def move(self: Any, archived: Any) -> None:
        await add(self, archived)
        await drop_before(case.log, thin, 600)

    from streams.archive import export

    add = export._Run._add
    with (
        replaced_attribute(export._Run, "_add", move),
        replaced_attribute(export, "Replay", slow(Replay)),
        pytest.raises(OvertakenError, match=r"sequences 401\.\.599"),
    ):
        await case.run(thin, today=3)
    assert (await case.chain(thin)).last == 400
    assert (await case.run(thin, today=3)).lost == (401, 599)


def slow(reader: Any) -> Any:
    """A reader of blocks of 400, each requested only after the one before was processed."""

    class Slow(reader):  # type: ignore[misc]
        def __init__(self, url: str, stream: str, *, after: int, until: int) -> None:
            self._parts = (url, stream)
            self.total, self.done = until - after, 0
            self._range = (after, until)

        async def blocks(self) -> Any:
            after, until = self._range
            while after < until:
                one = reader(*self._parts, after=after, until=min(after + 400, until))
                async for block in one.blocks():
                    yield block
                    self.done += len(block.sequences)
                after = max(one.position, after + 400)

    return Slow


async def test_a_gap_in_a_stream_is_data_loss(case: ArchivedLog, thin: Stream) -> None:
    await put(case.log, thin, spread([1, 2, 3], 10))
    await case.log.api(f"STREAM.MSG.DELETE.{thin.name}", {"seq": 15})
    with pytest.raises(DataLossError, match=r"sequences 15\.\.15"):
        await case.run(thin, today=3)
    assert (await case.chain(thin)).last == 0


async def test_a_log_that_ends_before_its_archive_is_data_loss(case: ArchivedLog, thin: Stream) -> None:
    await put(case.log, thin, spread([1, 2], 10))
    await case.run(thin, today=2)
    link = (await case.chain(thin)).links[0]
    await case.log.api(f"STREAM.DELETE.{thin.name}")
    await case.log.api(f"STREAM.CREATE.{thin.name}", thin.config(1))
    created = (await case.log.api(f"STREAM.INFO.{thin.name}"))["created"]
    manifest = case.folder / link.name
    manifest.write_text(manifest.read_text().replace(link.created, created))  # as a restored log has it
    for work in (case.run(thin, today=2), archived_and_live(case.archive, case.url, thin.name)):
        with pytest.raises(DataLossError, match=r"sequences 1\.\.10"):
            await work


async def test_locations_that_cannot_be_used_are_explained(case: ArchivedLog, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(ArchiveError, match=r"bogus://x: cannot be opened.*VIBE_ARCHIVE_URL"):
        Archive("bogus://x")
    with pytest.raises(ArchiveError, match="check VIBE_ARCHIVE_URL"):
        Archive(str(file / "below"))
