"""Follows one stream live for every projection that reads it.

Under load, events are gathered into chunks, because a transaction costs as much as many rows; an event that comes alone
is written at once. A chunk is bounded, so that its rows are not late, and folded while Postgres writes the last one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import asyncpg
import structlog

from projections.engine import metrics, positions, schemas
from projections.engine.errors import ROW_ERRORS, is_transient
from projections.engine.event_decoder import EventDecoder, Unreadable
from projections.engine.projection import Projection
from projections.engine.recorded_at import recorded_at
from projections.engine.row_batch import RowBatch
from projections.engine.sessions import open_session
from projections.engine.status import ProjectionStatus
from projections.engine.table import timestamp
from streams import topology
from streams.bulk_replay import Block
from streams.connection import Connection
from streams.dead_letters import dead_letter
from streams.envelope import Codec, Recorded
from streams.reader import Stored, StreamSubscription
from streams.retry import retry_forever
from streams.topology import Stream

log = structlog.get_logger()

FOLLOWER = "projections"
"""The durable consumer that shows how far the read models are, one in each stream."""
_BATCH = 2000
COMMAND_SECONDS = 20.0
"""The longest that one statement of a live transaction may take: a Postgres that is gone without closing the connection
would be waited for until TCP gives up, which takes minutes. The transaction is made again, on a new connection."""
GATHER_SECONDS = 0.05
"""How long after the beginning of a chunk's transaction the next one may begin, unless a whole chunk waits already."""
_DAYS_AHEAD = 2
_MEASURE_SECONDS = 2.0

Wanted = list[tuple[Recorded, tuple[Projection, ...]]]


