"""Tracing: from any id to the whole chain of events around it.

A `TraceIndex` answers at which sequences the events of an id are stored; every event shown is read from its stream, and
the way back to the raw event follows the causation that each event carries.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Protocol

from domain.events import (
    CashDeposited,
    CopyDecided,
    Event,
    ExitDue,
    ExitEnded,
    GroupCause,
    GroupClosed,
    Mode,
    OrderConfirmed,
    OrderResulted,
    OrderSent,
    OrderSigned,
    OrderSubmitted,
    PositionSettled,
    QuoteCaptured,
    QuoteFailed,
    RawReceived,
    SettlementCorrected,
)
from handlers.live.event_codec import codec
from streams import subjects
from streams.connection import Connection
from streams.dead_letters import DEAD_TYPE
from streams.envelope import Address, Recorded, nanoseconds, parse_address
from streams.errors import UnprocessableError
from streams.reader import get, read_all
from streams.topology import DEAD, EXECUTIONS, GROUPS, HISTORY, RAW, REQUESTS, SIGNALS

MAX_ATTEMPTS = 1000
"""Decisions shown of one group."""

_CASH_ENTRIES = (CashDeposited, PositionSettled, SettlementCorrected)
"""Events that a ledger entry without a decision books."""
_SUFFIXES = frozenset(
    {
        "grouped",
        "wanted",
        "matched",
        "completed",
        "corrected",
        "signed",
        "resulted",
        "confirmed",
        "position",
        "owed",
        "scheduled",
        "cancelled",
        "ended",
    }
)
"""What is added to an id for the ids of events about it, such as 'grp_….matched'."""
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")


class TraceIndex(Protocol):
    """Which commits hold the events of an id: sequences in SIGNALS, GROUPS, REQUESTS and EXECUTIONS. `projections`
    implements it.

    The first four methods look an id up; what they return first is the kind of thing that the id names.
    """

    async def find_attempts(self, wanted: str) -> tuple[str, list[str]] | None:
        """The decisions that an id of a decision, request, order, fill, ledger entry or owed exit belongs to."""

    async def find_group(self, wanted: str) -> tuple[str, int] | None:
        """The GROUPS sequence at which the group was closed that an id of a group or quote belongs to."""

    async def find_trades(self, wanted: str) -> tuple[str, list[tuple[str, int, int]]] | None:
        """(signal id, RAW sequence, SIGNALS sequence) of each trade with this signal id, raw id, venue id or hash."""

    async def find_cash_entry(self, wanted: str) -> int | None:
        """The EXECUTIONS sequence booked by a ledger entry without a decision, by its own id or its source event's."""

    async def groups_of_signals(self, signal_ids: list[str]) -> list[int]:
        """The GROUPS sequences at which the groups of these signals were closed, in order."""

    async def group_of_attempt(self, attempt_id: str) -> int | None:
        """The GROUPS sequence at which the group of a decision was closed."""

    async def attempts_of_group(self, group_id: str, limit: int) -> list[str]:
        """The first `limit` decisions about a group, in order."""

    async def quote_of_group(self, group_id: str) -> tuple[int, int] | None:
        """The GROUPS sequences of the quote's intent and outcome."""

    async def fan_out_of_group(self, group_id: str) -> int | None:
        """The REQUESTS sequence of the summary of the fan-out."""

    async def decision(self, attempt_id: str) -> int:
        """The EXECUTIONS sequence of a decision that `find_attempts` or `attempts_of_group` returned."""

    async def orders(self, attempt_id: str) -> list[tuple[int, int | None]]:
        """The EXECUTIONS sequences at which each order of a decision was submitted and completed (None = not yet)."""

    async def ledger(self, attempt_id: str) -> list[dict[str, Any]]:
        """The ledger entries of a decision, in order, as rows of the read model ledger_entry."""


