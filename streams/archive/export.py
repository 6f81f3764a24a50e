"""Exporting closed days: read, write, read back, compare, and only then say that they are archived.

A run may be interrupted anywhere, even by kill -9, and repeated any number of times. What has a manifest is never
written again. A file without one is what an interrupted run left: when it holds what the stream holds it is kept,
else written anew.
"""

import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
import structlog

from streams.archive.arrow_rows import VERSION
from streams.archive.day_boundaries import DayBoundary, day_boundaries, day_of
from streams.archive.errors import DamagedError, OverlappedError, OvertakenError
from streams.archive.live_range import live_range
from streams.archive.manifest import Chain, Manifest, chain, file_name, first_of
from streams.archive.parquet_file import Writing, blocks
from streams.archive.run_in_thread import run_in_thread
from streams.archive.store import Archive
from streams.bulk_replay import Block, Replay
from streams.envelope import rfc3339
from streams.topology import Stream

log = structlog.get_logger()

FILE_EVENTS = 1_000_000
FILE_BYTES = 1024 * 1024 * 1024
"""A file ends behind the block with which its payloads reach this."""
_SECOND = 1_000_000_000
SETTLED_SECONDS = 300
"""A day counts as closed this long after its midnight: what was under way then has arrived."""

Progress = Callable[[str, int, int], None]
"""Told (what is being done, done, total)."""


class Archived(NamedTuple):
    """What one run did for one stream; `last` and `day` are where the archive ends now."""

    stream: str
    files: int
    events: int
    bytes: int
    last: int
    day: str
    lost: tuple[int, int] | None
    seconds: float


async def archive_stream(
    archive: Archive,
    url: str,
    stream: Stream,
    *,
    now_ns: int,
    until: str | None = None,
    file_events: int = FILE_EVENTS,
    progress: Progress = lambda what, done, total: None,
) -> Archived:
    """Archive every closed day of a stream that is not archived yet, up to and with the day `until` (YYYY-MM-DD).

    `now_ns` decides which days are closed. Raises AnotherLogError, BrokenChainError, DataLossError (a hole in the
    stream, or a stream that ends before its archive), OvertakenError, DamagedError, ArchiveError, or what the log
    raises when it cannot be reached.
    """
    return await _Run(archive, url, stream, now_ns, file_events, progress).run(until)


