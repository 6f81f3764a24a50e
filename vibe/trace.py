"""Tracing: from any id to the whole chain of events around it.

Postgres finds, the log tells: read models only answer which sequence an id stands at. Every hop shown is the event
itself, read from its stream, and the way up follows the causation that each event carries.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import asyncpg

from domain.events import CopyDecided, Event, GroupClosed, QuoteCaptured, QuoteFailed, RawReceived
from domain.ids import derived
from handlers.live.event_codec import codec
from projections.models.ledger_entry import entry_of
from streams import subjects
from streams.connection import Connection
from streams.dead_letter_events import DEAD_TYPE
from streams.envelope import Recorded, nanoseconds
from streams.errors import UnprocessableError
from streams.reader import get, read_all
from streams.topology import DEAD, EXECUTIONS, GROUPS, HISTORY, RAW, SIGNALS

MAX_ATTEMPTS = 1000


class Attempt(NamedTuple):
    """One decision's own events, oldest first: request, decision, order, fills, result, position; its ledger rows."""

    attempt_id: str
    hops: list[Recorded]
    ledger: list[dict[str, Any]]


class Trace(NamedTuple):
    """`shared` is what all attempts have in common: raw events, signals, group, quote, fan-out; dead letters apart."""

    found_as: str
    shared: list[Recorded]
    attempts: list[Attempt]
    dead: list[Recorded]


