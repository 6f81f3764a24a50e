"""Manifests: what makes a Parquet file archived, and the files of a stream a chain.

    RAW/2026-11-20/000000000001-000000123456.parquet    the events
    RAW/manifests/000000000001.json                     what they are, written last

A manifest is named after the first sequence of its file alone. It is created, never replaced, and the next file begins
where the last one ended; so of two runs at the same time only one can add the next link, and there is one chain.
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
    """One file: sequences `first`..`last` of a stream, every one of them.

    `day` is the UTC day that the file belongs to, `created` the stamp of the stream that it was read from, `schema` the
    version of the columns, `digest` that of `rows.Digest`, `bytes` the size of the file and `payload_bytes` that of
    the payloads in it. `lost` is (first, last) of what an age limit took before it could be archived, in front of
    this file.
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
        """Whether both say the same of the same events; two files may be compressed to different sizes."""
        return all(
            getattr(self, field) == getattr(other, field)
            for field in ("stream", "day", "first", "last", "count", "digest", "schema", "created", "file", "lost")
        )


def file_name(stream: str, day: str, first: int, last: int) -> str:
    return f"{stream}/{day}/{first:012d}-{last:012d}.parquet"


def first_of(name: str) -> int | None:
    """The first sequence in the name of a Parquet file, None when it is no name of ours."""
    found = re.search(r"/(\d{12,})-\d{12,}\.parquet$", name)
    return int(found[1]) if found else None


class Chain(NamedTuple):
    """What is archived of a stream, in order, without a hole that is not `lost`; and files that no manifest names."""

    stream: str
    links: tuple[Manifest, ...]
    strays: frozenset[str]

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
        """Raises AnotherLogError when the log's stream is not the archived one, DataLossError when it ends before."""
        if self.links and self.links[-1].created != log.created:
            raise AnotherLogError(archive.url, self.stream, self.links[-1].created, log.created)
        if log.last < self.last:
            raise DataLossError(self.stream, log.last + 1, self.last)


async def chain(archive: Archive, stream: str) -> Chain:
    """All that is archived of a stream. Raises BrokenChainError, ArchiveError."""
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
    strays = frozenset(name for name in sizes if name.endswith(".parquet") and name not in named)
    return Chain(stream, tuple(links), strays)


_RESTORE = "restore it from a copy of the archive"


def _check(archive: Archive, stream: str, links: list[Manifest], sizes: dict[str, int]) -> None:
    before: Manifest | None = None
    for link in links:
        said = f"archive {archive.url}: {link.name}"
        if link.stream != stream or link.count != link.last - link.first + 1:
            raise BrokenChainError(f"{said} speaks of {link.count} events of {link.stream}; {_RESTORE}")
        if sizes.get(link.file) != link.bytes:
            found = f"has {sizes[link.file]:,} bytes" if link.file in sizes else "is missing"
            raise BrokenChainError(f"{said} names {link.file} of {link.bytes:,} bytes, which {found}; {_RESTORE}")
        if before is not None:
            if before.created != link.created:
                raise AnotherLogError(archive.url, stream, before.created, link.created)
            follows = link.lost or (link.first, link.last)
            if follows[0] != before.last + 1 or (link.lost and link.lost[1] + 1 != link.first):
                raise BrokenChainError(
                    f"{said} begins at sequence {follows[0]}, but {before.last + 1} is what follows; the manifests "
                    f"between them are missing: {_RESTORE}"
                )
        before = link