class _Run:
    def __init__(
        self, archive: Archive, url: str, stream: Stream, now_ns: int, file_events: int, progress: Progress
    ) -> None:
        self._archive = archive
        self._url = url
        self._stream = stream.name
        self._now_ns = now_ns
        self._file_events = file_events
        self._progress = progress
        self._created = ""
        self._day = ""
        self._lost: tuple[int, int] | None = None
        self._written: list[Manifest] = []

    async def run(self, until: str | None) -> Archived:
        began = time.monotonic()
        known = await chain(self._archive, self._stream)
        closed = min(_closed(self._now_ns), until or "9999-12-31")
        after, end, waiting = await self._look(known)
        self._day = known.day
        # Of today (or of a clock that is ahead a little): nothing is closed. Further ahead it is a clock gone wrong.
        if waiting and not closed < waiting <= _day(self._now_ns + 86_400 * _SECOND):
            self._lost = (known.last + 1, after) if known.last and after > known.last else None
            found = await day_boundaries(
                self._url,
                self._stream,
                after,
                closed,
                until=end,
                progress=lambda done, total: self._progress(f"{self._stream}: looking for midnights", done, total),
            )
            if found:
                await self._write(after, found)
        await self._sweep(known)
        written = self._written
        return Archived(
            self._stream,
            len(written),
            sum(one.count for one in written),
            sum(one.bytes for one in written),
            written[-1].last if written else known.last,
            written[-1].day if written else known.day,
            next((one.lost for one in written if one.lost), None),
            round(time.monotonic() - began, 3),
        )

    async def _look(self, known: Chain) -> tuple[int, int, str]:
        """(the sequence to begin behind, the end of the stream, the day of the next event or '' when there is none)."""
        log_now = await live_range(self._url, self._stream)
        self._created = log_now.created
        known.check(self._archive, log_now)
        after = max(known.last, log_now.first - 1)
        if after >= log_now.last:
            return after, log_now.last, ""
        # A message without a time of its own is looked at more closely by the cuts.
        reader = Replay(self._url, self._stream, after=after, until=after + 1)
        async with aclosing(reader.blocks()) as first:
            async for block in first:
                return after, log_now.last, day_of(block.payloads[0]).decode() or "0000-00-00"
        return after, log_now.last, ""

    async def _write(self, after: int, found: list[DayBoundary]) -> None:
        reader = Replay(self._url, self._stream, after=after, until=found[-1].last)
        writing: Writing | None = None
        position, first, days = after, after + 1, iter(found)
        cut = next(days)
        try:
            async with aclosing(reader.blocks()) as incoming:
                async for block in incoming:
                    self._follows(block, position)
                    position = block.sequences[-1]
                    while block.sequences:
                        writing = writing or Writing()
                        here = min(cut.last - block.sequences[0] + 1, self._file_events - writing.count)
                        part, block = _split(block, here)
                        # In a thread: meanwhile the next messages arrive.
                        await run_in_thread(writing.add, part)
                        full = writing.count >= self._file_events or writing.payload_bytes >= FILE_BYTES
                        if part.sequences[-1] == cut.last or full:
                            await self._finish(writing, cut.day, first, part.sequences[-1])
                            writing, first = None, part.sequences[-1] + 1
                            if part.sequences[-1] == cut.last:
                                cut = next(days, cut)
                    self._progress(f"{self._stream}: archiving", reader.done, reader.total)
        finally:
            if writing is not None:
                writing.abandon()
        if position != found[-1].last:
            raise OvertakenError(self._stream, position + 1, found[-1].last)

    def _follows(self, block: Block, position: int) -> None:
        first, last = block.sequences[0], block.sequences[-1]
        if first == position + 1 and last - first + 1 == len(block.sequences):
            return
        expected = position + 1
        for sequence in block.sequences:
            if sequence != expected:
                # The reader passes over it only when the stream's front has moved there.
                raise OvertakenError(self._stream, expected, sequence - 1)
            expected += 1

    async def _finish(self, writing: Writing, day: str, first: int, last: int) -> None:
        self._day = day = max(self._day, day)
        with await run_in_thread(writing.close) as spool:
            name = file_name(self._stream, day, first, last)
            manifest = Manifest(
                stream=self._stream,
                day=day,
                first=first,
                last=last,
                count=writing.count,
                digest=str(writing.digest),
                schema=VERSION,
                created=self._created,
                file=name,
                bytes=0,
                payload_bytes=writing.payload_bytes,
                archived_at=rfc3339(self._now_ns),
                lost=self._lost,
            )
            if not await self._archive.create(name, spool):
                try:
                    await self._verify(manifest)
                    log.info("archive.adopted", file=name, why="an interrupted run had written it whole")
                except DamagedError as error:
                    log.warning("archive.rewritten", file=name, why=str(error))
                    spool.seek(0)
                    await self._archive.replace(name, spool)
        await self._verify(manifest)
        size = (await self._archive.sizes(f"{self._stream}/{day}"))[name]
        await self._add(msgspec.structs.replace(manifest, bytes=size))

    async def _verify(self, manifest: Manifest) -> None:
        async with self._archive.opened(manifest.file) as file:
            await run_in_thread(_drain, file, manifest)

    async def _add(self, manifest: Manifest) -> None:
        if not await self._archive.create(manifest.name, msgspec.json.format(msgspec.json.encode(manifest))):
            other = msgspec.json.decode(await self._archive.read(manifest.name), type=Manifest)
            if not manifest.same(other):
                raise OverlappedError(
                    f"archive {self._archive.url}: another run archived {other.file} while this one wrote "
                    f"{manifest.file}; nothing is lost: run `vibe archive run` again, one at a time"
                )
            manifest = other
        self._lost = None
        self._written.append(manifest)

    async def _sweep(self, known: Chain) -> None:
        """Remove files of interrupted runs that the chain has passed: no run can add them to it any more."""
        await run_in_thread(self._archive.forget_torn, self._stream)
        if known.strays:
            now = await chain(self._archive, self._stream)
            for name in known.strays & now.strays:
                first = first_of(name)
                if first is not None and first <= now.last:
                    log.info("archive.removed", file=name, why="an interrupted run left it and its events are archived")
                    await self._archive.remove(name)


def _drain(file: Any, manifest: Manifest) -> None:
    for _ in blocks(file, manifest, 4096, everything=True):
        pass


def _split(block: Block, count: int) -> tuple[Block, Block]:
    if count >= len(block.sequences):
        return block, Block([], [], [])
    return (
        Block(block.sequences[:count], block.subjects[:count], block.payloads[:count]),
        Block(block.sequences[count:], block.subjects[count:], block.payloads[count:]),
    )


def _closed(now_ns: int) -> str:
    return _day(now_ns - (86_400 + SETTLED_SECONDS) * _SECOND)


def _day(at_ns: int) -> str:
    return rfc3339(at_ns)[:10]
