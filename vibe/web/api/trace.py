"""The audit: any id becomes the causal chain around it, from the raw event to the ledger entry."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from domain.events import Check, CopyDecided
from handlers.services.trace import Trace, Tracer, time_of
from handlers.services.trace_verification import verify_trace
from projections.queries import attempts as queries
from projections.queries.ledger import LedgerLine, ledger_of_attempt
from projections.queries.markets import asset_names
from projections.queries.trace_index import PostgresTraceIndex
from streams.envelope import Recorded
from streams.reader import get
from streams.topology import HISTORY
from vibe.web.asked import Id
from vibe.web.problems import NotFoundError
from vibe.web.routing import Call, Page, Routes
from vibe.web.site import Site

routes = Routes("trace")

_ATTEMPTS = 50
_VERIFYING = asyncio.Semaphore(1)


class ById(Struct, frozen=True, kw_only=True):
    id: Id


class ByPlace(Struct, frozen=True, kw_only=True):
    stream: Id
    sequence: int


class Hop(Struct, frozen=True, kw_only=True):
    """One event of the chain. `facts` is JSON as text, with every digit; `happened_us` counts from the Unix epoch.

    `place` is its address in the log, `cause` that of the event which led to it.
    """

    place: str
    stream: str
    type: str
    id: str
    source: str
    subject: str
    stored_at: str
    happened_us: int
    cause: str | None
    correlation: str | None
    facts: str


class TracedAttempt(Struct, frozen=True, kw_only=True):
    """One decision of the chain: its own events, its checks with input and limit, and its ledger entries."""

    attempt_id: str
    decision: str | None
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    hops: tuple[Hop, ...]
    ledger: tuple[LedgerLine, ...]


class TraceDocument(Struct, frozen=True, kw_only=True):
    """The chain around an id. `shared` is what all decisions have in common; `more_attempts` counts those left out."""

    id: str
    found_as: str
    shared: tuple[Hop, ...]
    attempts: tuple[TracedAttempt, ...]
    more_attempts: int
    dead_letters: tuple[Hop, ...]
    names: dict[str, str]


class Verification(Struct, frozen=True, kw_only=True):
    """Whether a decision comes out the same from the log alone. `equal` is None where an input is gone, `why` says
    which."""

    attempt_id: str
    equal: bool | None
    field: str | None = None
    stored: str | None = None
    again: str | None = None
    why: str | None = None


class Before(Struct, frozen=True, kw_only=True):
    """The portfolio right before a decision: cash and the asset's shares (signed), by its ledger entries."""

    attempt_id: str
    cash_micros: int
    share_micros: int
    equity_micros: int


class Message(Struct, frozen=True, kw_only=True):
    """One message as the log holds it."""

    stream: str
    sequence: int
    subject: str
    text: str


@routes.get("/trace/{id:.+}", "trace")
async def trace(call: Call, asked: ById) -> TraceDocument:
    """Everything that led to an id, and everything it led to: any id of ours, a venue's id or hash, or a place."""
    found = await _trace(call.site, asked.id)
    shown = found.attempts[:_ATTEMPTS]
    assets = {asset for hop in found.shared if (asset := getattr(hop.data, "asset", None))}
    assets |= {asset for one in shown for hop in one.hops if (asset := getattr(hop.data, "asset", None))}
    return TraceDocument(
        id=asked.id,
        found_as=found.found_as,
        shared=_hops(found.shared),
        attempts=tuple([await _attempt(call.site, one.attempt_id, one.hops) for one in shown]),
        more_attempts=len(found.attempts) - len(shown),
        dead_letters=_hops(found.dead),
        names=await asset_names(call.site.pool, assets),
    )


async def _trace(site: Site, wanted: str) -> Trace:
    found = await Tracer(site.connection, PostgresTraceIndex(site.pool)).trace(wanted)
    if found is None:
        raise NotFoundError(
            f"nothing has the id {wanted!r}; searched decisions, requests, orders, fills, ledger entries, quotes, "
            "groups, signals, raw events, venue trade ids and hashes, dead letters, and places such as EXECUTIONS:14"
        )
    return found


