"""How many events the log holds and how far every reader is: figures of the live table and of the closing report."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import asyncpg

from projections.engine.errors import is_transient
from projections.queries.exits import exit_counts, open_copies_of_flat, owed_now
from streams import topology
from streams.connection import Connection
from streams.topology import HISTORY

_BOOKED = ("cash.deposited", "order.filled", "fill.corrected", "position.settled", "settlement.corrected")
"""Events with a ledger entry each."""


class Counts(NamedTuple):
    """Events in the log by stored name, as the read models have counted them."""

    events: dict[str, int]
    decisions: dict[str, int]
    grouped_signals_closed: int

    def of(self, name: str) -> int:
        return self.events.get(name, 0)

    @property
    def ledger_entries(self) -> int:
        return sum(map(self.of, _BOOKED))

    def unfinished(self) -> dict[str, int]:
        """How many events are still in the pipeline, by what they wait for; empty when all were processed."""
        waiting = {
            "signals in open groups": self.of("signal.grouped") - self.grouped_signals_closed,
            "groups without a quote request": self.of("group.closed") - self.of("quote.wanted"),
            "quotes without an outcome": self.of("quote.wanted") - self.of("quote.captured") - self.of("quote.failed"),
            "quoted groups not matched": self.of("quote.captured") + self.of("quote.failed") - self.of("group.matched"),
            "requests not decided": self.of("execution.requested") - self.of("copy.decided"),
            "orders without a result": self.of("order.submitted") - self.of("execution.completed"),
            "decisions without an order": self.decisions.get("EXECUTE", 0) - self.of("execution.completed"),
        }
        return {what: count for what, count in waiting.items() if count}


class Lag(NamedTuple):
    """A consumer, and the events it has not processed (unprocessed + ack pending, as in `nats consumer report`)."""

    stream: str
    consumer: str
    waiting: int


Database: TypeAlias = "asyncpg.Connection[Any] | asyncpg.Pool[Any]"

_NO_TABLES = (asyncpg.UndefinedTableError,)


async def counts(database: Database) -> Counts:
    """Counts from the read models; zeros while their tables do not exist yet. Reads only rows that are counts, because
    it is asked for several times a second while a log drains."""
    try:
        events = await database.fetch("SELECT type, sum(events)::bigint AS n FROM event_count GROUP BY type")
        (of,) = await database.fetch(_COUNTED)
    except _NO_TABLES:
        return Counts({}, {}, 0)
    decisions = {"EXECUTE": of["executed"], "SKIP": of["skipped"]}
    return Counts({row["type"]: row["n"] for row in events}, decisions, of["grouped_signals"])


_COUNTED = """
SELECT coalesce(sum(executed), 0)::bigint AS executed, coalesce(sum(skipped), 0)::bigint AS skipped,
    coalesce(sum(grouped_signals), 0)::bigint AS grouped_signals
FROM system_metrics
"""


async def ledger_rows(database: Database) -> int:
    """The number of rows of ledger_entry, counted one by one; 0 while it does not exist yet."""
    try:
        rows: int = await database.fetchval("SELECT count(*) FROM ledger_entry")
    except _NO_TABLES:
        return 0
    return rows


async def lags(connection: Connection) -> list[Lag]:
    """Every durable consumer's lag, in stream order."""
    found = []
    for stream in HISTORY:
        offset = 0
        while True:
            answer = await connection.api(f"CONSUMER.LIST.{stream.name}", {"offset": offset})
            page = answer.get("consumers") or []
            for consumer in page:
                if consumer["config"].get("durable_name"):
                    waiting = consumer["num_pending"] + consumer["num_ack_pending"]
                    found.append(Lag(stream.name, consumer["name"], waiting))
            offset += len(page)
            if not page or offset >= answer["total"]:
                break
    return found


