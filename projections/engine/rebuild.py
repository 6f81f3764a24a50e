"""Rebuild: build read models from sequence 1 in staging tables, catch up with the log, and swap them in.

The live tables do not change before the swap, and the engine goes on writing them; after it the engine finds its
positions moved, loads them again and continues with the new tables. Staging tables survive an interruption, and
`resume` continues from them. Several projections are built from one read of each stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import structlog

from projections.engine import metrics, positions, schemas
from projections.engine.bulk_load import OnSkipped
from projections.engine.errors import RETRIES, LostPositionError, RebuildError, is_transient
from projections.engine.history_source import HistorySource, check_complete, check_not_truncated, find_sources
from projections.engine.parallel_load import CHUNK, LONG, ReportProgress, no_progress
from projections.engine.projection import Projection
from projections.engine.schemas import Location
from projections.engine.sessions import INDEX_SECONDS, open_session
from projections.engine.staging_tables import StagingTables
from projections.engine.status import Extent, ProjectionStatus, projection_statuses
from projections.engine.swap import READER_SECONDS, BehindError, drop_generation, old_generations, swap
from streams.connection import Connection, connect
from streams.envelope import Codec

log = structlog.get_logger()

_BUILD_LOCK = 0x76696263
LOCK_SECONDS = 3.0
"""How long Postgres may take to release the lock of a rebuild whose process has died."""
_NEAR = 20_000
"""With at most this many events left, the rest is read during the swap."""


class Rebuilt(NamedTuple):
    """A finished rebuild: `events` read by this call, `refused` of them skipped."""

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
    on_skipped: OnSkipped | None = None,
    progress: ReportProgress = no_progress,
    chunk: int = CHUNK,
    long: int = LONG,
    archive: str | None = None,
    prefer_archive: bool = False,
    shorten: bool = False,
    lock_seconds: float = LOCK_SECONDS,
    reader_seconds: float = READER_SECONDS,
) -> list[Rebuilt]:
    """Build the projections from the whole history and swap each in; retries while a server is unreachable.

    `resume`: continue with the staging tables of an interrupted rebuild.
    `archive`: URL or folder of the archive. Events that a stream no longer holds are read from there (with
    `prefer_archive`, all archived events), the rest from the stream, without a gap. When neither has the beginning of
    a stream, a read model with rows may lose some: RebuildError, unless `shorten`.
    `on_skipped` is called for each event that cannot be folded or stored; without it such an event raises
    UnprocessableRowError. `lock_seconds`: how long the lock of another rebuild is waited for; `reader_seconds`: how
    long transactions of readers are waited for before a swap. Also raises RebuildError and, for a damaged log,
    DataLossError. `inside`, `chunk`, `long`: see `ParallelLoad`.
    """
    backoff, started, totals = RETRIES.start(), time.perf_counter(), _Totals(on_skipped)
    done: list[Rebuilt] = []
    left = {projection.name: projection for projection in projections}
    while True:
        try:
            async with _session(dsn) as session:
                connection = await connect(nats_url, "vibe rebuild")
                try:
                    attempt = _Attempt(nats_url, dsn, codec, connection, session, progress)
                    attempt.options = {"inside": inside, "chunk": chunk, "long": long, "on_skipped": totals.on_skipped}
                    attempt.lock_seconds, attempt.reader_seconds = lock_seconds, reader_seconds
                    attempt.archive, attempt.prefer_archive, attempt.shorten = archive, prefer_archive, shorten
                    async for status, generation, events in attempt.run(list(left.values()), resume):
                        name = status.name
                        del left[name]
                        seconds = time.perf_counter() - started
                        version = status.projection.version
                        done.append(Rebuilt(name, version, generation, events, seconds, totals.of(name)))
                    return done
                finally:
                    await connection.close()
        except Exception as error:
            if not is_transient(error) and not isinstance(error, LostPositionError):
                raise
            resume = True
            pause = backoff.next_delay()
            log.warning("rebuild.retry", why=str(error) or type(error).__name__, in_seconds=pause)
            progress(f"waiting: {error or type(error).__name__}", 0, 0)
            await asyncio.sleep(pause)


async def interrupted(dsn: str, projections: Sequence[Projection]) -> list[Projection]:
    """The projections for which an interrupted rebuild has left staging tables."""
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
    """Counts skipped events and passes them on, if a callback for them is given."""

    def __init__(self, on_skipped: OnSkipped | None) -> None:
        self._counts: dict[str, int] = {}
        self._callback = on_skipped
        self.on_skipped: OnSkipped | None = self._count if on_skipped is not None else None

    def of(self, name: str) -> int:
        return self._counts.get(name, 0) + self._counts.get("", 0)

    async def _count(self, projection: Projection | None, event: Any, why: str) -> None:
        assert self._callback is not None
        name = projection.name if projection is not None else ""
        self._counts[name] = self._counts.get(name, 0) + 1
        await self._callback(projection, event, why)


class _Attempt:
    """One attempt, on a session whose locks exclude other rebuilds of the same projections."""

    def __init__(
        self,
        nats_url: str,
        dsn: str,
        codec: Codec,
        connection: Connection,
        session: asyncpg.Connection[Any],
        progress: ReportProgress,
    ) -> None:
        self._nats_url = nats_url
        self._dsn = dsn
        self._codec = codec
        self._connection = connection
        self._session = session
        self._progress = progress
        self.options: dict[str, Any] = {}
        self.archive: str | None = None
        self.prefer_archive = self.shorten = False
        self.lock_seconds, self.reader_seconds = LOCK_SECONDS, READER_SECONDS
        self._sources: dict[str, HistorySource] = {}

    async def run(
        self, projections: Sequence[Projection], resume: bool
    ) -> AsyncIterator[tuple[ProjectionStatus, int, int]]:
        """Yields (status of the replaced read model, new generation, events read) after each swap."""
        session = self._session
        schema = await schemas.live_schema(session)
        await positions.prepare(session, schema)
        writer = await schemas.make_writer(session)
        await self._lock(projections)
        statuses = await projection_statuses(self._connection, session, projections)
        await self._find_sources(statuses)
        generations = {each.name: await self._generation(each) for each in statuses}
        locations = {name: Location(*[schemas.build_schema(name, number)] * 2) for name, number in generations.items()}
        for status in statuses:
            await self._drop_leftovers(status, generations[status.name], resume)
        staging = StagingTables(
            self._nats_url,
            self._dsn,
            self._codec,
            statuses,
            locations,
            generations,
            progress=self._progress,
            sources=self._sources,
            **self.options,
        )
        before = await staging.prepare(session, writer=writer, resume=resume)
        await self._fill(staging)
        await staging.finish()
        await self._fill(staging)
        events = {name: at - before[name] for name, at in _sums(await staging.positions()).items()}
        for status in statuses:
            await self._swap(staging, status, generations[status.name])
            staging.forget(status.name)
            metrics.REBUILDS.labels(status.name, "swapped").inc()
            yield status, generations[status.name], events[status.name]
            await drop_generation(session, status.name, status.generation)

    async def _find_sources(self, statuses: Sequence[ProjectionStatus]) -> None:
        """Find where history is read from. Raises RebuildError when rows would be lost without `shorten`."""
        extents = {stream: extent for status in statuses for stream, extent in status.extents.items()}
        self._sources = await find_sources(self._nats_url, self.archive, extents, prefer_archive=self.prefer_archive)
        for status in statuses:
            if not (status.absent or status.unread):
                check_complete(self._sources, status.name, status.extents, shorten=self.shorten)

    async def _lock(self, projections: Sequence[Projection]) -> None:
        deadline = time.monotonic() + self.lock_seconds
        for projection in sorted(projections, key=lambda each: each.name):
            while not await self._session.fetchval(
                "SELECT pg_try_advisory_lock($1, hashtext($2))", _BUILD_LOCK, projection.name
            ):
                if time.monotonic() > deadline:
                    raise RebuildError(f"{projection.name} is being rebuilt already; wait for it, or stop it first")
                await asyncio.sleep(0.1)

    async def _generation(self, status: ProjectionStatus) -> int:
        used = await self._generations_in_use(status)
        return max(status.generation, *used) + 1 if used else status.generation + 1

    async def _generations_in_use(self, status: ProjectionStatus) -> list[int]:
        """The generations whose schemas hold partitions of the live tables, whatever the stored positions are."""
        rows = await self._session.fetch(
            "SELECT DISTINCT n.nspname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname ~ $1 "
            "AND i.inhparent = ANY (SELECT to_regclass(name) FROM unnest($2::text[]) name)",
            f"^{schemas.build_schema(status.name, 0)[:-1]}[0-9]+$",
            [f"{status.schema}.{table.name}" for table in status.projection.tables],
        )
        return [int(row["nspname"].rpartition("_")[2]) for row in rows]

    async def _drop_leftovers(self, status: ProjectionStatus, generation: int, resume: bool) -> None:
        """Drop what earlier rebuilds left; with `resume`, keep the staging tables."""
        kept = [status.generation, *await self._generations_in_use(status)]
        if resume:
            kept.append(generation)
        for number in await old_generations(self._session, status.name, kept):
            await drop_generation(self._session, status.name, number)

    async def _fill(self, staging: StagingTables) -> None:
        """Load up to the end of the log, until few events are left."""
        activity = "reading"
        while True:
            await staging.fill(_ends(await self._extents(staging)), activity)
            activity = "catching up"
            extents = await self._extents(staging)
            if not self.shorten:
                check_not_truncated(self._sources, extents)
            if staging.remaining(await staging.positions(), _ends(extents)) <= _NEAR:
                return

    async def _extents(self, staging: StagingTables) -> dict[str, Extent]:
        found = await projection_statuses(self._connection, self._session, staging.projections)
        return {stream: extent for each in found for stream, extent in each.extents.items()}

    async def _swap(self, staging: StagingTables, status: ProjectionStatus, generation: int) -> None:
        self._progress("swapping", 0, 0)
        while True:
            try:
                return await swap(
                    self._session,
                    staging,
                    status,
                    generation,
                    on_skipped=self.options["on_skipped"],
                    progress=self._progress,
                    reader_seconds=self.reader_seconds,
                )
            except BehindError:
                await self._fill(staging)


def _ends(extents: Mapping[str, Extent]) -> dict[str, int]:
    return {stream: extent.last for stream, extent in extents.items()}


def _sums(positions: dict[tuple[str, str], int]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for (name, _), at in positions.items():
        sums[name] = sums.get(name, 0) + at
    return sums


@asynccontextmanager
async def _session(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    session = await open_session(dsn, INDEX_SECONDS)
    try:
        yield session
        await session.close(timeout=5)  # closing releases its locks at once
    finally:
        session.terminate()
