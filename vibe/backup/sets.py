"""The sets of backups in a folder or an object store.

20261120T030000Z/EXECUTIONS     one stream, encrypted (encryption.py)
20261120T030000Z/tables         the tables of Postgres that are not in the log
20261120T030000Z/manifest       written last: a set without it does not count
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from streams.archive.store import Archive
from vibe.backup.encryption import decrypt, encrypt
from vibe.backup.errors import BackupError
from vibe.backup.retention import kept, taken_at

MANIFEST, TABLES = "manifest", "tables"
FORMAT = 1
_UNFINISHED = timedelta(days=1)


class StreamPart(Struct, frozen=True, kw_only=True):
    """One stream: every sequence `first`..`last` (`last` is first - 1 for an empty stream), their `digest` (that of
    `streams.archive.arrow_rows.Digest`), the size of the file, and what the server needs to restore it."""

    name: str
    first: int
    last: int
    messages: int
    digest: str
    bytes: int
    config: dict[str, Any]
    state: dict[str, Any]

    @property
    def contiguous(self) -> bool:
        """Whether the number of messages is that of the sequences."""
        return self.messages == self.last - self.first + 1


class Manifest(Struct, frozen=True, kw_only=True):
    """What a set holds. `tables` is the number of rows by table."""

    name: str
    version: str
    streams: list[StreamPart]
    tables: dict[str, int]
    format: int = FORMAT


class BackupSets:
    """The sets of one place, read and written with one key. Methods raise BackupError and ArchiveError."""

    def __init__(self, url: str, key: bytes) -> None:
        self._store = Archive(url, "VIBE_BACKUP_URL")
        self._key = key
        self.url = self._store.url

    async def names(self) -> list[str]:
        """Every complete set, oldest first."""
        return await set_names(self._store)

    async def newest(self) -> str:
        """The set that was taken last. Raises BackupError without one."""
        found = await self.names()
        if not found:
            raise BackupError(f"{self.url} holds no backup; take one: vibe backup run, or set VIBE_BACKUP_URL")
        return found[-1]

    async def manifest(self, name: str) -> Manifest:
        """What a set holds. Raises BackupError when there is no such set, or its format is another one."""
        if name not in await self.names():
            raise BackupError(f"{self.url} holds no backup {name!r}; list them: vibe backup list")
        async with self.opened(name, MANIFEST) as chunks:
            found = msgspec.json.decode(b"".join(chunks), type=Manifest)
        if found.format != FORMAT:
            raise BackupError(f"{name} has format {found.format}, and this version reads format {FORMAT}")
        return found

    async def write(self, name: str, file: str, chunks: AsyncIterator[bytes]) -> int:
        """Store one file of a set, encrypted; returns its size in bytes. Raises BackupError when it exists."""
        whole = f"{name}/{file}"
        with tempfile.TemporaryFile() as held:
            async for part in encrypt(self._key, whole, chunks):
                held.write(part)
            size = held.seek(0, 2)
            held.seek(0)
            if not await self._store.create(whole, held):
                raise BackupError(f"{whole} exists already in {self.url}; another backup runs at the same time")
        return size

    @asynccontextmanager
    async def opened(self, name: str, file: str) -> AsyncIterator[Iterator[bytes]]:
        """The plain bytes of one file of a set, in chunks."""
        whole = f"{name}/{file}"
        async with self._store.opened(whole) as stored:
            yield decrypt(self._key, whole, stored)

    async def prune(self, now: datetime | None = None) -> list[str]:
        """Remove what the retention does not keep, and sets that were not completed within a day; returns the names."""
        complete = await self.names()
        begun = {name.partition("/")[0] for name in await self._store.sizes("") if _is_set(name.partition("/")[0])}
        late = (now or datetime.now(UTC)) - _UNFINISHED
        unwanted = set(complete) - kept(complete)
        unwanted |= {name for name in begun.difference(complete) if taken_at(name) < late}
        for name in sorted(unwanted):
            await self.remove(name)
        return sorted(unwanted)

    async def remove(self, name: str) -> None:
        """Remove a set: the manifest first, so that what is left of it does not count."""
        files = await self._store.sizes(name)
        for file in sorted(files, key=lambda file: not file.endswith(f"/{MANIFEST}")):
            await self._store.remove(file)


async def set_names(store: Archive) -> list[str]:
    """Every complete set of a place, oldest first; needs no key."""
    return sorted(name.partition("/")[0] for name in await store.sizes("") if name.endswith(f"/{MANIFEST}"))


def _is_set(name: str) -> bool:
    try:
        taken_at(name)
    except ValueError:
        return False
    return True
