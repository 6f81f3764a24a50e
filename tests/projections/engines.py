"""Runs the engine in a test, and reads what it built."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from gateways.embedded import Addresses
from handlers.live.event_codec import codec
from projections.engine.projection import Projection
from projections.engine.rebuild import Rebuilt, rebuild
from projections.engine.runner import Engine
from projections.engine.table import Table, View
from projections.models.copy_attempt import CopyAttempts
from projections.models.event_count import EventCounts
from projections.models.ledger_entry import LedgerEntries
from projections.models.position import Positions
from projections.models.signal_group import SignalGroups
from projections.models.trade_event import TradeEvents
from streams.connection import Connection
from streams.dead_letters import DeadLettered, decode
from streams.reader import read_all
from tests.projections.fills import Fills
from tests.streams.deadlines import settled

CORE: tuple[Projection, ...] = (
    TradeEvents(),
    SignalGroups(),
    CopyAttempts(),
    Fills(),
    Positions(),
    LedgerEntries(),
    EventCounts(),
)
"""Read models of every kind (inserts only, updates, sums; one stream and several), which build faster than all of
them."""


@asynccontextmanager
async def engine(
    connection: Connection, dsn: str, projections: Sequence[Projection] = CORE, **options: Any
) -> AsyncIterator[Engine]:
    """An engine that runs for the duration of the block."""
    running, stop = Engine(connection, codec(), dsn, projections, time.time_ns, **options), asyncio.Event()
    task = asyncio.create_task(running.run(stop))
    try:
        yield running
    finally:
        stop.set()
        done, late = await asyncio.wait([task], timeout=15)
        for each in late:
            each.cancel()
        assert not late, "the engine did not stop"
        for each in done:
            each.result()


async def behind(connection: Connection, dsn: str, projections: Sequence[Projection] = CORE) -> dict[str, int]:
    """How many sequences each (projection, stream) is behind; without a position, all of them."""
    try:
        session = await asyncpg.connect(dsn)
        try:
            rows = await session.fetch("SELECT projection, stream, position FROM projection_position")
        finally:
            await session.close()
    except asyncpg.UndefinedTableError:
        rows = []
    positions = {(row["projection"], row["stream"]): row["position"] for row in rows}
    left = {}
    for projection in projections:
        for stream in projection.reads:
            end = (await connection.api(f"STREAM.INFO.{stream.name}"))["state"]["last_seq"]
            left[f"{projection.name} {stream.name}"] = end - positions.get((projection.name, stream.name), -1)
    return left


async def caught_up(
    connection: Connection, dsn: str, projections: Sequence[Projection] = CORE, within: float = 30.0
) -> None:
    """Wait until every projection has reached the end of its streams."""
    await settled(lambda: behind(connection, dsn, projections), lambda left: not any(left.values()), within, every=0.05)


async def built(connection: Connection, dsn: str, projections: Sequence[Projection] = CORE) -> None:
    """Run an engine until it has caught up."""
    async with engine(connection, dsn, projections):
        await caught_up(connection, dsn, projections)


async def contents(dsn: str, projections: Sequence[Projection] = CORE) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table and view of the read models, in the order of its key."""
    session = await asyncpg.connect(dsn)
    shown: list[Table | View] = []
    for projection in projections:
        shown += [*projection.tables, *projection.views]
    try:
        return {
            each.name: [
                tuple(row)
                for row in await session.fetch(
                    f"SELECT {', '.join(each.columns)} FROM {each.name} ORDER BY {', '.join(each.key)}"
                )
            ]
            for each in shown
        }
    finally:
        await session.close()


async def dead_letters(connection: Connection) -> list[DeadLettered]:
    """All dead letters, in order."""
    return [decode(stored.payload) async for batch in read_all(connection, "DEAD") for stored in batch]


async def rebuilt(
    running: Addresses, dsn: str, projections: tuple[Projection, ...] = CORE, **options: Any
) -> list[Rebuilt]:
    return await rebuild(running.nats_url, dsn, codec(), projections, **options)


async def build_schemas(dsn: str) -> set[str]:
    """The schemas of all generations that exist."""
    session = await asyncpg.connect(dsn)
    rows = await session.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'rm\\_%'")
    await session.close()
    return {row["nspname"] for row in rows}


@asynccontextmanager
async def constant_reader(dsn: str, *tables: str) -> AsyncIterator[list[int]]:
    """A reader that queries all the time with a prepared statement: counts never fall, and no query fails."""
    session = await asyncpg.connect(dsn)
    # One statement counts all tables in one snapshot.
    counts = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in tables)
    statement = await session.prepare(counts)
    seen: list[int] = []
    stop = asyncio.Event()

    async def read() -> None:
        before = [0] * len(tables)
        while not stop.is_set():
            now = list(await statement.fetchrow() or ())
            assert all(a >= b for a, b in zip(now, before, strict=True)), f"rows are missing: {now} after {before}"
            before = now
            seen.append(sum(now))
            await asyncio.sleep(0.002)

    task = asyncio.create_task(read())
    try:
        yield seen
    finally:
        stop.set()
        try:
            await task
        finally:
            await session.close()
