"""Portfolios of many subscribers at once: what each is worth now and was worth before, exposures, equity curves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from msgspec import Struct

from projections.queries.fetch import Reader, many


class Account(Struct, frozen=True, kw_only=True):
    """A subscriber's portfolio now: equity = cash + value of open positions; profit = equity - deposits.

    `exposure_micros` is the sum of the absolute values of open positions. The `_then` fields are the profits at three
    earlier times: the last stated equity before, less the deposits up to it; 0 where the portfolio is younger.
    """

    subscriber_id: str
    scope: str
    mode: str
    status: str
    control: str
    since: datetime
    cash_micros: int
    deposits_micros: int
    fees_micros: int
    worth_micros: int
    exposure_micros: int
    open_positions: int
    equity_micros: int
    profit_micros: int
    day_then_micros: int
    week_then_micros: int
    month_then_micros: int
    marked_at: datetime | None


class Earlier(NamedTuple):
    """The times that profits are compared with."""

    day: datetime
    week: datetime
    month: datetime

    @staticmethod
    def of(now: datetime) -> Earlier:
        """Where today (UTC), seven days and thirty days begin."""
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return Earlier(midnight, now - timedelta(days=7), now - timedelta(days=30))


async def accounts(
    db: Reader,
    *,
    scopes: Sequence[str],
    earlier: Earlier,
    subscriber_id: str | None = None,
    after: str = "",
    limit: int = 1000,
) -> list[Account]:
    """The accounts of these scopes by id, or only one.

    From ledger_balance, position, market_price, outcome_payout and portfolio_snapshot.
    """
    return await many(db, Account, _ACCOUNTS, list(scopes), subscriber_id, after, limit, *earlier)


def _then(parameter: str) -> str:
    # A deposit follows a change of the subscriber's configuration, so that entries are read only behind such a change.
    return f"""coalesce((
        SELECT f.equity_micros - b.deposits_micros + CASE WHEN s.since < {parameter} THEN 0 ELSE coalesce((
            SELECT sum(l.cash_delta_micros) FROM ledger_entry l
            WHERE l.subscriber_id = s.subscriber_id AND l.booked_at >= f.taken_at AND l.asset IS NULL), 0) END
        FROM portfolio_snapshot f WHERE f.subscriber_id = s.subscriber_id AND f.minute < {parameter}
        ORDER BY f.minute DESC LIMIT 1), 0)"""


_ACCOUNTS = f"""
SELECT s.subscriber_id, s.scope, s.mode, s.status, coalesce(c.state, 'enabled') AS control, s.since,
    b.cash_micros, b.deposits_micros, b.fees_micros, p.worth_micros, p.exposure_micros, p.open_positions, p.marked_at,
    b.cash_micros + p.worth_micros AS equity_micros,
    b.cash_micros + p.worth_micros - b.deposits_micros AS profit_micros,
    {_then("$5")} AS day_then_micros, {_then("$6")} AS week_then_micros, {_then("$7")} AS month_then_micros
FROM (
    SELECT * FROM subscriber WHERE scope = ANY($1) AND ($2::text IS NULL OR subscriber_id = $2) AND subscriber_id > $3
    ORDER BY subscriber_id LIMIT $4
) s
LEFT JOIN control c ON c.target = 'subscriber' AND c.target_id = s.subscriber_id
CROSS JOIN LATERAL (
    SELECT coalesce(sum(cash_micros), 0)::bigint AS cash_micros,
        coalesce(sum(cash_micros) FILTER (WHERE asset = '' AND influencer_id = ''), 0)::bigint AS deposits_micros,
        coalesce(sum(fee_micros), 0)::bigint AS fees_micros
    FROM ledger_balance l WHERE l.subscriber_id = s.subscriber_id
) b
CROSS JOIN LATERAL (
    SELECT coalesce(sum(w.worth), 0)::bigint AS worth_micros, coalesce(sum(abs(w.worth)), 0)::bigint AS exposure_micros,
        count(*) AS open_positions, max(w.marked_at) AS marked_at
    FROM (
        SELECT trunc(h.share_micros::numeric * coalesce(o.price_micros, m.price_micros, h.average_price_micros)
            / 1000000) AS worth, m.marked_at
        FROM position h LEFT JOIN market_price m USING (venue, asset) LEFT JOIN outcome_payout o USING (venue, asset)
        WHERE h.subscriber_id = s.subscriber_id AND h.share_micros <> 0
    ) w
) p
ORDER BY s.subscriber_id
"""


class Exposure(Struct, frozen=True, kw_only=True):
    """What a portfolio has at risk in one market, or copied from one influencer; the value of `net` is signed."""

    key: str
    net_micros: int
    exposure_micros: int
    positions: int


async def exposure_by_asset(db: Reader, subscriber_id: str) -> list[Exposure]:
    """A subscriber's open positions by asset, the largest first."""
    return await many(db, Exposure, _BY_ASSET, subscriber_id)


