"""Trades of influencers and the attempts to copy them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from domain.reason_codes import Reason
from projections.queries import attempts as queries
from projections.queries.attempts import AttemptDetail, Fill, Order
from projections.queries.copies import (
    CopiedTrade,
    Copy,
    Counted,
    Filters,
    copied_trades,
    copies,
    copies_of_group,
    counted,
)
from projections.queries.ledger import LedgerLine, ledger_of_attempt
from projections.queries.markets import asset_names
from vibe.web.asked import CursorText, Id, Limit, aware
from vibe.web.cursor import decode, encode
from vibe.web.problems import NotFoundError
from vibe.web.routing import Call, Page, Routes

routes = Routes("copies")

Decided = Literal["EXECUTE", "SKIP"]
Mode = Literal["paper", "live", "record_only"]
_DEFAULT_SPAN = timedelta(days=1)


class ListedAttempts(Struct, frozen=True, kw_only=True):
    subscriber: Id | None = None
    influencer: Id | None = None
    market: Id | None = None
    decision: Decided | None = None
    reason: Id | None = None
    mode: Mode | None = None
    since: datetime | None = None
    until: datetime | None = None
    cursor: CursorText | None = None
    limit: Limit = 50


class CountedAttempts(Struct, frozen=True, kw_only=True):
    subscriber: Id | None = None
    influencer: Id | None = None
    market: Id | None = None
    mode: Mode | None = None
    since: datetime | None = None
    until: datetime | None = None


class ListedTrades(Struct, frozen=True, kw_only=True):
    influencer: Id | None = None
    market: Id | None = None
    since: datetime | None = None
    until: datetime | None = None
    cursor: CursorText | None = None
    limit: Limit = 50


class ByAttempt(Struct, frozen=True, kw_only=True):
    attempt_id: Id


class ByGroup(Struct, frozen=True, kw_only=True):
    group_id: Id


class Decision(Struct, frozen=True, kw_only=True):
    """One decision with everything that followed it."""

    attempt: AttemptDetail
    orders: tuple[Order, ...]
    fills: tuple[Fill, ...]
    ledger: tuple[LedgerLine, ...]
    names: dict[str, str]


class ReasonText(Struct, frozen=True, kw_only=True):
    code: str
    text: str


@routes.get("/attempts", "listAttempts", reads=("copy_attempt",))
async def list_attempts(call: Call, asked: ListedAttempts) -> Page[Copy]:
    """Decisions with what was filled, executed and skipped in one list, newest first."""
    after = decode(asked.cursor, tuple[datetime, int])
    items = await copies(
        call.site.pool,
        Filters(
            subscriber_id=asked.subscriber,
            influencer_id=asked.influencer,
            asset=asked.market,
            decision=asked.decision,
            reason=asked.reason,
            mode=asked.mode,
            since=aware(asked.since, "since"),
            until=aware(asked.until, "until"),
        ),
        after=after,
        limit=asked.limit,
    )
    behind = encode(items[-1].decided_at, items[-1].sequence) if len(items) == asked.limit else None
    return Page(items=items, next=behind, names=await asset_names(call.site.pool, {one.asset for one in items}))


@routes.get("/attempts/counts", "countAttempts", reads=("copy_attempt",), minutely=True)
async def count_attempts(call: Call, asked: CountedAttempts) -> Counted:
    """How many decisions of a time were executed, and how many were skipped by each reason; the last day unless
    `since` is given."""
    since = aware(asked.since, "since") or (asked.until or call.site.now()) - _DEFAULT_SPAN
    return await counted(
        call.site.pool,
        Filters(
            subscriber_id=asked.subscriber,
            influencer_id=asked.influencer,
            asset=asked.market,
            mode=asked.mode,
            since=since,
            until=aware(asked.until, "until"),
        ),
    )


@routes.get("/attempts/{attempt_id}", "getAttempt", reads=("copy_attempt", "ledger_entry"))
async def get_attempt(call: Call, asked: ByAttempt) -> Decision:
    """One decision with its checks, orders, fills and ledger entries."""
    db, attempt_id = call.site.pool, asked.attempt_id
    found = await queries.attempt(db, attempt_id)
    if found is None:
        raise NotFoundError(f"there is no decision {attempt_id!r}; GET /api/v1/trace/{{id}} takes any id")
    return Decision(
        attempt=found,
        orders=tuple(await queries.orders_of_attempt(db, attempt_id)),
        fills=tuple(await queries.fills_of_attempt(db, attempt_id)),
        ledger=tuple(await ledger_of_attempt(db, attempt_id)),
        names=await asset_names(db, [found.asset]),
    )


@routes.get("/trades", "listTrades", reads=("signal_group", "copy_attempt"))
async def list_trades(call: Call, asked: ListedTrades) -> Page[CopiedTrade]:
    """Trades of influencers with how many copies of each were executed and skipped, newest first."""
    after = decode(asked.cursor, tuple[datetime, int])
    items = await copied_trades(
        call.site.pool,
        influencer_id=asked.influencer,
        asset=asked.market,
        since=aware(asked.since, "since"),
        until=aware(asked.until, "until") or call.site.now() + timedelta(days=1),
        after=after,
        limit=asked.limit,
    )
    behind = encode(items[-1].closed_at, items[-1].closed_sequence) if len(items) == asked.limit else None
    return Page(items=items, next=behind, names=await asset_names(call.site.pool, {one.asset for one in items}))


@routes.get("/trades/{group_id}/copies", "listCopiesOfTrade", reads=("copy_attempt",))
async def list_copies_of_trade(call: Call, asked: ByGroup) -> Page[Copy]:
    """The decisions about one trade, in the order of the log."""
    return Page(items=await copies_of_group(call.site.pool, asked.group_id))


@routes.get("/reasons", "listReasons")
async def list_reasons(call: Call) -> Page[ReasonText]:
    """What every reason code of a decision or an order means."""
    return Page(items=[ReasonText(code=reason.value, text=reason.text) for reason in Reason])
