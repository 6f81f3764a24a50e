"""Manifests: a Parquet file counts as archived when it has a manifest; those of a stream form a chain.

    RAW/2026-11-20/000000000001-000000123456.parquet    the events
    RAW/manifests/000000000001.json                     their manifest, written last

The name of a manifest holds only the first sequence of its file. It is created, never replaced, and the next file
begins where the last one ended; so of two concurrent runs only one can add the next link, and there is one chain.
"""

import asyncio
import re
from typing import NamedTuple

import msgspec
from msgspec import Struct

from streams.archive.errors import AnotherLogError, BrokenChainError
from streams.archive.live_range import LiveRange
from streams.archive.store import Archive
from streams.errors import DataLossError

_AT_ONCE = 32


class Manifest(Struct, frozen=True, kw_only=True):
    """The manifest of one file, which holds every sequence `first`..`last` of a stream.

    `day` is the UTC day of the file, `created` when the stream was created that it was read from, `schema` the version
    of the columns, `digest` that of `arrow_rows.Digest`, `bytes` the size of the file and `payload_bytes` that of its
    payloads. `lost` is (first, last) of the sequences before this file that an age limit removed before they were
    archived.
    """

    stream: str
    day: str
    first: int
    last: int
    count: int
    digest: str
    schema: int
    created: str
    file: str
    bytes: int
    payload_bytes: int
    archived_at: str
    lost: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        return f"{self.stream}/manifests/{self.first:012d}.json"

    def same(self, other: "Manifest") -> bool:
        """Whether both describe the same events; the sizes of their files may differ by compression."""
        return all(
            getattr(self, field) == getattr(other, field)
            for field in ("stream", "day", "first", "last", "count", "digest", "schema", "created", "file", "lost")
        )


def file_name(stream: str, day: str, first: int, last: int) -> str:
    return f"{stream}/{day}/{first:012d}-{last:012d}.parquet"


def first_of(name: str) -> int | None:
    """The first sequence in the name of a Parquet file; None for other names."""
    found = re.search(r"/(\d{12,})-\d{12,}\.parquet$", name)
    return int(found[1]) if found else None


class Chain(NamedTuple):
    """The manifests of a stream in order (`links`), without a gap that is not `lost`; and files without a manifest."""

    stream: str
    links: tuple[Manifest, ...]
    unlisted: frozenset[str]

    @property
    def last(self) -> int:
        """The last archived sequence; 0 when nothing is archived."""
        return self.links[-1].last if self.links else 0

    @property
    def day(self) -> str:
        """The last archived day; empty when nothing is archived."""
        return self.links[-1].day if self.links else ""

    @property
    def lost(self) -> list[tuple[int, int]]:
        return [link.lost for link in self.links if link.lost is not None]

    def check(self, archive: Archive, log: LiveRange) -> None:
        """Raises AnotherLogError when another log's stream is archived, DataLossError when the log ends before the
        archive."""
        if self.links and self.links[-1].created != log.created:
            raise AnotherLogError(archive.url, self.stream, self.links[-1].created, log.created)
        if log.last < self.last:
            raise DataLossError(self.stream, log.last + 1, self.last)


async def load_chain(archive: Archive, stream: str) -> Chain:
    """The chain of a stream. Raises BrokenChainError, ArchiveError."""
    sizes = await archive.sizes(stream)
    names = sorted(name for name in sizes if name.startswith(f"{stream}/manifests/") and name.endswith(".json"))
    window = asyncio.Semaphore(_AT_ONCE)

    async def read(name: str) -> Manifest:
        async with window:
            content = await archive.read(name)
        try:
            return msgspec.json.decode(content, type=Manifest)
        except msgspec.MsgspecError as error:
            raise BrokenChainError(f"archive {archive.url}: {name} is not a manifest: {error}; {_RESTORE}") from error

    links = sorted(await asyncio.gather(*map(read, names)), key=lambda link: link.first)
    _check(archive, stream, links, sizes)
    named = {link.file for link in links}
    unlisted = frozenset(name for name in sizes if name.endswith(".parquet") and name not in named)
    return Chain(stream, tuple(links), unlisted)


_RESTORE = "restore it from a copy of the archive"


def _check(archive: Archive, stream: str, links: list[Manifest], sizes: dict[str, int]) -> None:
    before: Manifest | None = None
    for link in links:
        where = f"archive {archive.url}: {link.name}"
        if link.stream != stream or link.count != link.last - link.first + 1:
            raise BrokenChainError(f"{where} states {link.count} events of {link.stream}; {_RESTORE}")
        if sizes.get(link.file) != link.bytes:
            found = f"has {sizes[link.file]:,} bytes" if link.file in sizes else "is missing"
            raise BrokenChainError(f"{where} names {link.file} of {link.bytes:,} bytes, which {found}; {_RESTORE}")
        if before is not None:
            if before.created != link.created:
                raise AnotherLogError(archive.url, stream, before.created, link.created)
            follows = link.lost or (link.first, link.last)
            if follows[0] != before.last + 1 or (link.lost and link.lost[1] + 1 != link.first):
                raise BrokenChainError(
                    f"{where} begins at sequence {follows[0]}, but the next one is {before.last + 1}; the manifests "
                    f"between them are missing: {_RESTORE}"
                )
        before = link
