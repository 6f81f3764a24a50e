"""The engine builds every read model from a log: each table has rows, and they equal the folds of the events."""

from typing import Any

import asyncpg
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
from handlers.live.event_codec import codec
from projections.engine.verify import verify
from projections.models import PROJECTIONS
from streams import subjects
from streams.connection import Connection
from streams.dead_letter_events import DeadLettered
from streams.processing.checkpoint import Checkpoint
from tests.conftest import Databases
from tests.domain.facts import SELL, at, influencer, seeded, signal
from tests.domain.facts import subscriber as subscribed
from tests.domain.facts import subscription as subscription_of
from tests.projections.engines import built, contents, dead_letters
from tests.projections.example_log import flows
from tests.projections.model_tables import Appended, append_events, recorded, stored, tables
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
    return events + [("CONFIG", subjects.config("x", str(n)), event, at(n)) for n, event in enumerate(configuration)]


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


async def test_rows_of_append_only_tables_cannot_be_changed_by_the_engine(log: Connection, database: str) -> None:
    await append_events(log, everything())
    await built(log, database, PROJECTIONS)
    session = await asyncpg.connect(database)
    try:
        await session.execute("SET ROLE vibe_writer")
        for table in (table for projection in PROJECTIONS for table in projection.tables if table.append_only):
            try:
                await session.execute(f"DELETE FROM {table.name}")
            except asyncpg.InsufficientPrivilegeError:
                continue
            raise AssertionError(f"{table.name} may be changed")
    finally:
        await session.close()
