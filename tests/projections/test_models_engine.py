"""The engine builds every read model from a log: each table has rows, and they equal the folds of the events."""

from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from msgspec import structs

from domain.events import (
    Action,
    BreakerLimit,
    BreakerTripped,
    ControlChanged,
    ControlState,
    ControlTarget,
    GuardrailConfigured,
    MarkCaptured,
    MarketDescribed,
    MarketResolved,
    MarkSource,
    PolicyMaterialized,
    RawReceived,
    Venue,
)
from gateways.embedded import Addresses
from handlers.live.event_codec import ALL, codec
from projections.engine import schemas
from projections.engine.verify import verify
from projections.models import PROJECTIONS
from streams import subjects
from streams.connection import Connection
from streams.dead_letters import DeadLettered
from streams.processing.checkpoint import Checkpoint
from tests.conftest import Databases
from tests.domain.facts import SELL, at, influencer, seeded, signal
from tests.domain.facts import subscriber as subscribed
from tests.domain.facts import subscription as subscription_of
from tests.projections.engines import built, contents, dead_letters
from tests.projections.example_log import flows
from tests.projections.model_tables import CODEC, Appended, append_events, recorded, stored, tables
from tests.streams.examples import example


def everything() -> list[Appended]:
    """Events of every kind that a read model wants."""
    events: list[Appended] = [(stream, subject, event, at(0)) for stream, subject, event in flows(1, 30)]
    book = subjects.executions("sub-1")
    trading = subjects.signals("ann", "hyperliquid", "BTC")
    events += [
        ("SIGNALS", trading, seeded(("BTC", "2")), at(0)),
        ("SIGNALS", trading, signal("turn", SELL, "5", "100", before="2", ms=50), at(60)),
        ("SIGNALS", trading, structs.replace(signal("split"), action=Action.SPLIT, source_event_id="sp"), at(61)),
        (
            "RAW",
            subjects.raw("ann", "polymarket", "activity", "0xab"),
            structs.replace(
                example(RawReceived, raw_id="pm:REWARD:0xab", venue=Venue.POLYMARKET, channel="activity"),
                detect_time=at(5),
            ),
            at(6),
        ),
        (
            "GROUPS",
            subjects.marks("polymarket", "yes"),
            example(MarkCaptured, venue=Venue.POLYMARKET, source=MarkSource.LAST_TRADE),
            at(7),
        ),
        ("GROUPS", subjects.marks("polymarket", "race"), example(MarketDescribed, venue=Venue.POLYMARKET), at(7)),
        ("GROUPS", subjects.marks("polymarket", "race"), example(MarketResolved, venue=Venue.POLYMARKET), at(8)),
        (
            "EXECUTIONS",
            book,
            example(BreakerTripped, subscriber_id="sub-1", limit=BreakerLimit.DRAWDOWN, tripped_at=at(9)),
            at(9),
        ),
        (
            "EXECUTIONS",
            "executions.checkpoint.plan.00-63",
            Checkpoint(stage="plan", lane="00-63", stream="REQUESTS", position=4),
            at(9),
        ),
        ("DEAD", "dead.plan.REQUESTS", example(DeadLettered), at(10)),
    ]
    configuration: list[Any] = [
        influencer("ann"),
        subscribed("sam"),
        subscription_of("sam-ann"),
        GuardrailConfigured(scope="global", values={"spread_bps": 20}, actor="ops"),
        PolicyMaterialized(hash="h", values={"spread_bps": 20}),
        ControlChanged(target=ControlTarget.ENGINE, id="", state=ControlState.PAUSED, actor="ops", note=""),
    ]
    events += [("CONFIG", subjects.config("x", str(n)), event, at(n)) for n, event in enumerate(configuration)]
    return events + list(missing_types({CODEC.name(event) for _, _, event, _ in events}))


def missing_types(present: set[str]) -> Iterator[Appended]:
    """An example of every event type that some read model processes and that is not present yet."""
    streams = {name: projection.reads[0] for projection in PROJECTIONS for name in projection.types}
    for name in sorted(streams.keys() - present):
        subject = streams[name].subjects[0].replace(">", "example")
        yield streams[name].name, subject, example(ALL[name]), at(11)


async def test_the_engine_fills_every_table_with_the_folded_rows(
    log: Connection, running: Addresses, database: str, databases: Databases
) -> None:
    events = everything()
    await append_events(log, events)
    await built(log, database, PROJECTIONS)
    live = await contents(database, PROJECTIONS)
    assert [name for name, rows in live.items() if not rows] == []
    assert await dead_letters(log) == [structs.replace(example(DeadLettered))], "only the appended dead letter"

    other = await databases.new()
    async with tables(other) as session:
        numbers = dict.fromkeys((stream for stream, _, _, _ in events), 0)
        for stream, _, event, time in events:
            numbers[stream] += 1
            await stored(session, [recorded(event, stream, numbers[stream], at=time, cause="RAW:12")])
    folded = await contents(other, PROJECTIONS)
    names = {"audit_log"}  # holds the events' ids, which are numbered otherwise here
    assert {name: rows for name, rows in folded.items() if name not in names} == {
        name: rows for name, rows in live.items() if name not in names
    }
    checks = await verify(running.nats_url, database, codec(), PROJECTIONS)
    assert [check.projection for check in checks if not check.equal] == []


APPEND_ONLY = [table for projection in PROJECTIONS for table in projection.tables if table.append_only]


async def test_rows_of_append_only_tables_cannot_be_changed_by_the_engine(log: Connection, database: str) -> None:
    """The role that the engine writes as can neither update, delete nor truncate them, nor their partitions."""
    await append_events(log, everything())
    await built(log, database, PROJECTIONS)
    session = await asyncpg.connect(database)
    try:
        partitions = await session.fetch(
            "SELECT inhrelid::regclass::text AS name, inhparent::regclass::text AS parent FROM pg_inherits i "
            "JOIN pg_class c ON c.oid = i.inhparent WHERE c.relkind = 'p'"
        )
        await session.execute(f"SET ROLE {schemas.WRITER}")
        for table in APPEND_ONLY:
            names = [table.name, *(row["name"] for row in partitions if row["parent"] == table.name)]
            assert len(names) > 1 or table.by_day is None
            for name in names:
                column = next(iter(table.columns))
                for statement in (f"UPDATE {name} SET {column} = {column}", f"DELETE FROM {name}", f"TRUNCATE {name}"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await session.execute(statement)
            assert await session.fetchval(f"SELECT count(*) FROM {table.name}") > 0
        changeable = next(t for projection in PROJECTIONS for t in projection.tables if not t.append_only)
        await session.execute(f"DELETE FROM {changeable.name}")
    finally:
        await session.close()