async def exposure_by_influencer(db: Reader, subscriber_id: str) -> list[Exposure]:
    """A subscriber's open positions by the influencer that they are copied from, the largest first."""
    return await many(db, Exposure, _BY_INFLUENCER, subscriber_id)


_VALUE = """trunc({shares}::numeric * coalesce(o.price_micros, m.price_micros, h.average_price_micros) / 1000000)"""
_BY_ASSET = f"""
SELECT h.asset AS key, {_VALUE.format(shares="h.share_micros")}::bigint AS net_micros,
    abs({_VALUE.format(shares="h.share_micros")})::bigint AS exposure_micros, 1 AS positions
FROM position h LEFT JOIN market_price m USING (venue, asset) LEFT JOIN outcome_payout o USING (venue, asset)
WHERE h.subscriber_id = $1 AND h.share_micros <> 0 ORDER BY exposure_micros DESC, key
"""
_BY_INFLUENCER = f"""
SELECT b.influencer_id AS key, sum({_VALUE.format(shares="b.share_micros")})::bigint AS net_micros,
    sum(abs({_VALUE.format(shares="b.share_micros")}))::bigint AS exposure_micros, count(*) AS positions
FROM ledger_balance b
LEFT JOIN position h ON h.subscriber_id = b.subscriber_id AND h.venue = b.venue AND h.asset = b.asset
LEFT JOIN market_price m ON m.venue = b.venue AND m.asset = b.asset
LEFT JOIN outcome_payout o ON o.venue = b.venue AND o.asset = b.asset
WHERE b.subscriber_id = $1 AND b.asset <> '' AND b.share_micros <> 0
GROUP BY b.influencer_id ORDER BY exposure_micros DESC, key
"""


class EquityPoint(Struct, frozen=True, kw_only=True):
    """The last stated equity of portfolios before a time, summed; None where one of them states none in the step."""

    at: datetime
    equity_micros: int | None


async def equity_curve(
    db: Reader, subscriber_ids: Sequence[str], since: datetime, until: datetime, points: int
) -> list[EquityPoint]:
    """So many points, evenly from `since` or the first statement to `until`, in steps of at least a minute.

    A step without a statement repeats the point before. From portfolio_snapshot: one probe of its key for each point
    and subscriber.
    """
    (begun,) = await db.fetch(_BEGUN, list(subscriber_ids), since)
    if begun["first"] is None:
        return []
    since = max(since, begun["first"] - timedelta(minutes=1))
    step = max((until - since) / points, timedelta(minutes=1))
    found = await many(db, EquityPoint, _CURVE, list(subscriber_ids), since, until, step)
    curve: list[EquityPoint] = []
    last: int | None = None
    for point in found:
        last = point.equity_micros if point.equity_micros is not None else last
        curve.append(EquityPoint(at=point.at, equity_micros=last))
    return curve


_BEGUN = """
SELECT min(f.minute) AS first FROM unnest($1::text[]) s (subscriber_id) CROSS JOIN LATERAL (
    SELECT p.minute FROM portfolio_snapshot p WHERE p.subscriber_id = s.subscriber_id AND p.minute >= $2
    ORDER BY p.minute LIMIT 1
) f
"""
_CURVE = """
SELECT t.at, CASE WHEN count(f.equity_micros) = count(*) THEN sum(f.equity_micros) END AS equity_micros
FROM generate_series($2::timestamptz + $4::interval, $3::timestamptz, $4::interval) t (at)
CROSS JOIN unnest($1::text[]) s (subscriber_id)
LEFT JOIN LATERAL (
    SELECT p.equity_micros FROM portfolio_snapshot p
    WHERE p.subscriber_id = s.subscriber_id AND p.minute < t.at AND p.minute >= t.at - $4::interval
    ORDER BY p.minute DESC LIMIT 1
) f ON true
GROUP BY t.at ORDER BY t.at
"""