class Attempt(NamedTuple):
    """One decision's own events, oldest first: request, decision, order, fills, result, position, what is owed; its
    ledger rows. A try of an owed exit has its intent and its book before the request."""

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
    """Traces ids through the log; holds no state but its connections."""

    def __init__(self, connection: Connection, index: TraceIndex) -> None:
        self._connection = connection
        self._index = index
        self._codec = codec()

    async def trace(self, wanted: str) -> Trace | None:
        """The chain around an id of ours, a venue's trade id or hash, or an address 'STREAM:sequence.index' (without
        index: the commit's first event); None = unknown."""
        if (place := await self._place(wanted)) is not None:
            return place
        base, dot, suffix = wanted.rpartition(".")
        if dot and suffix in _SUFFIXES:
            wanted = base
        if (attempts := await self._index.find_attempts(wanted)) is not None:
            return await self._of_attempts(*attempts)
        if (group := await self._index.find_group(wanted)) is not None:
            return await self._of_group(*group)
        if (trades := await self._index.find_trades(wanted)) is not None:
            return await self._of_trades(*trades)
        if (sequence := await self._index.find_cash_entry(wanted)) is not None:
            event = await self._get(EXECUTIONS.name, sequence, _CASH_ENTRIES)
            cause = await self._cause(event) if event else None
            return Trace("ledger entry", [hop for hop in (cause, event) if hop], [], [])
        return await self._without_index(wanted)

    async def _commit(self, stream: str, sequence: int) -> list[Recorded]:
        """The events of a message; none when there is no such message."""
        stored = await get(self._connection, stream, sequence)
        return self._codec.decode(stream, sequence, stored.subject, stored.payload) if stored is not None else []

    async def _get(self, stream: str, sequence: int, kinds: tuple[type, ...] = (Event,)) -> Recorded | None:
        """The first event of a message that is of one of the kinds; None when there is none."""
        found = await self._commit(stream, sequence)
        return next((event for event in found if isinstance(event.data, kinds)), None)

    async def _cause(self, event: Recorded) -> Recorded | None:
        place = parse_address(event.causation)
        return await self._at(place) if place is not None else None

    async def _at(self, place: Address) -> Recorded | None:
        found = await self._commit(place.stream, place.sequence)
        index = place.index or 0
        return found[index] if index < len(found) else None

    async def _place(self, wanted: str) -> Trace | None:
        place = parse_address(wanted)
        if place is None or place.stream not in {known.name for known in HISTORY} or not place.sequence:
            return None
        event = await self._at(place)
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
        closed_sequence = await self._index.group_of_attempt(attempt_ids[0])
        shared = await self._group_hops(closed_sequence) if closed_sequence is not None else []
        return Trace(found_as, shared, [await self._attempt(attempt_id) for attempt_id in attempt_ids], [])

    async def _of_group(self, found_as: str, closed_sequence: int) -> Trace:
        shared = await self._group_hops(closed_sequence)
        group_id = next(hop.data.group_id for hop in shared if isinstance(hop.data, GroupClosed))
        attempt_ids = await self._index.attempts_of_group(group_id, MAX_ATTEMPTS)
        return Trace(found_as, shared, [await self._attempt(attempt_id) for attempt_id in attempt_ids], [])

    async def _of_trades(self, found_as: str, trades: list[tuple[str, int, int]]) -> Trace:
        closed = await self._index.groups_of_signals([signal_id for signal_id, _, _ in trades])
        traces = [await self._of_group(found_as, sequence) for sequence in closed]
        shared = [hop for trace in traces for hop in trace.shared]
        shown = {hop.at for hop in shared}
        ungrouped: list[Recorded] = []
        for _, raw_sequence, signal_sequence in trades:  # a historic trade has a signal and no group
            for stream, sequence in ((RAW.name, raw_sequence), (SIGNALS.name, signal_sequence)):
                event = await self._get(stream, sequence)
                if event is not None and event.at not in shown:
                    ungrouped.append(event)
        return Trace(found_as, [*ungrouped, *shared], [attempt for trace in traces for attempt in trace.attempts], [])

    async def _group_hops(self, closed_sequence: int) -> list[Recorded]:
        closed = await self._get(GROUPS.name, closed_sequence, (GroupClosed,))
        if closed is None:
            return []
        group: GroupClosed = closed.data
        signals = [
            event
            for sequence, signal_id in zip(group.signal_sequences, group.signal_ids, strict=False)
            for event in await self._commit(SIGNALS.name, sequence)
            if event.id == signal_id
        ]
        if group.cause is not GroupCause.TRADE and (found := await self._cause(closed)) is not None:
            signals = [found]  # the movement, or the gap
        raws = [await self._cause(signal) for signal in signals]
        hops = [*raws, *signals, closed]
        if (quote := await self._index.quote_of_group(group.group_id)) is not None:
            hops += [await self._get(GROUPS.name, sequence) for sequence in quote]
        if (fan_out := await self._index.fan_out_of_group(group.group_id)) is not None:
            hops.append(await self._get(REQUESTS.name, fan_out))
        return [hop for hop in hops if hop is not None]

    async def _attempt(self, attempt_id: str) -> Attempt:
        sequences = [await self._index.decision(attempt_id)]
        for order in await self._index.orders(attempt_id):
            sequences += [sequence for sequence in order if sequence is not None]
        ledger = await self._index.ledger(attempt_id)
        sequences += [entry["sequence"] for entry in ledger]
        hops: list[Recorded] = []
        for sequence in sorted(set(sequences)):
            for event in await self._commit(EXECUTIONS.name, sequence):
                if _belongs(event, attempt_id, hops):
                    hops.append(event)
        hops = await self._with_venue(hops)
        if hops and (request := await self._cause(hops[0])) is not None:  # requests are kept for 90 days
            hops.insert(0, request)
            tried = await self._cause(request)
            if tried is not None and isinstance(tried.data, ExitDue):
                scheduled = await self._cause(tried)
                hops[:0] = [hop for hop in (scheduled, tried) if hop is not None]
        return Attempt(attempt_id, hops, ledger)

    async def _with_venue(self, hops: list[Recorded]) -> list[Recorded]:
        """The same with what was signed for a live order, sent to the venue and answered, in the order of their times;
        these are kept for 90 days."""
        live = {hop.data.order_id: hop.data for hop in hops if is_live(hop.data)}
        found: list[Recorded] = []
        for subscriber_id in {order.subscriber_id for order in live.values()}:
            async for batch in read_all(self._connection, REQUESTS.name, [subjects.orders(subscriber_id)]):
                for stored in batch:
                    events = self._codec.decode(REQUESTS.name, stored.sequence, stored.subject, stored.payload)
                    found += [event for event in events if order_id_of(event.data) in live]
        return sorted([*hops, *found], key=lambda hop: nanoseconds(hop.time)) if found else hops

    async def _without_index(self, wanted: str) -> Trace | None:
        """A dead letter by its own id or its origin, an account snapshot, or a raw event that led to no trade."""
        dead = [each for each in await self._dead() if wanted in (each.id, each.data.origin)]
        if dead:
            return Trace("dead letter", [], [], dead)
        if wanted.startswith("seed_"):
            snapshot = await self._search(SIGNALS.name, f"signals.*.*.*.{subjects.ACCOUNT_TOKEN}", wanted, "seed_id")
            raw = await self._cause(snapshot) if snapshot else None
            return Trace("account snapshot", [hop for hop in (raw, snapshot) if hop], [], []) if snapshot else None
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
                    for event in self._codec.decode(stream, stored.sequence, stored.subject, stored.payload):
                        if getattr(event.data, field, None) == wanted:
                            return event
        return None

    async def _dead(self) -> list[Recorded]:
        found = []
        async for batch in read_all(self._connection, DEAD.name):
            for stored in batch:
                try:
                    events = self._codec.decode(DEAD.name, stored.sequence, stored.subject, stored.payload)
                except UnprocessableError:
                    continue  # another program's message: it stays in the stream for as long as DEAD keeps it
                found += [event for event in events if event.type == DEAD_TYPE]
        return found


