"""Subscribers: their subscriptions, and the metrics of their copies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from projections.queries.fetch import Reader, many, one

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""A time span that includes all times."""


class SubscriberLine(Struct, frozen=True, kw_only=True):
    """One subscriber in a list; `deposit_micros` is the configured deposit, `cash_micros` the cash of the ledger."""

    subscriber_id: str
    scope: str
    mode: str
    status: str
    control: str
    deposit_micros: int
    since: datetime
    subscriptions: int
    cash_micros: int


class SubscriptionLine(Struct, frozen=True, kw_only=True):
    """One subscription: `sizing_mode` selects `percent_micros` (1_000_000 = 1 %) or `notional_micros`."""

    subscription_id: str
    subscriber_id: str
    influencer_id: str
    sizing_mode: str
    percent_micros: int
    notional_micros: int
    limits: dict[str, int]
    filters: dict[str, Any]
    status: str
    actor: str
    since: datetime


class Copying(Struct, frozen=True, kw_only=True):
    """Metrics of copying in a time span, for one influencer or (`influencer_id` empty) for all.

    Counts of decisions, of orders by result and of fills; `requested_micros` and `filled_micros` are shares of finished
    orders. `slippage_micros` is the cost of all fills above the influencer's price (negative: below it), and
    `reference_micros` their notional at the influencer's price; fills of unknown groups are in neither. Lags in
    microseconds: detection is detected - venue's time, decision is decided - detected; None without decisions.
    """

    influencer_id: str
    decisions: int
    executed: int
    orders: int
    filled: int
    partial: int
    unfilled: int
    requested_micros: int
    filled_micros: int
    fills: int
    notional_micros: int
    fee_micros: int
    slippage_micros: int
    reference_micros: int
    detection_p50_us: int | None
    detection_p95_us: int | None
    detection_p99_us: int | None
    decision_p50_us: int | None
    decision_p95_us: int | None
    decision_p99_us: int | None

    @property
    def fill_rate_micros(self) -> int:
        """Orders that filled whole or in part / finished orders."""
        finished = self.filled + self.partial + self.unfilled
        return (self.filled + self.partial) * 1_000_000 // finished if finished else 0

    @property
    def partial_rate_micros(self) -> int:
        """Orders that filled in part / finished orders."""
        finished = self.filled + self.partial + self.unfilled
        return self.partial * 1_000_000 // finished if finished else 0

    @property
    def slippage_bps_micros(self) -> int:
        """Slippage in basis points of the influencer's price, in micros (1_500_000 = 1.5 bps)."""
        return self.slippage_micros * 10_000 * 1_000_000 // self.reference_micros if self.reference_micros else 0


class Profit(Struct, frozen=True, kw_only=True):
    """Profit from copying one influencer since the beginning: cash + shares x mark, after fees.

    Shares are valued at the payout of a resolved market, else the newest mark, else the subscriber's newest fill.
    """

    influencer_id: str
    profit_micros: int
    fee_micros: int
    entries: int


class SubscriberMetrics(Struct, frozen=True, kw_only=True):
    """Profit since the beginning (the sum over influencers), and the metrics of copying in the time span."""

    subscriber_id: str
    profit_micros: int
    by_influencer: tuple[Profit, ...]
    copying: Copying
    copying_by_influencer: tuple[Copying, ...]


async def subscribers(
    db: Reader, *, scope: str = "SUBSCRIBER", after: str = "", limit: int = 100
) -> list[SubscriberLine]:
    """Subscribers of a scope by id, after the last id of the page before."""
    return await many(
        db, SubscriberLine, f"{_LINE} WHERE s.scope = $1 AND s.subscriber_id > $2 {_BY_ID}", scope, after, limit
    )


async def subscriber(db: Reader, subscriber_id: str) -> SubscriberLine | None:
    """One subscriber; None if it is not configured."""
    return await one(db, SubscriberLine, f"{_LINE} WHERE s.subscriber_id = $1", subscriber_id)


async def subscriptions(
    db: Reader, *, influencer_id: str | None = None, subscriber_id: str | None = None, after: str = "", limit: int = 100
) -> list[SubscriptionLine]:
    """Subscriptions of an influencer or of a subscriber by id, after the last id of the page before."""
    column, value = ("influencer_id", influencer_id) if influencer_id is not None else ("subscriber_id", subscriber_id)
    return await many(
        db,
        SubscriptionLine,
        f"SELECT {', '.join(SubscriptionLine.__struct_fields__)} FROM subscription "
        f"WHERE {column} = $1 AND subscription_id > $2 ORDER BY subscription_id LIMIT $3",
        value,
        after,
        limit,
    )


async def subscriber_metrics(
    db: Reader, subscriber_id: str, since: datetime = FIRST, until: datetime = LAST
) -> SubscriberMetrics:
    """A subscriber's profit and copy metrics; zeros without activity.

    Profit is from ledger_balance and market_price. Rates, slippage and lags are aggregates over the decisions, orders
    and fills in [since, until): rows of copy_attempt, execution and executable_fill, each by its index on
    (subscriber_id, time); the influencer's price is that of signal_group.
    """
    profits = await many(db, Profit, _PROFIT, subscriber_id)
    copied = await many(db, Copying, _COPYING, subscriber_id, since, until)
    whole = [each for each in copied if not each.influencer_id]
    return SubscriberMetrics(
        subscriber_id=subscriber_id,
        profit_micros=sum(profit.profit_micros for profit in profits),
        by_influencer=tuple(profits),
        copying=whole[0],
        copying_by_influencer=tuple(each for each in copied if each.influencer_id),
    )


