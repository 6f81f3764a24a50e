"""The parallel load: distributes history to bulk loaders until every position has reached its end.

History is split into chunks. This process and, for long histories, one more process per further core load chunks at
the same time. The chunks take effect in order, so a stored position always means: everything up to it is stored, and
nothing after it. After the loss of a server or a worker the load continues from the stored positions.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

import structlog

from projections.engine import positions
from projections.engine.bulk_load import BulkLoader, Chunk, Job, OnRead, OnSkipped, Turn
from projections.engine.errors import RETRIES, LostPositionError, RebuildError, is_transient
from projections.engine.load_worker import Worker
from projections.engine.sessions import LOAD_SECONDS, open_session

log = structlog.get_logger()

CHUNK = 32_768
_LENIENT_CHUNK = 16_384
LONG = 25_000
"""Histories with at least this many messages, of some events each, are loaded by several processes."""
_MOST_WORKERS = 4

ReportProgress = Callable[[str, int, int], None]
"""Called with (activity, done, total); the counts are events."""


def no_progress(activity: str, done: int, total: int) -> None:
    """Report nothing."""


class _Loader(Protocol):
    async def fill(self, chunk: Chunk, turn: Turn, on_read: OnRead) -> None: ...

    def close(self) -> None: ...


class ParallelLoad:
    """Loads the tables of a job. Their schemas hold the positions of every projection in every stream that it reads."""

    def __init__(
        self,
        job: Job,
        *,
        inside: bool = True,
        on_skipped: OnSkipped | None = None,
        chunk: int = CHUNK,
        long: int = LONG,
        progress: ReportProgress = no_progress,
    ) -> None:
        """`inside`: load long histories in this process too, which keeps its event loop busy. `on_skipped`: skip events
        that cannot be folded or stored instead of raising UnprocessableRowError, which is slower. `chunk`: messages per
        chunk. `long`: from how many messages on other processes are used."""
        self._job = job
        self._inside = inside
        self._on_skipped = on_skipped
        self._chunk = chunk
        self._long = long
        self._progress = progress
        self._activity = ""
        self._done = self._total = 0

    async def to(
        self, ends: Mapping[str, int], activity: str, *, only: Collection[str] = (), alone: bool = False
    ) -> None:
        """Load until every projection (of `only`, if given) has reached the end of each of its streams (`ends`).

        Retries with backoff while a server is unreachable. `alone`: load one chunk after the other, for tables that
        have their keys: of two chunks that insert the same key the first would wait for the second's transaction, and
        the second for its turn.
        """
        backoff = RETRIES.start()
        while True:
            try:
                return await self._go(ends, activity, only, alone)
            except Exception as error:
                if not is_transient(error) and not isinstance(error, LostPositionError):
                    raise
                pause = backoff.next_delay()
                log.warning("rebuild.retry", why=str(error) or type(error).__name__, in_seconds=pause)
                await asyncio.sleep(pause)

    async def positions(self) -> dict[tuple[str, str], int]:
        """The stored positions by (projection, stream)."""
        session = await open_session(self._job.dsn, LOAD_SECONDS)
        try:
            found: dict[tuple[str, str], int] = {}
            for schema in {location.schema for location in self._job.locations.values()}:
                for key, position in (await positions.positions(session, schema)).items():
                    found[key] = position.position
        finally:
            session.terminate()
        for projection in self._job.projections:
            for stream in projection.reads:
                if (projection.name, stream.name) not in found:
                    raise RebuildError(
                        f"{projection.name} has no position in {self._job.locations[projection.name].schema} any more: "
                        "the tables that were being built have been dropped; start again without --resume"
                    )
        return found

    async def _go(self, ends: Mapping[str, int], activity: str, only: Collection[str], alone: bool) -> None:
        reached = {key: at for key, at in (await self.positions()).items() if not only or key[0] in only}
        plans = {
            stream: wanted
            for stream in dict.fromkeys(stream.name for each in self._job.projections for stream in each.reads)
            if (wanted := {name: at for (name, of), at in reached.items() if of == stream and at < ends.get(stream, 0)})
        }
        self._activity, self._done = activity, 0
        self._total = sum(ends[stream] - min(wanted.values()) for stream, wanted in plans.items())
        if not plans:
            return
        self._progress(activity, 0, self._total)
        loaders = self._start_loaders(alone)
        try:
            for stream, wanted in plans.items():
                await self._stream(stream, wanted, ends[stream], loaders)
        finally:
            for loader in loaders:
                loader.cancel()
            for result in await asyncio.gather(*loaders, return_exceptions=True):
                if not isinstance(result, BaseException):
                    result.close()

    def _start_loaders(self, alone: bool) -> list[asyncio.Task[_Loader]]:
        """The loaders, being started."""
        pickled = self._job.pickled() if self._total >= self._long and self._on_skipped is None else None
        if pickled is None:
            return [asyncio.create_task(self._loader_here())]
        cores = min(os.cpu_count() or 1, _MOST_WORKERS)
        outside = 1 if alone else max(1, cores - 1)
        made: list[asyncio.Task[_Loader]] = [asyncio.create_task(self._loader_process(pickled)) for _ in range(outside)]
        return [asyncio.create_task(self._loader_here()), *made] if self._inside and not alone else made

    async def _loader_here(self) -> _Loader:
        return await BulkLoader(self._job).open()

    async def _loader_process(self, pickled: bytes) -> _Loader:
        return await Worker(pickled).open()

    async def _stream(
        self, stream: str, wanted: Mapping[str, int], end: int, loaders: Sequence[asyncio.Task[_Loader]]
    ) -> None:
        first = min(wanted.values())
        size = _LENIENT_CHUNK if self._on_skipped is not None else self._chunk
        # The same number of chunks for each loader, so that they end together.
        rounds = -(-(end - first) // (size * len(loaders)))
        size = -(-(end - first) // (rounds * len(loaders)))
        chunks = deque(
            Chunk(stream, after, until, {name: max(at, after) for name, at in wanted.items() if at < until})
            for after in range(first, end, size)
            if (until := min(after + size, end))
        )
        turns = _Turns()
        works = [asyncio.create_task(self._work(loader, chunks, turns)) for loader in loaders]
        try:
            await asyncio.gather(*works)
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def _work(self, starting: asyncio.Task[_Loader], chunks: deque[Chunk], turns: _Turns) -> None:
        loader = await asyncio.shield(starting)
        while chunks:
            chunk = chunks.popleft()
            if self._on_skipped is not None:
                assert isinstance(loader, BulkLoader)
                await loader.fill_leniently(chunk, self._on_skipped, self._count)
                continue
            turn, done = turns.next()
            await loader.fill(chunk, turn, self._count)
            done()

    def _count(self, events: int) -> None:
        self._done += events
        self._progress(self._activity, min(self._done, self._total), self._total)


class _Turns:
    """Hands out turns, each of which begins when the one before it is over."""

    def __init__(self) -> None:
        self._last: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last.set_result(None)

    def next(self) -> tuple[Callable[[], Awaitable[None]], Callable[[], None]]:
        """(wait for this turn, end it)."""
        before, mine = self._last, asyncio.get_running_loop().create_future()
        self._last = mine

        async def wait() -> None:
            await asyncio.shield(before)

        return wait, lambda: mine.set_result(None)