def _belongs(event: Recorded, attempt_id: str, hops: list[Recorded]) -> bool:
    if getattr(event.data, "attempt_id", None) == attempt_id:
        return True
    if isinstance(event.data, ExitEnded):
        return event.data.exit_id in {getattr(hop.data, "exit_id", None) for hop in hops}
    orders = {getattr(hop.data, "order_id", None) for hop in hops} - {None}
    return getattr(event.data, "order_id", None) in orders


def is_live(data: object) -> bool:
    """True for an order that goes to the venue."""
    return isinstance(data, OrderSubmitted) and data.mode is Mode.LIVE


def order_id_of(data: object) -> str | None:
    """The order that an event of REQUESTS is about."""
    if isinstance(data, OrderSigned | OrderResulted | OrderConfirmed):
        return data.order.order_id
    return data.order_id if isinstance(data, OrderSent) else None


def first_time(trace: Trace) -> int:
    """When (ns) the first event was detected: what latencies are counted from; 0 for an empty trace."""
    for hop in trace.shared:
        if isinstance(hop.data, RawReceived):
            return hop.data.detect_time
    everything = [*trace.shared, *(hop for attempt in trace.attempts for hop in attempt.hops), *trace.dead]
    return nanoseconds(everything[0].time) if everything else 0


def time_of(event: Recorded) -> int:
    """When (ns) an event happened: the time that its facts name, else when it was recorded."""
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
        case OrderSent():
            return facts.sent_at
    return nanoseconds(event.time)