_LINE = """
SELECT s.subscriber_id, s.scope, s.mode, s.status, coalesce(c.state, 'enabled') AS control, s.deposit_micros, s.since,
    (SELECT count(*) FROM subscription n WHERE n.subscriber_id = s.subscriber_id AND n.status = 'active')
        AS subscriptions,
    (SELECT coalesce(sum(cash_micros), 0) FROM ledger_balance b WHERE b.subscriber_id = s.subscriber_id) AS cash_micros
FROM subscriber s LEFT JOIN control c ON c.target = 'subscriber' AND c.target_id = s.subscriber_id
"""
_BY_ID = "ORDER BY s.subscriber_id LIMIT $3"

_PROFIT = """
SELECT b.influencer_id, sum(b.entries) AS entries, sum(b.fee_micros) AS fee_micros,
    sum(b.cash_micros + div(b.share_micros * coalesce(o.price_micros, m.price_micros, (
        SELECT e.price_micros FROM ledger_entry e
        WHERE e.subscriber_id = $1 AND e.venue = b.venue AND e.asset = b.asset
        ORDER BY e.booked_at DESC, e.sequence DESC, e.index DESC LIMIT 1
    ), 0), 1000000)) AS profit_micros
FROM ledger_balance b
LEFT JOIN market_price m USING (venue, asset) LEFT JOIN outcome_payout o USING (venue, asset)
WHERE b.subscriber_id = $1 AND b.asset <> '' GROUP BY b.influencer_id ORDER BY b.influencer_id
"""

_COPYING = """
WITH decided AS (
    SELECT coalesce(influencer_id, '') AS influencer_id, count(*) AS decisions,
        count(*) FILTER (WHERE decision = 'EXECUTE') AS executed,
        percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY detect_time - event_time) AS detection,
        percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY decided_at - detect_time) AS decision
    FROM copy_attempt WHERE subscriber_id = $1 AND decided_at >= $2 AND decided_at < $3
    GROUP BY GROUPING SETS ((influencer_id), ())
), ordered AS (
    SELECT coalesce(a.influencer_id, '') AS influencer_id, count(*) AS orders,
        count(*) FILTER (WHERE e.status = 'FILLED') AS filled, count(*) FILTER (WHERE e.status = 'PARTIAL') AS partial,
        count(*) FILTER (WHERE e.status = 'UNFILLED') AS unfilled,
        sum(e.share_micros) FILTER (WHERE e.status <> 'SUBMITTED') AS requested_micros,
        sum(e.filled_micros) FILTER (WHERE e.status <> 'SUBMITTED') AS filled_micros
    FROM execution e LEFT JOIN copy_attempt a ON a.attempt_id = e.attempt_id AND a.subscriber_id = $1
        AND a.decided_at >= $2::timestamptz - interval '1 day' AND a.decided_at < $3::timestamptz + interval '1 day'
    WHERE e.subscriber_id = $1 AND e.submitted_at >= $2 AND e.submitted_at < $3
    GROUP BY GROUPING SETS ((a.influencer_id), ())
), reference AS (
    SELECT f.influencer_id, f.share_micros, f.notional_micros, f.fee_micros,
        CASE f.trade_side WHEN 'BUY' THEN 1 ELSE -1 END AS sign,
        div(f.share_micros::numeric * g.price_micros, 1000000) AS reference_micros
    FROM executable_fill f
    LEFT JOIN copy_attempt a ON a.attempt_id = f.attempt_id AND a.subscriber_id = $1
        AND a.decided_at >= $2::timestamptz - interval '1 day' AND a.decided_at < $3::timestamptz + interval '1 day'
    LEFT JOIN signal_group g ON g.group_id = a.group_id
        AND g.closed_at BETWEEN a.decided_at - interval '1 day' AND a.decided_at + interval '1 day'
    WHERE f.subscriber_id = $1 AND f.filled_at >= $2 AND f.filled_at < $3
), taken AS (
    SELECT coalesce(influencer_id, '') AS influencer_id, count(*) AS fills, sum(notional_micros) AS notional_micros,
        sum(fee_micros) AS fee_micros, sum(reference_micros) AS reference_micros,
        sum(sign * (notional_micros - reference_micros)) AS slippage_micros
    FROM reference GROUP BY GROUPING SETS ((influencer_id), ())
)
SELECT influencer_id, coalesce(d.decisions, 0) AS decisions, coalesce(d.executed, 0) AS executed,
    coalesce(o.orders, 0) AS orders, coalesce(o.filled, 0) AS filled, coalesce(o.partial, 0) AS partial,
    coalesce(o.unfilled, 0) AS unfilled, coalesce(o.requested_micros, 0) AS requested_micros,
    coalesce(o.filled_micros, 0) AS filled_micros, coalesce(t.fills, 0) AS fills,
    coalesce(t.notional_micros, 0) AS notional_micros, coalesce(t.fee_micros, 0) AS fee_micros,
    coalesce(t.slippage_micros, 0) AS slippage_micros, coalesce(t.reference_micros, 0) AS reference_micros,
    (extract(epoch FROM d.detection[1]) * 1000000)::bigint AS detection_p50_us,
    (extract(epoch FROM d.detection[2]) * 1000000)::bigint AS detection_p95_us,
    (extract(epoch FROM d.detection[3]) * 1000000)::bigint AS detection_p99_us,
    (extract(epoch FROM d.decision[1]) * 1000000)::bigint AS decision_p50_us,
    (extract(epoch FROM d.decision[2]) * 1000000)::bigint AS decision_p95_us,
    (extract(epoch FROM d.decision[3]) * 1000000)::bigint AS decision_p99_us
FROM decided d FULL JOIN ordered o USING (influencer_id) FULL JOIN taken t USING (influencer_id)
ORDER BY influencer_id
"""