class ProjectionFollower:
    """Reads a stream once for some projections whose tables and positions exist."""

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        stream: Stream,
        projection_statuses: Sequence[ProjectionStatus],
        clock: Callable[[], int],
        *,
        writer: bool,
    ) -> None:
        """`writer`: write rows as the role `vibe_writer`."""
        self._connection = connection
        self._stream = stream.name
        self._clock = clock
        self._writer = writer
        self._projections = [status.projection for status in projection_statuses]
        self._schema = projection_statuses[0].schema
        self._positions = {each.name: each.positions[stream.name].position for each in projection_statuses}
        self._generations = {each.name: each.generation for each in projection_statuses}
        self._decoder = EventDecoder(codec, stream.name, self._projections)
        self._schemas = {table.name: self._schema for each in self._projections for table in each.tables}
        self._partitions = schemas.Partitions(
            {each.name: each.location for each in projection_statuses}, self._projections
        )
        self._ahead: date | None = None
        self._storing: asyncio.Task[None] | None = None
        self._began = 0.0
        names = [each.name for each in self._projections]
        self._position_of = {name: metrics.POSITION.labels(name, self._stream) for name in names}
        self._lag_of = {name: metrics.LAG.labels(name, self._stream) for name in names}
        self._changes_of = {name: metrics.CHANGES.labels(name) for name in names}
        self._events_read = metrics.READ.labels(self._stream)
        self._rate = 0.0
        self._counted = (0.0, 0)
        self._read = 0
        self._last_time: datetime | None = None

    async def run(self, dsn: str, stop: asyncio.Event) -> None:
        """Run until `stop` is set. Raises LostPositionError, DataLossError, or what an unreachable Postgres or log
        raises."""
        session = await open_session(dsn, COMMAND_SECONDS)
        subscription = StreamSubscription(
            self._connection,
            self._stream,
            name=FOLLOWER,
            description="builds the read models",
            metadata={"projections": ",".join(each.name for each in self._projections)},
            batch=_BATCH,
        )
        helpers = [asyncio.create_task(_wake_on(stop, subscription.wake)), asyncio.create_task(self._measure())]
        try:
            await self._partitions.load(session)
            if self._writer:
                await session.execute(f"SET ROLE {schemas.WRITER}")
            await subscription.open(min(self._positions.values()))
            while not stop.is_set():
                await self._gather(subscription)
                batch = subscription.take(_BATCH)
                if batch:
                    rows = await self._rows(batch)  # Postgres still writes the chunk before
                    await self._stored()
                    self._began = asyncio.get_running_loop().time()
                    self._storing = asyncio.create_task(self._store(session, subscription, batch, rows))
            await self._stored()
        finally:
            for helper in helpers:
                helper.cancel()
            if self._storing is not None:
                self._storing.cancel()
                await asyncio.gather(self._storing, return_exceptions=True)
            await subscription.close()
            session.terminate()

    async def _gather(self, subscription: StreamSubscription) -> None:
        """Wait for events, and for more of them while the transaction before is young."""
        if not subscription.waiting:
            await self._stored()  # no more to fold meanwhile
            await subscription.wait()
        early = self._began + GATHER_SECONDS - asyncio.get_running_loop().time()
        if early > 0 and subscription.waiting < _BATCH:
            await asyncio.sleep(early)

    async def _stored(self) -> None:
        """Wait until the chunk before is written; raises what writing it raised."""
        if (storing := self._storing) is not None:
            await storing
            self._storing = None

    async def _store(
        self,
        session: asyncpg.Connection[Any],
        subscription: StreamSubscription,
        batch: list[Stored],
        rows: RowBatch,
    ) -> None:
        await self._make_ahead(session)
        last, recorded = batch[-1].sequence, recorded_at(batch[-1].payload)
        self._count(len(batch))
        made: dict[str, set[date]] = {}
        try:
            async with session.transaction():
                await self._move(session, last, recorded)
                made = await self._write(session, rows)
        except ROW_ERRORS as error:
            log.warning("projections.event_by_event", stream=self._stream, to=last, why=str(error))
            made = {}
            async with session.transaction():
                await self._move(session, last, recorded)
                for event, projections in await self._wanted(_block(batch)):
                    for projection in projections:
                        await self._write_alone(session, projection, event, made)
        self._partitions.made(made)
        self._last_time = recorded
        for name, position in self._positions.items():
            self._positions[name] = max(position, last)
            self._position_of[name].set(self._positions[name])
        self._events_read.inc(len(batch))
        await subscription.ack(batch[-1])

    async def _rows(self, batch: list[Stored]) -> RowBatch:
        """The rows of a batch, mapped types a block at a time; events that cannot be folded are dead-lettered."""
        rows, left, mapped = RowBatch(self._schemas), _block(batch), False
        if max(self._positions.values()) < batch[0].sequence:
            try:
                made, left = self._decoder.mapped(left)
            except Exception as error:  # event by event the faulty one is found
                log.info("projections.event_by_event", stream=self._stream, to=batch[-1].sequence, why=str(error))
            else:
                mapped = True
                for each in made:
                    rows.take(each.mapped, each.rows)
                    self._changes_of[each.projection].inc(len(each.rows))
        for event, projections in await self._wanted(left, mapped=mapped):
            for projection in projections:
                await self._fold(projection, event, rows)
        return rows

    async def _wanted(self, block: Block, *, mapped: bool = False) -> Wanted:
        """The events of a block that projections fold; `mapped`: without those whose rows are made.

        Dead-letters unreadable events.
        """
        wanted: Wanted = []
        stored = zip(*block, strict=True)
        for event, projections in self._decoder.events(stored, self._positions, folded=mapped):
            if not isinstance(event, Unreadable):
                wanted.append((event, projections))
            elif self._stream != topology.DEAD.name:
                await self._dead_letter("projections", event.sequence, None, event.subject, event.payload, event.reason)
        return wanted

    async def _fold(self, projection: Projection, event: Recorded, rows: RowBatch) -> None:
        try:
            self._changes_of[projection.name].inc(rows.apply(projection.changes(event)))
        except Exception as error:
            log.exception("projections.fold_failed", projection=projection.name, at=event.at)
            await self._reject(projection, event, error)

    async def _write(self, session: asyncpg.Connection[Any], rows: RowBatch) -> dict[str, set[date]]:
        """Write rows; returns the partitions that were missing and created in the same transaction, as the tables'
        owner."""
        missing = self._partitions.missing(rows.days())
        if missing:
            await self._as_owner(session, missing)
        await rows.write(session)
        return missing

    async def _as_owner(self, session: asyncpg.Connection[Any], missing: dict[str, set[date]]) -> None:
        if self._writer:
            await session.execute("RESET ROLE")
        await self._partitions.make(session, missing)
        if self._writer:
            await session.execute(f"SET ROLE {schemas.WRITER}")

    async def _write_alone(
        self, session: asyncpg.Connection[Any], projection: Projection, event: Recorded, made: dict[str, set[date]]
    ) -> None:
        """Write one event's rows of one projection in a savepoint; an event that Postgres rejects is dead-lettered."""
        rows = RowBatch(self._schemas)
        await self._fold(projection, event, rows)
        try:
            async with session.transaction():
                for name, days in (await self._write(session, rows)).items():
                    made.setdefault(name, set()).update(days)
        except ROW_ERRORS as error:
            log.warning("projections.row_rejected", projection=projection.name, at=event.at, error=str(error))
            await self._reject(projection, event, error)

    async def _move(self, session: asyncpg.Connection[Any], last: int, recorded: datetime | None) -> None:
        await positions.move(
            session,
            self._schema,
            self._stream,
            {
                name: (position, self._generations[name])
                for name, position in self._positions.items()
                if position < last
            },
            last,
            event_time=recorded,
            rate=self._rate,
        )

    async def _make_ahead(self, session: asyncpg.Connection[Any]) -> None:
        """Create the partitions of today and the next days, once a day."""
        today = timestamp(self._clock()).date()
        if today == self._ahead:
            return
        days = {today + timedelta(days=number) for number in range(_DAYS_AHEAD + 1)}
        missing = self._partitions.missing(dict.fromkeys(self._partitions.tables, days))
        if missing:
            async with session.transaction():
                await self._as_owner(session, missing)
            self._partitions.made(missing)
        self._ahead = today

    async def _reject(self, projection: Projection, event: Recorded, error: Exception) -> None:
        metrics.DEAD_LETTERS.labels(projection.name).inc()
        reason = f"{type(error).__name__}: {error}"
        stage = f"projection.{projection.name}"
        await self._dead_letter(stage, event.sequence, event.index, event.subject, event.payload, reason)

    async def _dead_letter(
        self, stage: str, sequence: int, index: int | None, subject: str, payload: bytes, error: str
    ) -> None:
        await retry_forever(
            lambda: dead_letter(
                self._connection,
                stage=stage,
                stream=self._stream,
                sequence=sequence,
                subject=subject,
                payload=payload,
                error=error,
                now=self._clock(),
                index=index,
            )
        )

    def _count(self, events: int) -> None:
        """Count events and update the rate over the last seconds."""
        self._read += events
        now, (since, before) = asyncio.get_running_loop().time(), self._counted
        if now - since >= 1:
            fresh = (self._read - before) / (now - since) if since else 0.0
            self._rate = fresh if now - since > 10 else 0.5 * self._rate + 0.5 * fresh
            self._counted = (now, self._read)

    async def _measure(self) -> None:
        """Update lag and rate for Prometheus every two seconds."""
        read = self._read
        while True:
            await asyncio.sleep(_MEASURE_SECONDS)
            metrics.RATE.labels(self._stream).set((self._read - read) / _MEASURE_SECONDS)
            read = self._read
            try:
                found = await topology.info(self._connection, self._stream)
            except Exception as error:
                if not is_transient(error):
                    log.warning("projections.measure", stream=self._stream, error=str(error))
                continue
            end = found["state"]["last_seq"] if found else 0
            for name, position in self._positions.items():
                self._lag_of[name].set(max(0, end - position))
            behind = self._seconds_behind() if end > min(self._positions.values()) else 0.0
            metrics.BEHIND.labels(self._stream).set(behind)

    def _seconds_behind(self) -> float:
        if self._last_time is None:
            return 0.0
        return max(0.0, (timestamp(self._clock()) - self._last_time).total_seconds())


def _block(batch: list[Stored]) -> Block:
    return Block(
        [each.sequence for each in batch], [each.subject.encode() for each in batch], [each.payload for each in batch]
    )


async def _wake_on(stop: asyncio.Event, wake: asyncio.Event) -> None:
    await stop.wait()
    wake.set()
