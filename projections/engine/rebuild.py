"""Rebuild: a read model built anew from sequence 1 beside the live one, caught up, and swapped in.

The live tables are not touched before the swap, and the live runner goes on writing them; after it, it finds its
place gone and goes on with the new ones. What was built before an interruption stays, and `resume` goes on from there.
Several projections are built from one read of each stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import structlog

from projections.engine import metrics, positions, schemas
from projections.engine.bulk_load import Refuse
from projections.engine.errors import LostPositionError, RebuildError, passing
from projections.engine.history_source import History, check_front, check_whole, histories
from projections.engine.parallel_load import CHUNK, LONG, Watch, unwatched
from projections.engine.projection import Projection
from projections.engine.schemas import Place
from projections.engine.staging_tables import StagingTables
from projections.engine.status import ProjectionStatus, projection_statuses
from projections.engine.swap import BehindError, drop_generation, old_generations, swap
from streams.connection import Connection, connect
from streams.envelope import Codec

log = structlog.get_logger()

_BUILD_LOCK = 0x76696263
_LOCK_SECONDS = 3.0
"""How long Postgres may take to notice that the last one who rebuilt is gone."""
_NEAR = 20_000
"""So close to the log's end the rest is read when it is time to swap."""


class Rebuilt(NamedTuple):
    """What was swapped in: `events` read in this run, `refused` passed over."""

    projection: str
    version: int
    generation: int
    events: int
    seconds: float
    refused: int


async def rebuild(
    nats_url: str,
    dsn: str,
    codec: Codec,
    projections: Sequence[Projection],
    *,
    resume: bool = False,
    inside: bool = True,
    refuse: Refuse | None = None,
    watch: Watch = unwatched,
    chunk: int = CHUNK,
    long: int = LONG,
    archive: str | None = None,
    cold: bool = False,
    shorten: bool = False,
) -> list[Rebuilt]:
    """Build the projections from the whole history and swap each in. A lost server is waited for.

    With `resume`, what an interrupted rebuild has built is gone on with.
    `archive` is where closed days are: what a stream does not hold any more is read from there (with `cold`, whatever
    is there), and goes over to the stream without a gap. When neither has the beginning, a read model that had rows
    may lack some afterwards: RebuildError, unless `shorten`.
    `refuse` gets what cannot be folded or stored; without it such an event is a PoisonError. Also raises RebuildError
    and, for a damaged log, DataLossError. `inside`, `chunk`, `long`: see Build.
    """
    pause, begun, totals = 0.2, time.perf_counter(), _Totals(refuse)
    done: list[Rebuilt] = []
    left = {projection.name: projection for projection in projections}
    while True:
        try:
            async with _session(dsn) as session:
                connection = await connect(nats_url, "vibe rebuild")
                try:
                    attempt = _Attempt(nats_url, dsn, codec, connection, session, watch)
                    attempt.how = {"inside": inside, "chunk": chunk, "long": long, "refuse": totals.refuse}
                    attempt.archive, attempt.cold, attempt.shorten = archive, cold, shorten
                    async for standing, generation, events in attempt.run(list(left.values()), resume):
                        name = standing.name
                        del left[name]
                        seconds = time.perf_counter() - begun
                        version = standing.projection.version
                        done.append(Rebuilt(name, version, generation, events, seconds, totals.of(name)))
                    return done
                finally:
                    await connection.close()
        except Exception as error:
            if not passing(error) and not isinstance(error, LostPositionError):
                raise
            resume = True
            log.warning("rebuild.waits", why=str(error) or type(error).__name__, in_seconds=pause)
            watch(f"waiting: {error or type(error).__name__}", 0, 0)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)


async def begun(dsn: str, projections: Sequence[Projection]) -> list[Projection]:
    """Those that an interrupted rebuild has left something of."""
    async with _session(dsn) as session:
        stored = await positions.positions(session, await schemas.live_schema(session))
        found = []
        for projection in projections:
            live = max(
                (position.generation for (of, _), position in stored.items() if of == projection.name), default=0
            )
            if await positions.positions(session, schemas.build_schema(projection.name, live + 1)):
                found.append(projection)
        return found


class _Totals:
    """Counts what is refused, if anything may be."""

    def __init__(self, refuse: Refuse | None) -> None:
        self._counts: dict[str, int] = {}
        self._tell = refuse
        self.refuse: Refuse | None = self._count if refuse is not None else None

    def of(self, name: str) -> int:
        return self._counts.get(name, 0) + self._counts.get("", 0)

    async def _count(self, projection: Projection | None, event: Any, why: str) -> None:
        assert self._tell is not None
        name = projection.name if projection is not None else ""
        self._counts[name] = self._counts.get(name, 0) + 1
        await self._tell(projection, event, why)


