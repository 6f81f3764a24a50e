"""Tables of read models in Postgres, for tests without a log: events are folded and written as the engine does it."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
from msgspec import Struct

from handlers.live.event_codec import codec
from projections.engine import schemas
from projections.engine.projection import Projection
from projections.engine.row_batch import RowBatch
from projections.engine.schemas import Location, Partitions
from projections.models import PROJECTIONS
from streams.append import MAX_BATCH, Record, append
from streams.connection import Connection
from streams.envelope import Recorded

CODEC = codec()
LOCATION = Location("public", "parts")

Session: TypeAlias = "asyncpg.Connection[Any]"
Appended = tuple[str, str, Struct, int]
"""(stream, subject, event, when it was recorded in ns)."""


def recorded(event: Struct, stream: str, sequence: int, *, at: int = 0, cause: str | None = None) -> Recorded:
    """An event as a reader of the log gets it."""
    payload = CODEC.encode(event, id=f"{stream}.{sequence}", source="tests", time_ns=at, causation=cause)
    return CODEC.decode(stream, sequence, "a.b", payload)[0]


def recorded_commit(
    events: Sequence[Struct], stream: str, sequence: int, *, cause: str | None = None
) -> list[Recorded]:
    """The events of one commit as a reader of the log gets them."""
    payload = CODEC.encode_commit(
        [(f"{stream}.{sequence}.{index}", event) for index, event in enumerate(events)],
        source="tests",
        time_ns=0,
        causation=cause,
    )
    return CODEC.decode(stream, sequence, "a.b", payload)


@asynccontextmanager
async def tables(dsn: str, projections: Sequence[Projection] = PROJECTIONS) -> AsyncIterator[Session]:
    """A session on a database that has the projections' empty tables."""
    session = await asyncpg.connect(dsn)
    try:
        for projection in projections:
            await schemas.make_tables(session, LOCATION, projection, writer=False, whole=True)
        yield session
    finally:
        await session.close()


async def stored(session: Session, events: Iterable[Recorded], projections: Sequence[Projection] = PROJECTIONS) -> None:
    """Fold events into the tables, all in one batch."""
    rows = RowBatch()
    for event in events:
        for projection in projections:
            reads = any(stream.name == event.stream for stream in projection.reads)
            if reads and (not projection.types or event.type in projection.types):
                rows.apply(projection.changes(event))
    async with session.transaction():
        partitions = Partitions(dict.fromkeys((each.name for each in projections), LOCATION), projections)
        await partitions.load(session)
        await partitions.make(session, partitions.missing(rows.days()))
        await rows.write(session)


@asynccontextmanager
async def rolled_back(session: Session) -> AsyncIterator[None]:
    """Roll back everything that is stored in the block."""
    transaction = session.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def append_events(connection: Connection, events: Iterable[Appended]) -> None:
    """Append events to their streams, in order within each stream, each recorded at its own time."""
    by_stream: dict[str, list[Record]] = {}
    for number, (stream, subject, event, at) in enumerate(events):
        payload = CODEC.encode(
            event, id=f"{stream}.{number}", source="tests", time_ns=at, correlation="c", causation="RAW:12"
        )
        by_stream.setdefault(stream, []).append(Record(subject, payload))
    for records in by_stream.values():
        for start in range(0, len(records), MAX_BATCH):
            await append(connection, records[start : start + MAX_BATCH])