async def projection_lag(connection: Connection, database: Database) -> int:
    """Events that some projection has not stored yet, over all streams; by position, not by acknowledgement."""
    try:
        rows = await database.fetch("SELECT stream, min(position) AS position FROM projection_position GROUP BY stream")
    except _NO_TABLES:
        rows = []
    positions = {row["stream"]: row["position"] for row in rows}
    behind = 0
    for stream in HISTORY:
        if stream.name in positions:
            found = await topology.info(connection, stream.name)
            behind += max(0, (found["state"]["last_seq"] if found else 0) - positions[stream.name])
    return behind if rows else 1


async def latency_ms(database: Database) -> tuple[float | None, float | None]:
    """(p50, p99) in ms from the detection of a trade to its decisions, the paper latency model included; the tries of
    owed exits, which come later by intent, are left out."""
    row = await database.fetchrow(
        "SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP "
        "(ORDER BY extract(epoch FROM decided_at - detect_time) * 1000) AS p FROM copy_attempt WHERE exit_try = 0"
    )
    values = row["p"] if row else None
    return (round(float(values[0]), 1), round(float(values[1]), 1)) if values else (None, None)


async def sample_attempt(database: Database) -> str | None:
    """The first EXECUTE (else the first decision) of the log: an id worth tracing."""
    found: str | None = await database.fetchval(
        "SELECT attempt_id FROM copy_attempt ORDER BY (decision = 'EXECUTE') DESC, event_time, attempt_id LIMIT 1"
    )
    return found


NO_EXITS = {"held": 0, "at_once": 0, "later": 0, "owed": 0, "oldest_s": 0, "open_copies_of_flat": 0}


async def exits(database: Database, now: int) -> dict[str, int | float]:
    """What became of the exits of positions that copies held, per subscription and asset; `now` is the log's time
    (ns)."""
    counts = await exit_counts(database)
    oldest = max(0.0, now / 1e9 - counts.oldest.timestamp()) if counts.oldest else 0
    return {
        "held": counts.held,
        "at_once": counts.at_once,
        "later": counts.later,
        "owed": counts.owed,
        "oldest_s": round(oldest, 1),
        "open_copies_of_flat": await open_copies_of_flat(database),
    }


async def closing(connection: Connection, database: Database, now: int) -> dict[str, Any]:
    """The report of `up --seconds --json` and `demo --seconds --json`, over the whole log; `now` is its time (ns)."""
    have = await counts(database)
    p50, p99 = await latency_ms(database) if have.events else (None, None)
    return {
        "raw_events": have.of("raw.received"),
        "signals": have.of("signal.recorded"),
        "groups": have.of("group.closed"),
        "requests": have.of("execution.requested"),
        "decisions": {name: have.decisions.get(name, 0) for name in ("EXECUTE", "SKIP")},
        "fills": have.of("order.filled"),
        "ledger_entries": await ledger_rows(database),
        "dead_letters": have.of("event.dead_lettered"),
        "lag": sum(lag.waiting for lag in await lags(connection)) + await projection_lag(connection, database),
        "p50_ms": p50,
        "p99_ms": p99,
        "exits": await exits(database, now) if have.events else NO_EXITS,
        "sample_attempt_id": await sample_attempt(database) if have.events else None,
    }


async def exits_waiting(database: Database) -> str | None:
    """None when no copy owes anything, else how many exits are owed, or that Postgres does not answer at the time."""
    try:
        owed = await owed_now(database)
    except _NO_TABLES:
        return None
    except Exception as error:
        if not is_transient(error):
            raise
        return f"a server is away: {error}"
    return f"{owed} exits owed" if owed else None


async def drained(connection: Connection, database: Database) -> str | None:
    """None when every event is processed, else which are not, or that a server does not answer at the time."""
    try:
        behind = await projection_lag(connection, database)
        if behind:
            return f"{behind} events not in the read models"
        unfinished = (await counts(database)).unfinished()
        if unfinished:
            return ", ".join(f"{count} {what}" for what, count in unfinished.items())
        waiting = sum(lag.waiting for lag in await lags(connection))
        return f"{waiting} events waiting in consumers" if waiting else None
    except Exception as error:
        if not is_transient(error):
            raise
        return f"a server is away: {error}"
