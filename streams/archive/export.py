"""Exports closed days: reads them from the stream, writes a file, reads it back, and then writes its manifest.

A run may be interrupted anywhere, even by kill -9, and repeated any number of times. A file with a manifest is never
written again. A file without one was left by an interrupted run: it is kept if it equals the stream, and replaced
otherwise.
"""

import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
import structlog

from streams.archive.arrow_rows import VERSION
from streams.archive.day_boundaries import DayBoundary, closed_days, day_of
from streams.archive.errors import DamagedError, OverlappedError, OvertakenError
from streams.archive.live_range import live_range
from streams.archive.manifest import Chain, Manifest, file_name, first_of, load_chain
from streams.archive.parquet_file import ParquetWriter, blocks
from streams.archive.run_in_thread import run_in_thread
from streams.archive.store import Archive
from streams.bulk_replay import Block, Replay
from streams.envelope import rfc3339
from streams.topology import Stream

log = structlog.get_logger()

FILE_EVENTS = 1_000_000
FILE_BYTES = 1024 * 1024 * 1024
"""A file ends after the block with which its payloads reach this size."""
_SECOND = 1_000_000_000
SETTLED_SECONDS = 300
"""A day counts as closed this long after its end, so that delayed appends have arrived."""

Progress = Callable[[str, int, int], None]
"""Called with (activity, done, total); the counts are events."""


class ExportResult(NamedTuple):
    """The result of one run for one stream; `last` and `day` are the end of the archive now."""

    stream: str
    files: int
    events: int
    bytes: int
    last: int
    day: str
    lost: tuple[int, int] | None
    seconds: float


