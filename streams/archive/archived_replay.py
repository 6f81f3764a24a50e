"""Replays a stream from its archive, then from the log: one history without a gap or an overlap.

    async for batch in replay(Archive(".vibe/archive"), url, "EXECUTIONS"):
        for stored in batch: ...

Archived events are read from the archive, the rest with `bulk_replay`. Sequences must be contiguous over both: missing
ones raise DataLossError, which names them. Events that an age limit removed before the first export do not count (the
history begins after them); with `across`, losses that a manifest records do not either.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from streams.archive.live_range import live_range
from streams.archive.manifest import Chain, Manifest, load_chain
from streams.archive.parquet_file import blocks as file_blocks
from streams.archive.run_in_thread import run_in_thread
from streams.archive.store import Archive
from streams.bulk_replay import Block, Replay
from streams.errors import DataLossError
from streams.reader import Stored


async def replay(
    archive: Archive,
    url: str,
    stream: str,
    first: int = 1,
    until: int | None = None,
    *,
    block: int = 4096,
    across: bool = False,
) -> AsyncGenerator[list[Stored], None]:
    """Every message from sequence `first` up to and including `until` (default: the current end), in lists, in order.

    `url` is that of the log. Raises AnotherLogError, BrokenChainError, DamagedError, ArchiveError, DataLossError, or
    what the log raises when it is unreachable. To leave it early, use `contextlib.aclosing`.
    """
    reader = ArchivedReplay(archive, url, stream, first=first, until=until, block=block, across=across)
    async with aclosing(reader.blocks()) as incoming:
        async for part in incoming:
            subjects = [subject.decode() for subject in part.subjects]
            yield list(map(Stored, part.sequences, subjects, part.payloads))


class ArchivedReplay:
    """One replay, to be iterated once: `async for block in ArchivedReplay(...).blocks()`; the blocks are those of
    `streams.bulk_replay`.

    `total` is the number of messages to read at the start, `done` how many have been yielded, `archived` how many of
    those came from the archive, `position` the sequence of the last one.
    """

    def __init__(
        self,
        archive: Archive,
        url: str,
        stream: str,
        *,
        first: int = 1,
        until: int | None = None,
        block: int = 4096,
        across: bool = False,
    ) -> None:
        """`across`: skip sequences that a manifest records as lost to an age limit."""
        self._archive = archive
        self._url = url
        self._stream = stream
        self._until = until
        self._block = block
        self._across = across
        self.position = first - 1
        self.total = 0
        self.done = 0
        self.archived = 0

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """The blocks. See `replay` for what it raises."""
        known = await load_chain(self._archive, self._stream)
        now = await live_range(self._url, self._stream)
        known.check(self._archive, now)
        end = min(now.last, self._until if self._until is not None else now.last)
        begins = known.links[0].first if known.links else now.first
        self.position = max(self.position, begins - 1)
        if self.position >= end:
            return
        if self._skip_lost(known, end):
            return
        lost = sum(last - first + 1 for first, last in known.lost if first > self.position and last <= end)
        self.total = max(0, end - self.position - lost)
        links = [link for link in known.links if link.last > self.position and link.first <= end]
        async with aclosing(self._archived_blocks(links, end)) as blocks:
            async for block in blocks:
                self._accept(block)
                self.archived = self.done
                yield block
        if self.position >= end or self._skip_lost(known, end):
            return
        reader = Replay(self._url, self._stream, after=self.position, until=end, block=self._block)
        async with aclosing(reader.blocks()) as stored:
            async for block in stored:
                # Without an archive an age limit may remove events ahead of the reader, as in any replay.
                if known.links:
                    self._check(block.sequences[0])
                self._accept(block)
                yield block
        if self.position < end and known.links:
            raise DataLossError(self._stream, self.position + 1, end)

    async def _archived_blocks(self, links: list[Manifest], end: int) -> AsyncGenerator[Block, None]:
        for link in links:
            if link.lost is not None and self._across and link.lost[0] <= self.position + 1 <= link.lost[1]:
                self.position = link.lost[1]
            self._check(link.first if link.first > self.position else self.position + 1)
            async with self._archive.opened(link.file) as file:
                found = file_blocks(file, link, self._block, after=self.position)
                # The next block is decoded in a thread while the caller processes this one.
                ahead = asyncio.create_task(run_in_thread(next, found, None))
                try:
                    while (block := await ahead) is not None:
                        ahead = asyncio.create_task(run_in_thread(next, found, None))
                        if block.sequences[-1] > end:
                            keep = end - block.sequences[0] + 1
                            block = Block(block.sequences[:keep], block.subjects[:keep], block.payloads[:keep])
                        yield block
                        if self.position >= end:
                            return
                finally:
                    await asyncio.gather(ahead, return_exceptions=True)

    def _skip_lost(self, known: Chain, end: int) -> bool:
        """Skip recorded losses that come next, with `across`; returns whether that reaches the end."""
        for first, last in known.lost if self._across else ():
            if first <= self.position + 1 <= last:
                self.position = min(last, end)
        return self.position >= end

    def _check(self, first: int) -> None:
        if first != self.position + 1:
            raise DataLossError(self._stream, self.position + 1, first - 1)

    def _accept(self, block: Block) -> None:
        self.position = block.sequences[-1]
        self.done += len(block.sequences)
