"""Building read models from history: who works on which piece, until every position is where it is wanted.

History is cut into chunks. This process and, for long histories, one more per further core work on chunks at the
same time; each chunk takes effect in its turn, so the stored position always means: everything up to here, nothing
behind. What is lost on the way (a server, a worker) is done again from there.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

import asyncpg
import structlog

from projections.engine import positions
from projections.engine.bulk_load import BulkLoader, Chunk, Job, Refuse, Tell, Turn
from projections.engine.errors import LostPositionError, RebuildError, passing
from projections.engine.load_worker import Worker

log = structlog.get_logger()

CHUNK = 131_072
_LENIENT_CHUNK = 16_384
LONG = 100_000
"""From so many events on, other processes help."""
_MOST_WORKERS = 4

Watch = Callable[[str, int, int], None]
"""Told (what is being done, done, total) as it goes; the counts are events."""


def unwatched(what: str, done: int, total: int) -> None:
    """Nobody looks."""


class _Fills(Protocol):
    async def fill(self, chunk: Chunk, turn: Turn, tell: Tell) -> None: ...

    def close(self) -> None: ...


class ParallelLoad:
    """Fills the tables of a job. Their schemas hold positions of every projection in every stream it reads."""

    def __init__(
        self,
        job: Job,
        *,
        inside: bool = True,
        refuse: Refuse | None = None,
        chunk: int = CHUNK,
        long: int = LONG,
        watch: Watch = unwatched,
    ) -> None:
        """`inside`: fold long histories in this process too, which keeps its loop busy. `refuse`: pass over what
        cannot be taken, slowly, rather than raise PoisonError."""
        self._job = job
        self._inside = inside
        self._refuse = refuse
        self._chunk = chunk
        self._long = long
        self._watch = watch
        self._what = ""
        self._done = self._total = 0

    async def to(self, ends: Mapping[str, int], what: str, *, only: Collection[str] = (), alone: bool = False) -> None:
        """Until every projection (of `only`, when given) stands at the end given for each of its streams.

        A lost server is waited for. `alone`: one chunk after the other, for tables that have their keys: of two chunks
        that insert the same key the first would wait for the second in Postgres, and the second for its turn.
        """
        pause = 0.2
        while True:
            try:
                return await self._go(ends, what, only, alone)
            except Exception as error:
                if not passing(error) and not isinstance(error, LostPositionError):
                    raise
                log.warning("rebuild.waits", why=str(error) or type(error).__name__, in_seconds=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, 5.0)

    async def positions(self) -> dict[tuple[str, str], int]:
        """Where it stands, by (projection, stream)."""
        session = await asyncpg.connect(self._job.dsn, timeout=10)
        try:
            found: dict[tuple[str, str], int] = {}
            for schema in {place.schema for place in self._job.places.values()}:
                for place, position in (await positions.positions(session, schema)).items():
                    found[place] = position.position
        finally:
            session.terminate()
        for projection in self._job.projections:
            for stream in projection.reads:
                if (projection.name, stream.name) not in found:
                    raise RebuildError(
                        f"{projection.name} has no position in {self._job.places[projection.name].schema} any more: "
                        "somebody dropped what was being built; begin again without --resume"
                    )
        return found

    async def _go(self, ends: Mapping[str, int], what: str, only: Collection[str], alone: bool) -> None:
        stands = {place: at for place, at in (await self.positions()).items() if not only or place[0] in only}
        plans = {
            stream: wanted
            for stream in dict.fromkeys(stream.name for each in self._job.projections for stream in each.reads)
            if (wanted := {name: at for (name, of), at in stands.items() if of == stream and at < ends.get(stream, 0)})
        }
        self._what, self._done = what, 0
        self._total = sum(ends[stream] - min(wanted.values()) for stream, wanted in plans.items())
        if not plans:
            return
        self._watch(what, 0, self._total)
        helpers = self._helpers(alone)
        try:
            for stream, wanted in plans.items():
                await self._stream(stream, wanted, ends[stream], helpers)
        finally:
            for helper in helpers:
                helper.cancel()
            for result in await asyncio.gather(*helpers, return_exceptions=True):
                if not isinstance(result, BaseException):
                    result.close()

    def _helpers(self, alone: bool) -> list[asyncio.Task[_Fills]]:
        """Those who fill, being started."""
        pickled = self._job.pickled() if self._total >= self._long and self._refuse is None else None
        if pickled is None:
            return [asyncio.create_task(self._inner())]
        cores = min(os.cpu_count() or 1, _MOST_WORKERS)
        outside = 1 if alone else max(1, cores - 1)
        made: list[asyncio.Task[_Fills]] = [asyncio.create_task(self._outer(pickled)) for _ in range(outside)]
        return [asyncio.create_task(self._inner()), *made] if self._inside and not alone else made

    async def _inner(self) -> _Fills:
        return await BulkLoader(self._job).open()

    async def _outer(self, pickled: bytes) -> _Fills:
        return await Worker(pickled).open()

    async def _stream(
        self, stream: str, wanted: Mapping[str, int], end: int, helpers: Sequence[asyncio.Task[_Fills]]
    ) -> None:
        first = min(wanted.values())
        size = _LENIENT_CHUNK if self._refuse is not None else self._chunk
        # As many for each who fills, so that they end together.
        rounds = -(-(end - first) // (size * len(helpers)))
        size = -(-(end - first) // (rounds * len(helpers)))
        chunks = deque(
            Chunk(stream, after, until, {name: max(at, after) for name, at in wanted.items() if at < until})
            for after in range(first, end, size)
            if (until := min(after + size, end))
        )
        turns = _Turns()
        works = [asyncio.create_task(self._work(helper, chunks, turns)) for helper in helpers]
        try:
            await asyncio.gather(*works)
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def _work(self, helper: asyncio.Task[_Fills], chunks: deque[Chunk], turns: _Turns) -> None:
        filler = await asyncio.shield(helper)
        while chunks:
            chunk = chunks.popleft()
            if self._refuse is not None:
                assert isinstance(filler, BulkLoader)
                await filler.fill_leniently(chunk, self._refuse, self._tell)
                continue
            turn, done = turns.next()
            await filler.fill(chunk, turn, self._tell)
            done()

    def _tell(self, events: int) -> None:
        self._done += events
        self._watch(self._what, min(self._done, self._total), self._total)


class _Turns:
    """One after the other, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._last: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last.set_result(None)

    def next(self) -> tuple[Callable[[], Awaitable[None]], Callable[[], None]]:
        """(wait for the turn, give it on)."""
        before, mine = self._last, asyncio.get_running_loop().create_future()
        self._last = mine

        async def wait() -> None:
            await asyncio.shield(before)

        return wait, lambda: mine.set_result(None)
