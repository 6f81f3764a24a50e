"""Queries of pages on large tables use an index and never scan a whole table."""

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.events import Event, MarkCaptured
from projections.engine import schemas
from projections.engine.table import timestamp
from projections.models import PROJECTIONS
from projections.queries import (
    attempts,
    influencers,
    ledger,
    markets,
    portfolios,
    round_trips,
    shadows,
    subscribers,
    system,
    trace_index,
)
from projections.queries.fetch import Reader
from tests.conftest import Databases
from tests.domain.facts import at, bought, decided, group_closed, influencer, seeded, signal
from tests.domain.facts import subscriber as subscribed
from tests.domain.facts import subscription as subscription_of
from tests.projections.model_tables import LOCATION, Session, recorded, stored, tables
from tests.streams.examples import example

ROWS = 12_000
DAYS = 4
BEGIN = timestamp(at(0)).replace(hour=0, minute=0, second=0, microsecond=0)
INFLUENCERS = 400

AT = f"'{BEGIN}'::timestamptz + n * interval '{DAYS} days' / {ROWS}"
WHO = f"'sub-' || n % {INFLUENCERS}"
WHOM = f"'inf-' || n % {INFLUENCERS}"
LARGE: dict[str, dict[str, str]] = {
    "booking": {
        "source_event_id": "'f' || n",
        "attempt_id": "'a' || n / 2",
        "subscriber_id": WHO,
        "influencer_id": WHOM,
        "sequence": "n",
        "booked_at": AT,
    },
    "copy_attempt": {
        "attempt_id": "'a' || n",
        "group_id": "'g' || n / 40",
        "request_id": "'r' || n",
        "subscriber_id": WHO,
        "sequence": "n",
        "decided_at": AT,
    },
    "portfolio_snapshot": {"subscriber_id": WHO, "minute": f"date_trunc('minute', {AT})", "taken_at": AT},
    "trade_event": {
        "source_event_id": "'t' || n",
        "signal_id": "'s' || n",
        "influencer_id": WHOM,
        "signal_sequence": "n",
        "event_time": AT,
        "detect_time": AT,
    },
    "shadow_entry": {
        "entry_id": "'t' || n",
        "influencer_id": WHOM,
        "address": WHOM,
        "sequence": "n",
        "event_time": AT,
        "detect_time": AT,
    },
    "shadow_report": {"influencer_id": WHOM, "address": WHOM, "sequence": "n"},
    "signal_group": {
        "group_id": "'g' || n",
        "influencer_id": WHOM,
        "closed_sequence": "n",
        "event_time": AT,
        "closed_at": AT,
    },
    "market_price_snapshot": {"mark_id": "'m' || n", "asset": f"'asset-' || n % {INFLUENCERS}", "marked_at": AT},
    "subscription": {"subscription_id": "'u' || n", "influencer_id": WHOM, "subscriber_id": WHO},
    "subscriber": {"subscriber_id": "'sub-' || n"},
    "ledger_balance": {"subscriber_id": WHO, "asset": "'asset-' || n"},
    "audit_log": {"sequence": "n", "index": "0", "target_id": WHO},
}


@pytest.fixture(scope="module")
async def large(running: Any) -> Any:
    """A session on tables with many rows of many subscribers and influencers over some days."""
    import asyncpg

    server = await asyncpg.connect(running.postgres_dsn)
    databases = Databases(running.postgres_dsn.rpartition("/")[0], server)
    try:
        async with tables(await databases.new()) as session:
            await _fill(session)
            yield session
    finally:
        await databases.drop()
        await server.close()


async def _fill(session: Session) -> None:
    mark = example(MarkCaptured, venue_time=at(0), marked_at=at(0))
    patterns: dict[str, list[Event]] = {
        "EXECUTIONS": [decided(), bought("BTC", "1", "100")],
        "SIGNALS": [seeded(), signal()],
        "GROUPS": [group_closed(), mark],
        "CONFIG": [influencer("ann"), subscribed("sam"), subscription_of("sam-ann")],
    }
    for stream, events in patterns.items():
        await stored(session, [recorded(event, stream, -n, at=at(0)) for n, event in enumerate(events, 1)])
    partitions = schemas.Partitions(dict.fromkeys((each.name for each in PROJECTIONS), LOCATION), PROJECTIONS)
    await partitions.load(session)
    days = {BEGIN.date() + timedelta(days=number) for number in range(DAYS + 1)}
    async with session.transaction():
        await partitions.make(session, partitions.missing(dict.fromkeys(LARGE.keys() & set(partitions.tables), days)))
    columns = {table.name: table.columns for each in PROJECTIONS for table in each.tables}
    for name, expressions in LARGE.items():
        values = ", ".join(expressions.get(column, f"t.{column}") for column in columns[name])
        await session.execute(
            f"INSERT INTO {name} ({', '.join(columns[name])}) SELECT {values} "
            f"FROM (SELECT * FROM {name} LIMIT 1) t, generate_series(1, {ROWS}) n ON CONFLICT DO NOTHING"
        )
    await session.execute("ANALYZE")
    found = await session.fetch("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples >= $1", ROWS / DAYS / 2)
    READ_BY_INDEX.update(row["relname"] for row in found)


