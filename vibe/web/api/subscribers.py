"""Subscribers and subscriptions."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from projections.queries import attempts as attempt_queries
from projections.queries.accounts import Account, Earlier, accounts
from projections.queries.attempts import Order
from projections.queries.exits import OwedExit, owed_exits
from projections.queries.ledger import Balance, LedgerLine, balances, ledger
from projections.queries.markets import asset_names
from projections.queries.subscribers import SubscriberMetrics, SubscriptionLine, subscriber_metrics, subscriptions
from vibe.web.asked import SPANS, CursorText, Id, Limit, Range
from vibe.web.cursor import decode, encode
from vibe.web.problems import BadRequestError, NotFoundError
from vibe.web.routing import Call, Page, Routes

routes = Routes("subscribers")

Scope = Literal["SUBSCRIBER", "EXEC_USER", "EXEC_GLOBAL"]


class ListedSubscribers(Struct, frozen=True, kw_only=True):
    scope: Scope = "SUBSCRIBER"
    cursor: CursorText | None = None
    limit: Limit = 100


class BySubscriber(Struct, frozen=True, kw_only=True):
    subscriber_id: Id
    range: Range = "30d"


class OfSubscriber(Struct, frozen=True, kw_only=True):
    subscriber_id: Id
    cursor: CursorText | None = None
    limit: Limit = 50


class ListedSubscriptions(Struct, frozen=True, kw_only=True):
    influencer_id: Id | None = None
    subscriber_id: Id | None = None
    cursor: CursorText | None = None
    limit: Limit = 100


class SubscriberDetail(Struct, frozen=True, kw_only=True):
    """A subscriber's portfolio now, how its copies went over the span, and its sums by influencer and asset."""

    account: Account
    metrics: SubscriberMetrics
    balances: tuple[Balance, ...]
    exits_owed: tuple[OwedExit, ...]
    names: dict[str, str]


@routes.get(
    "/subscribers",
    "listSubscribers",
    reads=("subscriber", "guardrail", "ledger_entry", "position", "market_price_snapshot"),
    minutely=True,
)
async def list_subscribers(call: Call, asked: ListedSubscribers) -> Page[Account]:
    """Subscribers of a scope by id, each with what its portfolio is worth."""
    after = decode(asked.cursor, tuple[str])
    items = await accounts(
        call.site.pool,
        scopes=(asked.scope,),
        after=after[0] if after else "",
        limit=asked.limit,
        earlier=Earlier.of(call.site.now()),
    )
    return Page(items=items, next=encode(items[-1].subscriber_id) if len(items) == asked.limit else None)


@routes.get(
    "/subscribers/{subscriber_id}",
    "getSubscriber",
    reads=("subscriber", "guardrail", "ledger_entry", "position", "copy_attempt", "market_price_snapshot"),
    minutely=True,
)
async def get_subscriber(call: Call, asked: BySubscriber) -> SubscriberDetail:
    """One subscriber: its portfolio, the rates of its copies over a span, and what it is owed."""
    site, name = call.site, asked.subscriber_id
    found = await accounts(
        site.pool,
        scopes=("SUBSCRIBER", "EXEC_USER", "EXEC_GLOBAL"),
        subscriber_id=name,
        limit=1,
        earlier=Earlier.of(site.now()),
    )
    if not found:
        raise NotFoundError(f"subscriber {name!r} is not configured; see GET /api/v1/subscribers")
    now = site.now()
    metrics = await site.cached(
        ("subscriber", name, asked.range),
        10,
        lambda: subscriber_metrics(site.pool, name, now - SPANS[asked.range], now + timedelta(days=1)),
    )
    sums = await balances(site.pool, name)
    return SubscriberDetail(
        account=found[0],
        metrics=metrics,
        balances=tuple(sums),
        exits_owed=tuple(await owed_exits(site.pool, subscriber_id=name)),
        names=await asset_names(site.pool, {each.asset for each in sums}),
    )


@routes.get("/subscribers/{subscriber_id}/ledger", "listLedger", reads=("ledger_entry",))
async def list_ledger(call: Call, asked: OfSubscriber) -> Page[LedgerLine]:
    """A subscriber's ledger entries, newest first."""
    after = decode(asked.cursor, tuple[datetime, int, int])
    items = await ledger(call.site.pool, asked.subscriber_id, after=after, limit=asked.limit)
    behind = encode(items[-1].booked_at, items[-1].sequence, items[-1].index) if len(items) == asked.limit else None
    names = await asset_names(call.site.pool, {one.asset for one in items if one.asset})
    return Page(items=items, next=behind, names=names)


@routes.get("/subscribers/{subscriber_id}/orders", "listOrders", reads=("copy_attempt",))
async def list_orders(call: Call, asked: OfSubscriber) -> Page[Order]:
    """A subscriber's orders, newest first."""
    before = decode(asked.cursor, tuple[datetime])
    items = await attempt_queries.orders_of_subscriber(
        call.site.pool, asked.subscriber_id, before=before[0] if before else None, limit=asked.limit
    )
    behind = encode(items[-1].submitted_at) if len(items) == asked.limit else None
    return Page(items=items, next=behind, names=await asset_names(call.site.pool, {one.asset for one in items}))


@routes.get("/subscriptions", "listSubscriptions", reads=("subscription",))
async def list_subscriptions(call: Call, asked: ListedSubscriptions) -> Page[SubscriptionLine]:
    """Subscriptions of an influencer or of a subscriber, by id."""
    if (asked.influencer_id is None) == (asked.subscriber_id is None):
        raise BadRequestError("give influencer_id or subscriber_id, one of them")
    after = decode(asked.cursor, tuple[str])
    items = await subscriptions(
        call.site.pool,
        influencer_id=asked.influencer_id,
        subscriber_id=asked.subscriber_id,
        after=after[0] if after else "",
        limit=asked.limit,
    )
    return Page(items=items, next=encode(items[-1].subscription_id) if len(items) == asked.limit else None)