def _hops(events: Sequence[Recorded]) -> tuple[Hop, ...]:
    return tuple(
        Hop(
            place=event.at,
            stream=event.stream,
            type=event.type,
            id=event.id,
            source=event.source,
            subject=event.subject,
            stored_at=event.time,
            happened_us=time_of(event) // 1000,
            cause=event.causation,
            correlation=event.correlation,
            facts=msgspec.json.format(msgspec.json.encode(event.data)).decode(),
        )
        for event in events
    )


async def _attempt(site: Site, attempt_id: str, hops: Sequence[Recorded]) -> TracedAttempt:
    stored = next((hop.data for hop in hops if isinstance(hop.data, CopyDecided)), None)
    detail = await queries.attempt(site.pool, attempt_id)
    return TracedAttempt(
        attempt_id=attempt_id,
        decision=stored.decision.value if stored else None,
        reasons=tuple(reason.value for reason in stored.reasons) if stored else (),
        checks=detail.checks if detail is not None else (),
        hops=_hops(hops),
        ledger=tuple(await ledger_of_attempt(site.pool, attempt_id)),
    )


@routes.get("/attempts/{id}/verification", "verifyAttempt")
async def verify_attempt(call: Call, asked: ById) -> Page[Verification]:
    """Make a decision again from the log alone and compare every field. Only one is made again at a time."""
    site = call.site
    if await queries.attempt(site.pool, asked.id) is None:
        raise NotFoundError(f"there is no decision {asked.id!r}")
    found = await _trace(site, asked.id)
    one = found._replace(attempts=[each for each in found.attempts if each.attempt_id == asked.id][:1])
    async with _VERIFYING:
        verdicts = await verify_trace(site.connection, one)
    items = []
    for attempt_id, verdict in verdicts.items():
        facts = verdict.facts()
        items.append(
            Verification(
                attempt_id=attempt_id,
                equal=facts["equal"],
                field=facts.get("field"),
                stored=msgspec.json.encode(facts["stored"]).decode() if "stored" in facts else None,
                again=msgspec.json.encode(facts["again"]).decode() if "again" in facts else None,
                why=facts.get("why"),
            )
        )
    return Page(items=items)


_BEFORE = """
SELECT a.equity_micros,
    (b.cash - coalesce(l.cash, 0))::bigint AS cash_micros, (b.share - coalesce(l.share, 0))::bigint AS share_micros
FROM copy_attempt a
CROSS JOIN LATERAL (
    SELECT coalesce(sum(cash_micros), 0) AS cash,
        coalesce(sum(share_micros) FILTER (WHERE venue = a.venue AND asset = a.asset), 0) AS share
    FROM ledger_balance WHERE subscriber_id = a.subscriber_id
) b
CROSS JOIN LATERAL (
    SELECT sum(cash_delta_micros) AS cash,
        sum(share_delta_micros) FILTER (WHERE venue = a.venue AND asset = a.asset) AS share
    FROM ledger_entry e WHERE e.subscriber_id = a.subscriber_id AND e.booked_at >= a.decided_at - interval '1 minute'
        AND (e.sequence, e.index) >= (a.sequence, a.index)
) l
WHERE a.attempt_id = $1
"""


@routes.get("/attempts/{id}/portfolio", "getPortfolioBefore", reads=("copy_attempt", "ledger_entry"))
async def get_portfolio_before(call: Call, asked: ById) -> Before:
    """The subscriber's cash and position right before a decision."""
    rows = await call.site.pool.fetch(_BEFORE, asked.id)
    if not rows:
        raise NotFoundError(f"there is no decision {asked.id!r}")
    return Before(attempt_id=asked.id, **dict(rows[0]))


@routes.get("/log/{stream}/{sequence}", "getMessage")
async def get_message(call: Call, asked: ByPlace) -> Message:
    """One message of the log, as it is stored."""
    names = {stream.name for stream in HISTORY}
    if asked.stream not in names:
        raise NotFoundError(f"{asked.stream!r} is no stream; there are {', '.join(sorted(names))}")
    stored = await get(call.site.connection, asked.stream, asked.sequence) if asked.sequence > 0 else None
    if stored is None:
        raise NotFoundError(f"{asked.stream} holds no message {asked.sequence}")
    return Message(
        stream=asked.stream,
        sequence=asked.sequence,
        subject=stored.subject,
        text=stored.payload.decode(errors="replace"),
    )
