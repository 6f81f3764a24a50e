"""Decisions (copy attempts): lists, one with its checks, and the orders and fills of one."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from domain.events import Check
from projections.queries.fetch import Reader, many, one


class Attempt(Struct, frozen=True, kw_only=True):
    """One decision in a list. `share_micros` is the size to trade (a magnitude), `equity_micros` the portfolio's
    equity, `reference_price_micros` the influencer's price (0: it did not trade), `vwap_micros` the average price of
    its fills (None without an order in its commit, 0 without a fill), `reasons` are codes of domain/reason_codes.py.
    `sequence` and `index` are its address in EXECUTIONS."""

    attempt_id: str
    sequence: int
    index: int
    subscription_id: str
    subscriber_id: str
    influencer_id: str
    group_id: str
    scope: str
    mode: str
    venue: str
    asset: str
    market: str
    action: str
    trade_side: str
    decision: str
    reasons: tuple[str, ...]
    target_notional_micros: int
    share_micros: int
    limit_price_micros: int
    mid_micros: int
    reference_price_micros: int
    vwap_micros: int | None
    equity_micros: int
    event_time: datetime
    detect_time: datetime
    decided_at: datetime


class AttemptDetail(Attempt, frozen=True, kw_only=True):
    """One decision with its checks, what stays pending, and the sequence of each stream that its inputs were read
    to."""

    request_id: str
    request_sequence: int
    request_index: int
    quote_id: str | None
    reduce_micros: int
    residual_micros: int
    residual_share_micros: int
    policy_hash: str
    rules: int
    config_sequence: int
    marks_sequence: int
    checks: tuple[Check, ...]


class Order(Struct, frozen=True, kw_only=True):
    """An order and its result; `status` is SUBMITTED, FILLED, PARTIAL or UNFILLED, sizes are magnitudes."""

    order_id: str
    attempt_id: str
    cloid: str
    subscription_id: str
    mode: str
    venue: str
    asset: str
    trade_side: str
    status: str
    share_micros: int
    limit_price_micros: int
    filled_micros: int
    notional_micros: int
    fee_micros: int
    average_price_micros: int
    reasons: tuple[str, ...] | None
    submitted_at: datetime
    completed_at: datetime | None


class LiveOrder(Order, frozen=True, kw_only=True):
    """An order that went to a venue."""

    subscriber_id: str


class Fill(Struct, frozen=True, kw_only=True):
    """A fill at one level of the book; magnitudes in micros."""

    fill_id: str
    order_id: str
    sequence: int
    index: int
    trade_side: str
    share_micros: int
    price_micros: int
    notional_micros: int
    fee_micros: int
    filled_at: datetime


Cursor = tuple[datetime, int]
"""(decided_at, sequence) of the last decision of the page before."""


async def attempts_of_group(db: Reader, group_id: str, *, after: int = 0, limit: int = 100) -> list[Attempt]:
    """The decisions on one group in the order of the log, after sequence `after`."""
    return await many(
        db,
        Attempt,
        f"SELECT {_LINE} FROM copy_attempt WHERE group_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
        group_id,
        after,
        limit,
    )


async def attempts_of_subscriber(
    db: Reader, subscriber_id: str, *, decision: str | None = None, after: Cursor | None = None, limit: int = 50
) -> list[Attempt]:
    """A subscriber's decisions, newest first; only EXECUTE or SKIP if `decision` is given."""
    return await _newest(db, "subscriber_id = $1", subscriber_id, decision, after, limit)


async def attempts(
    db: Reader, *, decision: str | None = None, after: Cursor | None = None, limit: int = 50
) -> list[Attempt]:
    """The decisions for all subscribers, newest first; only EXECUTE or SKIP if `decision` is given."""
    return await _newest(db, "$1::text IS NULL", None, decision, after, limit)


async def _newest(
    db: Reader, condition: str, subscriber_id: str | None, decision: str | None, after: Cursor | None, limit: int
) -> list[Attempt]:
    wanted = [condition, "($2::text IS NULL OR decision = $2)"]
    if after:
        wanted += ["decided_at <= $4", "(decided_at, sequence) < ($4, $5)"]
    return await many(
        db,
        Attempt,
        f"SELECT {_LINE} FROM copy_attempt WHERE {' AND '.join(wanted)} "
        "ORDER BY decided_at DESC, sequence DESC LIMIT $3",
        subscriber_id,
        decision,
        limit,
        *(after or ()),
    )


async def attempt(db: Reader, attempt_id: str) -> AttemptDetail | None:
    """One decision with its checks; None for an unknown id."""
    return await one(db, AttemptDetail, f"SELECT {_DETAIL} FROM copy_attempt WHERE attempt_id = $1", attempt_id)


async def orders_of_attempt(db: Reader, attempt_id: str) -> list[Order]:
    """The orders of one decision (none after SKIP)."""
    return await many(
        db, Order, f"SELECT {_ORDER} FROM execution WHERE attempt_id = $1 ORDER BY submitted_sequence", attempt_id
    )


async def orders_of_subscriber(
    db: Reader, subscriber_id: str, *, before: datetime | None = None, limit: int = 50
) -> list[Order]:
    """A subscriber's orders, newest first; only those submitted before `before`."""
    return await many(
        db,
        Order,
        f"SELECT {_ORDER} FROM execution WHERE subscriber_id = $1 "
        "AND submitted_at < coalesce($2::timestamptz, 'infinity') "
        "ORDER BY submitted_at DESC, submitted_sequence DESC LIMIT $3",
        subscriber_id,
        before,
        limit,
    )


async def live_orders(
    db: Reader, *, subscriber_id: str | None = None, working: bool = False, limit: int = 50
) -> list[LiveOrder]:
    """Orders that went to a venue, newest first; with `working` only those whose result is not known yet."""
    return await many(
        db,
        LiveOrder,
        f"SELECT subscriber_id, {_ORDER} FROM execution WHERE mode = 'live' "
        "AND ($1::text IS NULL OR subscriber_id = $1) AND (NOT $2 OR completed_at IS NULL) "
        "ORDER BY submitted_at DESC, submitted_sequence DESC LIMIT $3",
        subscriber_id,
        working,
        limit,
    )


async def fills_of_attempt(db: Reader, attempt_id: str) -> list[Fill]:
    """The fills of one decision, in order."""
    return await many(
        db, Fill, f"SELECT {_FILL} FROM executable_fill WHERE attempt_id = $1 ORDER BY sequence, index", attempt_id
    )


_LINE = ", ".join(Attempt.__struct_fields__)
_DETAIL = ", ".join(AttemptDetail.__struct_fields__)
_ORDER = ", ".join(Order.__struct_fields__)
_FILL = ", ".join(Fill.__struct_fields__)