class _Attempt:
    """One go at it, on a session whose locks keep other rebuilds of the same projections away."""

    def __init__(
        self,
        nats_url: str,
        dsn: str,
        codec: Codec,
        connection: Connection,
        session: asyncpg.Connection[Any],
        watch: Watch,
    ) -> None:
        self._nats_url = nats_url
        self._dsn = dsn
        self._codec = codec
        self._connection = connection
        self._session = session
        self._watch = watch
        self.how: dict[str, Any] = {}
        self.archive: str | None = None
        self.cold = self.shorten = False
        self._history: dict[str, History] = {}

    async def run(
        self, projections: Sequence[Projection], resume: bool
    ) -> AsyncIterator[tuple[ProjectionStatus, int, int]]:
        """Yields (what was replaced, its new generation, events read) after each swap."""
        session = self._session
        schema = await schemas.live_schema(session)
        await positions.prepare(session, schema)
        writer = await schemas.make_writer(session)
        await self._lock(projections)
        stands = await projection_statuses(self._connection, session, projections)
        await self._find_history(stands)
        generations = {each.name: await self._generation(each) for each in stands}
        places = {name: Place(*[schemas.build_schema(name, number)] * 2) for name, number in generations.items()}
        for standing in stands:
            await self._sweep(standing, generations[standing.name], resume)
        construction = StagingTables(
            self._nats_url,
            self._dsn,
            self._codec,
            stands,
            places,
            generations,
            watch=self._watch,
            history=self._history,
            **self.how,
        )
        before = await construction.prepare(session, writer=writer, resume=resume)
        await self._fill(construction)
        await construction.finish()
        await self._fill(construction)
        events = {name: at - before[name] for name, at in _sums(await construction.positions()).items()}
        for standing in stands:
            await self._swap(construction, standing, generations[standing.name])
            construction.forget(standing.name)
            metrics.REBUILDS.labels(standing.name, "swapped").inc()
            yield standing, generations[standing.name], events[standing.name]
            await drop_generation(session, standing.name, standing.generation)

    async def _find_history(self, stands: Sequence[ProjectionStatus]) -> None:
        """Where it is read from. RebuildError when rows would be lost and may not be."""
        extents = {stream: extent for standing in stands for stream, extent in standing.extents.items()}
        self._history = await histories(self._nats_url, self.archive, extents, cold=self.cold)
        for standing in stands:
            if not (standing.absent or standing.untouched):
                check_whole(self._history, standing.name, standing.extents, shorten=self.shorten)

    async def _lock(self, projections: Sequence[Projection]) -> None:
        patient_until = time.monotonic() + _LOCK_SECONDS
        for projection in sorted(projections, key=lambda each: each.name):
            while not await self._session.fetchval(
                "SELECT pg_try_advisory_lock($1, hashtext($2))", _BUILD_LOCK, projection.name
            ):
                if time.monotonic() > patient_until:
                    raise RebuildError(f"{projection.name} is being rebuilt already; wait for it, or stop it first")
                await asyncio.sleep(0.1)

    async def _generation(self, standing: ProjectionStatus) -> int:
        used = await self._used(standing)
        return max(standing.generation, *used) + 1 if used else standing.generation + 1

    async def _used(self, standing: ProjectionStatus) -> list[int]:
        """The generations whose schemas hold partitions of the live tables, whatever the positions say."""
        rows = await self._session.fetch(
            "SELECT DISTINCT n.nspname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname ~ $1 "
            "AND i.inhparent = ANY (SELECT to_regclass(name) FROM unnest($2::text[]) name)",
            f"^{schemas.build_schema(standing.name, 0)[:-1]}[0-9]+$",
            [f"{standing.schema}.{table.name}" for table in standing.projection.tables],
        )
        return [int(row["nspname"].rpartition("_")[2]) for row in rows]

    async def _sweep(self, standing: ProjectionStatus, generation: int, resume: bool) -> None:
        """Remove what earlier rebuilds left behind."""
        kept = [standing.generation, *await self._used(standing)]
        if resume:
            kept.append(generation)
        for number in await old_generations(self._session, standing.name, kept):
            await drop_generation(self._session, standing.name, number)

    async def _fill(self, construction: StagingTables) -> None:
        """Up to the log's end, until little is left."""
        what = "reading"
        while True:
            found = await projection_statuses(self._connection, self._session, construction.projections)
            ends = {stream: extent.last for each in found for stream, extent in each.extents.items()}
            await construction.fill(ends, what)
            what = "catching up"
            found = await projection_statuses(self._connection, self._session, construction.projections)
            ends = {stream: extent.last for each in found for stream, extent in each.extents.items()}
            if not self.shorten:
                check_front(self._history, {name: extent for each in found for name, extent in each.extents.items()})
            if construction.reaching(await construction.positions(), ends) <= _NEAR:
                return

    async def _swap(self, construction: StagingTables, standing: ProjectionStatus, generation: int) -> None:
        self._watch("swapping", 0, 0)
        while True:
            try:
                return await swap(
                    self._session,
                    construction,
                    standing,
                    generation,
                    refuse=self.how["refuse"],
                    watch=self._watch,
                )
            except BehindError:
                await self._fill(construction)


def _sums(positions: dict[tuple[str, str], int]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for (name, _), at in positions.items():
        sums[name] = sums.get(name, 0) + at
    return sums


@asynccontextmanager
async def _session(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    session: asyncpg.Connection[Any] = await asyncpg.connect(dsn, timeout=10)
    try:
        yield session
        await session.close(timeout=5)  # its locks are free when it is gone, not some time later
    finally:
        session.terminate()