async def export_stream(
    archive: Archive,
    url: str,
    stream: Stream,
    *,
    now_ns: int,
    until: str | None = None,
    file_events: int = FILE_EVENTS,
    progress: Progress = lambda what, done, total: None,
) -> ExportResult:
    """Export every closed day of a stream that is not archived yet, up to and including the day `until` (YYYY-MM-DD).

    `now_ns` determines which days are closed. Raises AnotherLogError, BrokenChainError, DataLossError (a hole in the
    stream, or a stream that ends before its archive), OvertakenError, DamagedError, ArchiveError, or what the log
    raises when it is unreachable.
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

    async def run(self, until: str | None) -> ExportResult:
        began = time.monotonic()
        known = await load_chain(self._archive, self._stream)
        closed = min(_last_closed_day(self._now_ns), until or "9999-12-31")
        after, end, next_day = await self._find_start(known)
        self._day = known.day
        # An event of today, or of tomorrow by a fast clock: nothing is closed. A later one comes from a wrong clock.
        if next_day and not closed < next_day <= _day(self._now_ns + 86_400 * _SECOND):
            self._lost = (known.last + 1, after) if known.last and after > known.last else None
            found = await closed_days(
                self._url,
                self._stream,
                after,
                closed,
                until=end,
                progress=lambda done, total: self._progress(f"{self._stream}: finding day boundaries", done, total),
            )
            if found:
                await self._write(after, found)
        await self._remove_leftovers(known)
        written = self._written
        return ExportResult(
            self._stream,
            len(written),
            sum(one.count for one in written),
            sum(one.bytes for one in written),
            written[-1].last if written else known.last,
            written[-1].day if written else known.day,
            next((one.lost for one in written if one.lost), None),
            round(time.monotonic() - began, 3),
        )

    async def _find_start(self, known: Chain) -> tuple[int, int, str]:
        """(the sequence to begin after, the end of the stream, the day of the next event or '' without one)."""
        log_now = await live_range(self._url, self._stream)
        self._created = log_now.created
        known.check(self._archive, log_now)
        after = max(known.last, log_now.first - 1)
        if after >= log_now.last:
            return after, log_now.last, ""
        # The day of a message without a time is determined by `closed_days`.
        reader = Replay(self._url, self._stream, after=after, until=after + 1)
        async with aclosing(reader.blocks()) as first:
            async for block in first:
                return after, log_now.last, day_of(block.payloads[0]).decode() or "0000-00-00"
        return after, log_now.last, ""

    async def _write(self, after: int, found: list[DayBoundary]) -> None:
        reader = Replay(self._url, self._stream, after=after, until=found[-1].last)
        writer: ParquetWriter | None = None
        position, first, days = after, after + 1, iter(found)
        boundary = next(days)
        try:
            async with aclosing(reader.blocks()) as incoming:
                async for block in incoming:
                    self._check_contiguous(block, position)
                    position = block.sequences[-1]
                    while block.sequences:
                        writer = writer or ParquetWriter()
                        here = min(boundary.last - block.sequences[0] + 1, self._file_events - writer.count)
                        part, block = _split(block, here)
                        # In a thread, so that the next messages arrive meanwhile.
                        await run_in_thread(writer.add, part)
                        full = writer.count >= self._file_events or writer.payload_bytes >= FILE_BYTES
                        if part.sequences[-1] == boundary.last or full:
                            await self._finish(writer, boundary.day, first, part.sequences[-1])
                            writer, first = None, part.sequences[-1] + 1
                            if part.sequences[-1] == boundary.last:
                                boundary = next(days, boundary)
                    self._progress(f"{self._stream}: archiving", reader.done, reader.total)
        finally:
            if writer is not None:
                writer.abandon()
        if position != found[-1].last:
            raise OvertakenError(self._stream, position + 1, found[-1].last)

    def _check_contiguous(self, block: Block, position: int) -> None:
        first, last = block.sequences[0], block.sequences[-1]
        if first == position + 1 and last - first + 1 == len(block.sequences):
            return
        expected = position + 1
        for sequence in block.sequences:
            if sequence != expected:
                # The reader skips sequences only when an age limit has removed them.
                raise OvertakenError(self._stream, expected, sequence - 1)
            expected += 1

    async def _finish(self, writer: ParquetWriter, day: str, first: int, last: int) -> None:
        self._day = day = max(self._day, day)
        with await run_in_thread(writer.close) as spool:
            name = file_name(self._stream, day, first, last)
            manifest = Manifest(
                stream=self._stream,
                day=day,
                first=first,
                last=last,
                count=writer.count,
                digest=str(writer.digest),
                schema=VERSION,
                created=self._created,
                file=name,
                bytes=0,
                payload_bytes=writer.payload_bytes,
                archived_at=rfc3339(self._now_ns),
                lost=self._lost,
            )
            if not await self._archive.create(name, spool):
                try:
                    await self._verify(manifest)
                    log.info("archive.adopted", file=name, why="an interrupted run had written the complete file")
                except DamagedError as error:
                    log.warning("archive.rewritten", file=name, why=str(error))
                    spool.seek(0)
                    await self._archive.replace(name, spool)
        await self._verify(manifest)
        size = (await self._archive.sizes(f"{self._stream}/{day}"))[name]
        await self._add(msgspec.structs.replace(manifest, bytes=size))

    async def _verify(self, manifest: Manifest) -> None:
        async with self._archive.opened(manifest.file) as file:
            await run_in_thread(_read_whole, file, manifest)

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

    async def _remove_leftovers(self, known: Chain) -> None:
        """Remove files of interrupted runs whose events are archived in other files: no run can add them to the
        chain."""
        await run_in_thread(self._archive.remove_partial_files, self._stream)
        if known.unlisted:
            now = await load_chain(self._archive, self._stream)
            for name in known.unlisted & now.unlisted:
                first = first_of(name)
                if first is not None and first <= now.last:
                    log.info("archive.removed", file=name, why="an interrupted run left it and its events are archived")
                    await self._archive.remove(name)


def _read_whole(file: Any, manifest: Manifest) -> None:
    for _ in blocks(file, manifest, 4096, everything=True):
        pass


def _split(block: Block, count: int) -> tuple[Block, Block]:
    if count >= len(block.sequences):
        return block, Block([], [], [])
    return (
        Block(block.sequences[:count], block.subjects[:count], block.payloads[:count]),
        Block(block.sequences[count:], block.subjects[count:], block.payloads[count:]),
    )


def _last_closed_day(now_ns: int) -> str:
    return _day(now_ns - (86_400 + SETTLED_SECONDS) * _SECOND)


def _day(at_ns: int) -> str:
    return rfc3339(at_ns)[:10]