class Trips(Struct, frozen=True, kw_only=True):
    """Finished round trips of a subscriber's copies: from flat to flat in one asset of one influencer."""

    subscriber_id: str
    trips: int
    won: int


async def copy_trips(db: Reader, subscriber_ids: Sequence[str], since: datetime) -> list[Trips]:
    """Round trips of the entries booked since a time; those that began before count from the first entry in it.

    Reads all these entries of ledger_entry: keep the answer if it is needed often.
    """
    return await many(db, Trips, _TRIPS, list(subscriber_ids), since)


_TRIPS = """
WITH line AS (
    SELECT subscriber_id, influencer_id, venue, asset, sequence, cash_delta_micros,
        sum(share_delta_micros) OVER w AS held
    FROM ledger_entry WHERE subscriber_id = ANY($1) AND booked_at >= $2 AND asset IS NOT NULL
    WINDOW w AS (PARTITION BY subscriber_id, influencer_id, venue, asset ORDER BY booked_at, sequence)
), numbered AS (
    SELECT *, count(*) FILTER (WHERE held = 0) OVER (
        PARTITION BY subscriber_id, influencer_id, venue, asset ORDER BY sequence
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS trip
    FROM line
), trip AS (
    SELECT subscriber_id, sum(cash_delta_micros) AS profit FROM numbered
    GROUP BY subscriber_id, influencer_id, venue, asset, trip HAVING bool_or(held = 0)
)
SELECT subscriber_id, count(*) AS trips, count(*) FILTER (WHERE profit > 0) AS won FROM trip GROUP BY subscriber_id
"""


class OwnPosition(Struct, frozen=True, kw_only=True):
    """One open position of a subscriber: signed shares and cost; the mark is a payout, else the newest mark."""

    subscriber_id: str
    scope: str
    mode: str
    venue: str
    asset: str
    share_micros: int
    cost_micros: int
    average_price_micros: int
    mark_micros: int
    worth_micros: int
    unrealized_micros: int
    realized_micros: int
    marked_at: datetime | None
    changed_at: datetime
    influencers: tuple[str, ...]


async def positions(
    db: Reader,
    *,
    subscriber_id: str | None = None,
    influencer_id: str | None = None,
    asset: str | None = None,
    after: tuple[str, str, str] = ("", "", ""),
    limit: int = 100,
) -> list[OwnPosition]:
    """Open positions by (subscriber, venue, asset), after the last of the page before.

    `influencers` are those whose copies hold any of it; with `influencer_id`, only positions copied from that one.
    """
    return await many(db, OwnPosition, _POSITIONS, subscriber_id, influencer_id, asset, *after, limit)


_POSITIONS = """
SELECT h.subscriber_id, s.scope, s.mode, h.venue, h.asset, h.share_micros, h.cost_micros, h.average_price_micros,
    v.mark_micros, v.worth_micros, v.worth_micros - h.cost_micros AS unrealized_micros, h.realized_micros,
    coalesce(o.detect_time, m.marked_at) AS marked_at, h.changed_at, i.influencers
FROM position h JOIN subscriber s USING (subscriber_id)
LEFT JOIN market_price m ON m.venue = h.venue AND m.asset = h.asset
LEFT JOIN outcome_payout o ON o.venue = h.venue AND o.asset = h.asset
CROSS JOIN LATERAL (
    SELECT coalesce(o.price_micros, m.price_micros, h.average_price_micros) AS mark_micros,
        trunc(h.share_micros::numeric * coalesce(o.price_micros, m.price_micros, h.average_price_micros)
            / 1000000)::bigint AS worth_micros
) v
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(b.influencer_id ORDER BY b.influencer_id), '{}') AS influencers FROM ledger_balance b
    WHERE b.subscriber_id = h.subscriber_id AND b.venue = h.venue AND b.asset = h.asset AND b.share_micros <> 0
) i
WHERE h.share_micros <> 0 AND ($1::text IS NULL OR h.subscriber_id = $1)
    AND ($2::text IS NULL OR $2 = ANY(i.influencers)) AND ($3::text IS NULL OR h.asset = $3)
    AND (h.subscriber_id, h.venue, h.asset) > ($4, $5, $6)
ORDER BY h.subscriber_id, h.venue, h.asset LIMIT $7
"""