class Tracer:
    """Answers traces; holds no state but its connections."""

    def __init__(self, connection: Connection, database: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._database = database
        self._codec = codec()

    async def trace(self, wanted: str) -> Trace | None:
        """The chain around an id of ours, a venue's trade id or hash, or a place 'STREAM:sequence'; None = unknown."""
        if (place := await self._place(wanted)) is not None:
            return place
        base, dot, suffix = wanted.rpartition(".")
        if dot and suffix in _SUFFIXES:
            wanted = base
        row = await self._fetch(_ATTEMPT, wanted, derived("att", wanted))
        if row:
            return await self._of_attempts(row[0]["found_as"], [found["attempt_id"] for found in row])
        row = await self._fetch(_GROUP, wanted)
        if row:
            return await self._of_group(row[0]["found_as"], row[0]["closed_sequence"])
        rows = await self._fetch(_TRADE, wanted)
        if rows:
            return await self._of_trades(rows[0]["found_as"], rows)
        row = await self._fetch(_DEPOSIT, wanted, entry_of(wanted))
        if row:
            event = await self._get(EXECUTIONS.name, row[0]["sequence"])
            cause = await self._cause(event) if event else None
            return Trace("ledger entry", [hop for hop in (cause, event) if hop], [], [])
        return await self._raw(wanted)

    async def _fetch(self, query: str, *wanted: str) -> list[Any]:
        try:
            return list(await self._database.fetch(query, *wanted))
        except asyncpg.UndefinedTableError:
            return []

    async def _get(self, stream: str, sequence: int) -> Recorded | None:
        stored = await get(self._connection, stream, sequence)
        if stored is None:
            return None
        return self._codec.decode(stream, sequence, stored.subject, stored.payload)

    async def _cause(self, event: Recorded) -> Recorded | None:
        stream, _, sequence = (event.causation or "").partition(":")
        return await self._get(stream, int(sequence)) if sequence else None

    async def _place(self, wanted: str) -> Trace | None:
        stream, _, sequence = wanted.partition(":")
        if stream not in {known.name for known in HISTORY} or not sequence.isdigit():
            return None
        event = await self._get(stream, int(sequence))
        if event is None:
            return None
        for key in ("attempt_id", "group_id", "signal_id", "raw_id"):
            known = getattr(event.data, key, None)
            if known is not None and (found := await self.trace(known)) is not None:
                return found._replace(found_as=f"place {wanted}")
        group = getattr(event.data, "group", None)
        if group is not None and (found := await self.trace(group.group_id)) is not None:
            return found._replace(found_as=f"place {wanted}")
        return Trace(f"place {wanted}", [event], [], [])

    async def _of_attempts(self, found_as: str, attempt_ids: list[str]) -> Trace:
        first = await self._database.fetchrow("SELECT * FROM copy_attempt WHERE attempt_id = $1", attempt_ids[0])
        assert first is not None
        group = await self._database.fetchrow(
            "SELECT closed_sequence FROM signal_group WHERE group_id = $1", first["group_id"]
        )
        shared = await self._group_hops(group["closed_sequence"]) if group else []
        return Trace(found_as, shared, [await self._attempt(attempt_id) for attempt_id in attempt_ids], [])

    async def _of_group(self, found_as: str, closed_sequence: int) -> Trace:
        shared = await self._group_hops(closed_sequence)
        group_id = next(hop.data.group_id for hop in shared if isinstance(hop.data, GroupClosed))
        rows = await self._database.fetch(
            "SELECT attempt_id FROM copy_attempt WHERE group_id = $1 ORDER BY sequence LIMIT $2",
            group_id,
            MAX_ATTEMPTS,
        )
        return Trace(found_as, shared, [await self._attempt(row["attempt_id"]) for row in rows], [])

    async def _of_trades(self, found_as: str, rows: list[Any]) -> Trace:
        groups = await self._database.fetch(
            "SELECT DISTINCT closed_sequence FROM signal_group WHERE signal_ids && $1::text[] ORDER BY 1",
            [row["signal_id"] for row in rows],
        )
        traces = [await self._of_group(found_as, row["closed_sequence"]) for row in groups]
        shared = [hop for trace in traces for hop in trace.shared]
        seen = {hop.at for hop in shared}
        alone: list[Recorded] = []
        for row in rows:  # a historic trade has a signal and no group
            for stream, sequence in ((RAW.name, row["raw_sequence"]), (SIGNALS.name, row["signal_sequence"])):
                if f"{stream}:{sequence}" not in seen and (event := await self._get(stream, sequence)):
                    alone.append(event)
        return Trace(found_as, [*alone, *shared], [attempt for trace in traces for attempt in trace.attempts], [])

    async def _group_hops(self, closed_sequence: int) -> list[Recorded]:
        closed = await self._get(GROUPS.name, closed_sequence)
        if closed is None:
            return []
        group: GroupClosed = closed.data
        signals = [await self._get(SIGNALS.name, sequence) for sequence in group.signal_sequences]
        raws = [await self._cause(signal) for signal in signals if signal]
        quote = await self._database.fetchrow(
            "SELECT wanted_sequence, outcome_sequence FROM quote WHERE group_id = $1", group.group_id
        )
        fan_out = await self._database.fetchrow(
            "SELECT matched_sequence FROM group_fan_out WHERE group_id = $1", group.group_id
        )
        hops = [*raws, *signals, closed]
        if quote:
            hops.append(await self._get(GROUPS.name, quote["wanted_sequence"]))
            hops.append(await self._get(GROUPS.name, quote["outcome_sequence"]))
        if fan_out:
            hops.append(await self._get("REQUESTS", fan_out["matched_sequence"]))
        return [hop for hop in hops if hop is not None]

    async def _attempt(self, attempt_id: str) -> Attempt:
        row = await self._database.fetchrow("SELECT sequence FROM copy_attempt WHERE attempt_id = $1", attempt_id)
        assert row is not None
        decided = await self._get(EXECUTIONS.name, row["sequence"])
        hops: list[Recorded] = []
        if decided is not None:
            request = await self._cause(decided)  # requests are kept for 90 days
            hops = [request, decided] if request else [decided]
        for order in await self._database.fetch(
            "SELECT submitted_sequence, completed_sequence FROM execution WHERE attempt_id = $1", attempt_id
        ):
            # An order, its fills, its result and the position after stand together, committed as one.
            last = (order["completed_sequence"] or order["submitted_sequence"]) + 1
            for sequence in range(order["submitted_sequence"], last + 1):
                event = await self._get(EXECUTIONS.name, sequence)
                if event is not None and _belongs(event, attempt_id, hops):
                    hops.append(event)
        ledger = await self._database.fetch(
            "SELECT * FROM ledger_entry WHERE attempt_id = $1 ORDER BY sequence", attempt_id
        )
        return Attempt(attempt_id, hops, [dict(entry) for entry in ledger])

    async def _raw(self, wanted: str) -> Trace | None:
        """A raw event that led to no trade: its subject is known from its id; or a dead letter by its own id."""
        dead = [
            letter
            for letter in await self._dead()
            if wanted in (letter.id, f"{letter.data.stream}:{letter.data.sequence}")
        ]
        if dead:
            return Trace("dead letter", [], [], dead)
        if wanted.startswith("seed_"):
            seeded = await self._search(SIGNALS.name, "signals.*.*.*._account", wanted, "seed_id")
            raw = await self._cause(seeded) if seeded else None
            return Trace("account seed", [hop for hop in (raw, seeded) if hop], [], []) if seeded else None
        address = _ADDRESS.search(wanted)
        if not wanted.startswith("hl:") or address is None:
            return None
        subject = f"raw.*.hyperliquid.*.{subjects.token(address[0])}"
        raw = await self._search(RAW.name, subject, wanted, "raw_id")
        if raw is None:
            return None
        dead = [
            each for each in await self._dead() if each.data.stream == RAW.name and each.data.sequence == raw.sequence
        ]
        return Trace("raw event", [raw], [], dead)

    async def _search(self, stream: str, subject: str, wanted: str, field: str) -> Recorded | None:
        """The event on a subject whose own id is the wanted one; for the few kinds that no read model holds."""
        async for batch in read_all(self._connection, stream, [subject]):
            for stored in batch:
                if wanted.encode() in stored.payload:
                    event = self._codec.decode(stream, stored.sequence, stored.subject, stored.payload)
                    if getattr(event.data, field, None) == wanted:
                        return event
        return None

    async def _dead(self) -> list[Recorded]:
        found = []
        async for batch in read_all(self._connection, DEAD.name):
            for stored in batch:
                try:
                    event = self._codec.decode(DEAD.name, stored.sequence, stored.subject, stored.payload)
                except UnprocessableError:
                    continue  # not one of ours, and for ever
                if event.type == DEAD_TYPE:
                    found.append(event)
        return found


def _belongs(event: Recorded, attempt_id: str, hops: list[Recorded]) -> bool:
    if getattr(event.data, "attempt_id", None) == attempt_id:
        return True
    orders = {getattr(hop.data, "order_id", None) for hop in hops} - {None}
    return getattr(event.data, "order_id", None) in orders


_SUFFIXES = frozenset({"grouped", "wanted", "matched", "completed", "position"})
"""What is added to the id of a thing for the ids of events about it, such as 'grp_….matched'."""
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")

_ATTEMPT = """
SELECT attempt_id, 'decision' AS found_as FROM copy_attempt WHERE attempt_id = $1
UNION ALL SELECT attempt_id, 'request' FROM copy_attempt WHERE attempt_id = $2
UNION ALL SELECT attempt_id, 'order' FROM execution WHERE order_id = $1 OR cloid = $1
UNION ALL SELECT attempt_id, 'fill' FROM executable_fill WHERE fill_id = $1
UNION ALL SELECT attempt_id, 'ledger entry' FROM ledger_entry WHERE entry_id = $1 AND attempt_id IS NOT NULL
"""
_GROUP = """
SELECT closed_sequence, 'signal group' AS found_as FROM signal_group WHERE group_id = $1
UNION ALL SELECT g.closed_sequence, 'quote' FROM quote q JOIN signal_group g USING (group_id) WHERE q.quote_id = $1
"""
_TRADE = """
SELECT signal_id, raw_sequence, signal_sequence,
    CASE $1 WHEN signal_id THEN 'signal' WHEN source_event_id THEN 'raw event'
            WHEN venue_trade_id THEN 'venue trade id' ELSE 'venue hash' END AS found_as
FROM trade_event
WHERE signal_id = $1 OR source_event_id = $1 OR venue_trade_id = $1 OR venue_hash = $1
ORDER BY signal_sequence LIMIT 200
"""
_DEPOSIT = "SELECT sequence FROM ledger_entry WHERE entry_id IN ($1, $2)"


def first_time(trace: Trace) -> int:
    """When (ns) the first thing was detected: what latencies are counted from."""
    for hop in trace.shared:
        if isinstance(hop.data, RawReceived):
            return hop.data.detect_time
    everything = [*trace.shared, *(hop for attempt in trace.attempts for hop in attempt.hops), *trace.dead]
    return nanoseconds(everything[0].time) if everything else 0


def moment_of(event: Recorded) -> int:
    """When (ns) an event happened: the instant that its facts name, else when it was recorded."""
    facts: Event = event.data
    match facts:
        case RawReceived():
            return facts.detect_time
        case GroupClosed():
            return facts.closed_at
        case QuoteCaptured():
            return facts.captured_at
        case QuoteFailed():
            return facts.failed_at
        case CopyDecided():
            return facts.decided_at
    return nanoseconds(event.time)