READ_BY_INDEX: set[str] = set()
"""Tables and daily partitions with many rows, which must not be scanned."""


class Explaining:
    """A reader that keeps the plan of every query."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.plans: list[str] = []

    async def fetch(self, query: str, /, *arguments: Any) -> Sequence[Any]:
        plan = await self._session.fetch(f"EXPLAIN {query}", *arguments)
        self.plans.append("\n".join(row[0] for row in plan))
        return await self._session.fetch(query, *arguments)


def scanned(plan: str) -> set[str]:
    """The large tables of which a plan scans all rows or those of a day."""
    return {re.sub(r"_\d{8}$", "", name) for name in re.findall(r"Seq Scan on (\w+)", plan) if name in READ_BY_INDEX}


NOON: datetime = BEGIN + timedelta(days=2, hours=12)
DAY = timedelta(days=1)
Asked = Callable[[Reader], Awaitable[Any]]

PAGES: dict[str, Asked] = {
    "ledger": lambda db: ledger.ledger(db, "sub-7"),
    "ledger, later": lambda db: ledger.ledger(db, "sub-7", after=(NOON, 5, 0)),
    "ledger of an attempt": lambda db: ledger.ledger_of_attempt(db, "a77"),
    "balances": lambda db: ledger.balances(db, "sub-7"),
    "attempts of a group": lambda db: attempts.attempts_of_group(db, "g77"),
    "attempts of a subscriber": lambda db: attempts.attempts_of_subscriber(db, "sub-7"),
    "attempts of a subscriber, later": lambda db: attempts.attempts_of_subscriber(db, "sub-7", after=(NOON, 5)),
    "attempts": lambda db: attempts.attempts(db),
    "attempts, later": lambda db: attempts.attempts(db, after=(NOON, 5)),
    "attempt": lambda db: attempts.attempt(db, "a77"),
    "orders of an attempt": lambda db: attempts.orders_of_attempt(db, "a77"),
    "orders of a subscriber": lambda db: attempts.orders_of_subscriber(db, "sub-7"),
    "trace of an order": lambda db: trace_index.PostgresTraceIndex(db).find_attempts("o77"),
    "trace of a ledger entry": lambda db: trace_index.PostgresTraceIndex(db).find_cash_entry("led_77"),
    "fills of an attempt": lambda db: attempts.fills_of_attempt(db, "a77"),
    "snapshots of a day": lambda db: portfolios.snapshots(db, "sub-7", NOON, NOON + DAY),
    "portfolio": lambda db: portfolios.portfolio(db, "sub-7"),
    "trades": lambda db: influencers.trades(db, "inf-7"),
    "groups": lambda db: influencers.groups(db, "inf-7"),
    "group": lambda db: influencers.group(db, "g77"),
    "influencer's metrics": lambda db: round_trips.influencer_metrics(db, "inf-7"),
    "shadow": lambda db: shadows.shadow(db, "inf-7"),
    "shadow's minutes": lambda db: shadows.shadow_snapshots(db, "inf-7", NOON, NOON + DAY),
    "subscribers": lambda db: subscribers.subscribers(db),
    "subscriptions of an influencer": lambda db: subscribers.subscriptions(db, influencer_id="inf-7"),
    "subscriber's metrics": lambda db: subscribers.subscriber_metrics(db, "sub-7", NOON, NOON + DAY),
    "marks": lambda db: markets.marks(db, "hyperliquid", "asset-7", NOON, NOON + DAY),
    "audit log": lambda db: system.audit_log(db),
    "audit log of one": lambda db: system.audit_log(db, target_id="sub-7"),
}


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_is_read_by_an_index(large: Session, page: str) -> None:
    db = Explaining(large)
    await PAGES[page](db)
    assert db.plans
    for plan in db.plans:
        assert not scanned(plan), plan


async def test_a_sequential_scan_is_detected(large: Session) -> None:
    db = Explaining(large)
    await db.fetch("SELECT count(*) FROM ledger_entry WHERE price_micros = 3")
    assert scanned(db.plans[0]) == {"booking"}


async def test_a_time_span_reads_only_the_partitions_of_its_days(large: Session) -> None:
    db = Explaining(large)
    await portfolios.snapshots(db, "sub-7", NOON, NOON + timedelta(hours=2))
    facts = next(plan for plan in db.plans if "portfolio_snapshot" in plan)
    assert len(set(re.findall(r"portfolio_snapshot_\d{8}", facts.replace("_pkey", "")))) == 1, facts
