"""The projection engine: batch, fold, rows and position in one transaction, acknowledge (DESIGN 8).

Exactly once by position: a projection's place in a stream moves in the same transaction as its rows, and only from
where it was. Postgres is the truth; the durable consumer is acknowledged afterwards so that ops see the lag. One
runner at a time holds an advisory lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import structlog

from projections import metrics
from projections.projection import Projection
from projections.rows import Rows
from streams import dead, topology
from streams.connection import Connection
from streams.envelope import Codec, Recorded
from streams.errors import DataLossError, LogError, TopologyError, UnprocessableError
from streams.processor import retrying
from streams.read import Feed, Stored
from streams.topology import Stream

log = structlog.get_logger()

_LOCK = 0x76696265  # "vibe"
_BATCH = 2000

LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    LogError,
)
"""What a lost database or log raises; the client is in a state of its own when a backend dies under it."""

BAD_ROW = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What a row that does not fit its table raises: a number above bigint, a key that exists, a text with a NUL."""

POSITIONS = """
CREATE TABLE IF NOT EXISTS projection_position (
    projection text NOT NULL,
    stream text NOT NULL,
    version integer NOT NULL,
    stream_created timestamptz NOT NULL,
    position bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, stream)
)
"""


class LostPlaceError(Exception):
    """Somebody else moved a projection's position, or the log is not the one it was built from."""


class Engine:
    """Runs projections over the streams they read; each stream is read once for all of them."""

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        dsn: str,
        projections: Sequence[Projection],
        clock: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._dsn = dsn
        self._projections = projections
        self._clock = clock
        self.ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. A lost database or log is waited for; nothing is lost or doubled meanwhile."""
        delay = 0.2
        while not stop.is_set():
            session: asyncpg.Connection[Any] | None = None
            try:
                session = await asyncpg.connect(self._dsn, timeout=10)
                if await self._acquire(session, stop):
                    delay = 0.2
                    await self._run_streams(stop)
            except LOST as error:
                if isinstance(error, DataLossError):
                    raise
                log.warning("projections.retry", error=str(error) or type(error).__name__, in_seconds=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
            except LostPlaceError as error:
                log.warning("projections.lost_place", error=str(error))
            finally:
                if session is not None:
                    session.terminate()

    async def _acquire(self, session: asyncpg.Connection[Any], stop: asyncio.Event) -> bool:
        """Hold the lock and prepare the tables; False when told to stop. Polled, because waiting for the lock inside
        Postgres can deadlock with index builds."""
        waited = False
        while not await session.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            if stop.is_set():
                return False
            if not waited:
                log.info("projections.standby", why="another runner holds the lock")
                waited = True
            await asyncio.sleep(0.5)
        await session.execute(POSITIONS)
        for projection in self._projections:
            for table in projection.tables:
                for statement in table.ddl():
                    await session.execute(statement)
        return True

    async def _run_streams(self, stop: asyncio.Event) -> None:
        streams = {stream.name: stream for projection in self._projections for stream in projection.reads}
        runs = [
            asyncio.create_task(
                StreamRun(
                    self._connection,
                    self._codec,
                    stream,
                    [p for p in self._projections if stream in p.reads],
                    self._clock,
                ).run(self._dsn, stop)
            )
            for stream in streams.values()
        ]
        self.ready.set()
        try:
            # The first to fail takes the others with it: all start again from their positions.
            await asyncio.gather(*runs)
        finally:
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)


class StreamRun:
    """One stream, read once, for every projection that wants it."""

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        stream: Stream,
        projections: Sequence[Projection],
        clock: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._stream = stream.name
        self._projections = projections
        self._clock = clock
        self._positions: dict[str, int] = {}

    async def run(self, dsn: str, stop: asyncio.Event) -> None:
        session: asyncpg.Connection[Any] = await asyncpg.connect(dsn, timeout=10)
        feed = Feed(
            self._connection,
            self._stream,
            name="projections",
            description="builds the read models",
            metadata={"projections": ",".join(p.name for p in self._projections)},
            batch=_BATCH,
        )
        stopper = asyncio.create_task(_wake_on(stop, feed.wake))
        try:
            await self._load(session)
            await feed.open(min(self._positions.values()))
            while not stop.is_set():
                await feed.wait()
                batch = feed.take(_BATCH)
                if batch:
                    await self._store(session, batch)
                    await feed.ack(batch[-1])
        finally:
            stopper.cancel()
            await feed.close()
            session.terminate()

    async def _load(self, session: asyncpg.Connection[Any]) -> None:
        """Positions of all projections; a projection that is new, or built from another log, starts at zero."""
        found = await topology.info(self._connection, self._stream)
        if found is None:
            raise TopologyError(f"stream {self._stream} does not exist; run: vibe streams apply")
        for projection in self._projections:
            row = await session.fetchrow(
                "INSERT INTO projection_position (projection, stream, version, stream_created, position) "
                "VALUES ($1, $2, $3, $4::text::timestamptz, 0) "
                "ON CONFLICT (projection, stream) DO UPDATE SET projection = excluded.projection "
                "RETURNING position, stream_created = $4::text::timestamptz AS same_log",
                projection.name,
                self._stream,
                projection.version,
                found["created"],
            )
            assert row is not None
            self._positions[projection.name] = row["position"]
            if not row["same_log"]:
                raise DataLossError(self._stream, found["state"]["last_seq"] + 1, row["position"])
        # Asked again, because another runner may have moved the positions past what the log held a moment ago.
        found = await topology.info(self._connection, self._stream)
        end, furthest = found["state"]["last_seq"] if found else 0, max(self._positions.values())
        if furthest > end:
            raise DataLossError(self._stream, end + 1, furthest)

    async def _store(self, session: asyncpg.Connection[Any], batch: list[Stored]) -> None:
        wanted = [pair for stored in batch for pair in await self._wanted(stored)]
        last = batch[-1].sequence
        try:
            async with session.transaction():
                await self._move(session, last)
                rows = Rows()
                for projection, event in wanted:
                    await self._fold(projection, event, rows)
                await rows.write(session)
        except BAD_ROW as error:
            log.warning("projections.one_by_one", stream=self._stream, to=last, why=str(error))
            async with session.transaction():
                await self._move(session, last)
                for projection, event in wanted:
                    await self._write_alone(session, projection, event)
        for projection in self._projections:
            self._positions[projection.name] = max(self._positions[projection.name], last)
        metrics.READ.labels(self._stream).inc(len(batch))

    async def _wanted(self, stored: Stored) -> list[tuple[Projection, Recorded]]:
        event = await self._decode(stored)
        if event is None:
            return []
        return [
            (projection, event)
            for projection in self._projections
            if stored.sequence > self._positions[projection.name]
            and (not projection.types or event.type in projection.types)
        ]

    async def _fold(self, projection: Projection, event: Recorded, rows: Rows) -> None:
        try:
            metrics.CHANGES.labels(projection.name).inc(rows.apply(projection.fold(event)))
        except Exception as error:
            log.exception("projection.failed", projection=projection.name, at=event.at)
            await self._bury(f"projection.{projection.name}", event, f"{type(error).__name__}: {error}")

    async def _write_alone(self, session: asyncpg.Connection[Any], projection: Projection, event: Recorded) -> None:
        """One event's rows of one projection in a savepoint: what the database refuses is buried, the rest goes on."""
        rows = Rows()
        await self._fold(projection, event, rows)
        try:
            async with session.transaction():
                await rows.write(session)
        except BAD_ROW as error:
            log.warning("projection.refused", projection=projection.name, at=event.at, error=str(error))
            await self._bury(f"projection.{projection.name}", event, f"{type(error).__name__}: {error}")

    async def _move(self, session: asyncpg.Connection[Any], last: int) -> None:
        """Take the place before any row: a second writer waits here for the first, and then finds its place gone."""
        for projection in self._projections:
            position = self._positions[projection.name]
            if position >= last:
                continue
            moved = await session.execute(
                "UPDATE projection_position SET position = $1, moved_at = now() "
                "WHERE projection = $2 AND stream = $3 AND position = $4",
                last,
                projection.name,
                self._stream,
                position,
            )
            if moved != "UPDATE 1":
                raise LostPlaceError(f"{projection.name} is no longer at {self._stream}:{position}")

    async def _decode(self, stored: Stored) -> Recorded | None:
        try:
            return self._codec.decode(self._stream, stored.sequence, stored.subject, stored.payload)
        except UnprocessableError as error:
            if self._stream != topology.DEAD.name:
                await self._bury("projections", stored, str(error))
            return None

    async def _bury(self, stage: str, stored: Stored | Recorded, error: str) -> None:
        await retrying(
            lambda: dead.bury(
                self._connection,
                stage=stage,
                stream=self._stream,
                sequence=stored.sequence,
                subject=stored.subject,
                payload=stored.payload,
                error=error,
                now=self._clock(),
            )
        )


async def _wake_on(stop: asyncio.Event, wake: asyncio.Event) -> None:
    await stop.wait()
    wake.set()
