"""An influencer's own trading as a portfolio (SHADOW_USER), with the amounts of domain/influencer_portfolio.py.

When an account snapshot or a trade does not start at the position after the row before, the difference counts as a
deposit at its value. Deposits, the newest own price of each asset and round trips from flat to flat are window
functions over the rows of an asset in the order of the log; average cost is folded in Python over the last, open round
trip only.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from domain.micros import nearest, times
from domain.position import Position, fill_position
from projections.queries.fetch import Reader, many
from projections.queries.valuation import (
    Asset,
    Movement,
    OpeningBalance,
    Worth,
    last_marks,
    minute_of,
    minutes,
    prices,
    valued,
)

NEWEST = 1 << 62


class ShadowHolding(Struct, frozen=True, kw_only=True):
    """An open position of an address. `own_price_micros` is the price of its newest trade, `mark_micros` the newer of
    it and the newest mark; `cost_micros` (signed) and `realized_micros` (since the position was last flat) use average
    cost."""

    address: str
    venue: str
    asset: str
    market: str
    share_micros: int
    cost_micros: int
    realized_micros: int
    own_price_micros: int
    mark_micros: int

    @property
    def average_price_micros(self) -> int:
        return nearest(self.cost_micros * 1_000_000, self.share_micros)

    @property
    def worth_micros(self) -> int:
        return times(self.mark_micros, self.share_micros)


class ShadowPortfolio(Struct, frozen=True, kw_only=True):
    """The portfolio of one address: cash is the sum of its trades, deposits the value of earlier shares and
    corrections.

    profit = cash + value - deposits = realized + unrealized - fees, since the address is followed.
    """

    address: str
    cash_micros: int
    deposits_micros: int
    fees_micros: int
    realized_micros: int
    positions: tuple[ShadowHolding, ...]

    @property
    def equity_micros(self) -> int:
        return self.cash_micros + sum(position.worth_micros for position in self.positions)

    @property
    def profit_micros(self) -> int:
        return self.equity_micros - self.deposits_micros


class _Sum(Struct, frozen=True, kw_only=True):
    address: str
    venue: str
    asset: str
    market: str
    cash_micros: int
    deposit_micros: int
    fee_micros: int
    realized_micros: int
    open: list[list[int | None]] | None
    """The steps of the open round trip: (is a trade, shares after it, signed value added, price, updates the own price,
    time in microseconds)."""


class _Movement(Movement, frozen=True, kw_only=True):
    priced_at: datetime | None
    """When the last own price was detected."""


async def shadow(db: Reader, influencer_id: str, *, until: int = NEWEST) -> list[ShadowPortfolio]:
    """An influencer's portfolios, one per address, as of the sequence `until` of SIGNALS, at the newest marks."""
    of: dict[str, list[tuple[_Sum, ShadowHolding | None, int]]] = {}
    sums = await many(db, _Sum, f"{_STEPS} {_SUMS}", influencer_id, until)
    marks = await _marks(db, [(each.venue, each.asset) for each in sums if each.open])
    for each in sums:
        holding, realized = _held(each, marks.get((each.venue, each.asset)))
        of.setdefault(each.address, []).append((each, holding, realized))
    return [
        ShadowPortfolio(
            address=address,
            cash_micros=sum(each.cash_micros for each, _, _ in found),
            deposits_micros=sum(each.deposit_micros for each, _, _ in found),
            fees_micros=sum(each.fee_micros for each, _, _ in found),
            realized_micros=sum(realized for _, _, realized in found),
            positions=tuple(holding for _, holding, _ in found if holding is not None),
        )
        for address, found in sorted(of.items())
    ]


async def shadow_snapshots(db: Reader, influencer_id: str, since: datetime, until: datetime) -> list[Worth]:
    """Every minute from that of `since` to before `until`, over all addresses of an influencer: equity (cash + value)
    and profit since it is followed. A trade counts from the minute in which it was detected (`detect_time`)."""
    begin = minute_of(since)
    rows = await many(db, _Movement, f"{_STEPS} {_MOVED}", influencer_id, NEWEST, begin, until)
    before, after = [row for row in rows if row.minute < begin], [row for row in rows if row.minute >= begin]
    shares, price_of = dict[Asset, int](), dict[Asset, int]()
    marks = await last_marks(db, ((row.venue, row.asset) for row in before), begin)
    for row in before:
        asset = (row.venue, row.asset)
        shares[asset] = row.share_delta_micros
        price_of[asset] = row.price_micros or 0
        if asset in marks and (row.priced_at is None or marks[asset].minute >= minute_of(row.priced_at)):
            price_of[asset] = marks[asset].price_micros
    start = OpeningBalance(
        shares=shares,
        price_of=price_of,
        cash_micros=sum(row.cash_delta_micros for row in before),
        deposits_micros=sum(row.deposit_micros for row in before),
    )
    assets = {(row.venue, row.asset) for row in rows}
    return valued(minutes(begin, until), start, after, await prices(db, assets, begin, until))


def _held(each: _Sum, mark: _Mark | None) -> tuple[ShadowHolding | None, int]:
    """(the open position or None, realized profit of open and closed round trips)."""
    if not each.open:
        return None, each.realized_micros
    position = Position()
    for is_trade, share, value, price, moves, at in each.open:
        assert share is not None
        assert value is not None
        delta = share - position.share_micros
        if not is_trade and price and not position.mark_micros and not position.cost_micros:
            # the shares were added without a known price: all of them are added now
            position, delta = Position(), share
        if not delta:
            continue
        position = fill_position(position, delta, abs(value))
        if price and (moves or not position.mark_micros):
            position = _at(position, price, at or 0)
        elif moves:
            position = _at(position, price or 0, at or 0)
    price_now = position.mark_micros
    if mark is not None and mark.marked_us >= position.marked_at:
        price_now = mark.price_micros
    holding = ShadowHolding(
        address=each.address,
        venue=each.venue,
        asset=each.asset,
        market=each.market,
        share_micros=position.share_micros,
        cost_micros=position.cost_micros,
        realized_micros=position.realized_micros,
        own_price_micros=position.mark_micros,
        mark_micros=price_now,
    )
    return holding, each.realized_micros + position.realized_micros


def _at(position: Position, price_micros: int, at: int) -> Position:
    return Position(
        position.share_micros, position.cost_micros, position.realized_micros, price_micros, at, position.market
    )


class _Mark(Struct, frozen=True, kw_only=True):
    venue: str
    asset: str
    price_micros: int
    marked_us: int


async def _marks(db: Reader, assets: list[Asset]) -> dict[Asset, _Mark]:
    found = await many(db, _Mark, _MARKS, [venue for venue, _ in assets], [asset for _, asset in assets])
    return {(mark.venue, mark.asset): mark for mark in found}


_MARKS = """
SELECT w.venue, w.asset, coalesce(o.price_micros, m.price_micros) AS price_micros,
    (extract(epoch FROM coalesce(o.detect_time, m.marked_at)) * 1000000)::bigint AS marked_us
FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) u (venue, asset)) w
LEFT JOIN market_price m USING (venue, asset) LEFT JOIN outcome_payout o USING (venue, asset)
WHERE coalesce(o.price_micros, m.price_micros) IS NOT NULL
"""

_STEPS = """
WITH line AS (
    SELECT *, max(event_time) FILTER (WHERE kind <> 'REPORT') OVER (
        PARTITION BY address, venue, asset ORDER BY sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS traded_at
    FROM shadow_entry WHERE influencer_id = $1 AND sequence <= $2
), effective AS (  -- a snapshot that is older than a trade is ignored
    SELECT *, lead(sequence) OVER (PARTITION BY address, venue, asset ORDER BY sequence) AS following
    FROM line WHERE kind <> 'REPORT' OR traded_at IS NULL OR traded_at <= event_time
), gone AS (  -- an asset that a snapshot has no row for is flat
    SELECT t.address, t.venue, t.asset, r.sequence, r.event_time, r.detect_time
    FROM effective t CROSS JOIN LATERAL (
        SELECT r.sequence, r.event_time, r.detect_time FROM shadow_report r
        WHERE r.address = t.address AND r.venue = t.venue AND r.section = t.section AND r.sequence > t.sequence
            AND t.asset <> ALL (r.unread) AND r.sequence <= $2 AND (t.following IS NULL OR r.sequence < t.following)
            AND (greatest(t.traded_at, CASE WHEN t.kind <> 'REPORT' THEN t.event_time END) > r.event_time) IS NOT TRUE
        ORDER BY r.sequence LIMIT 1
    ) r WHERE t.share_micros <> 0
), step AS (  -- the position before a trade, then the position after it
    SELECT address, venue, asset, market, sequence, 0 AS number, false AS trade, before_micros AS share,
        0 AS cash, 0 AS fee, price_micros AS price, event_time, detect_time FROM effective WHERE kind <> 'REPORT'
    UNION ALL
    SELECT address, venue, asset, market, sequence, 1, true, share_micros,
        cash_delta_micros, fee_micros, price_micros, event_time, detect_time FROM effective WHERE kind <> 'REPORT'
    UNION ALL
    SELECT address, venue, asset, market, sequence, 0, false, share_micros, 0, 0, price_micros, event_time, detect_time
    FROM effective WHERE kind = 'REPORT'
    UNION ALL
    SELECT address, venue, asset, '', sequence, 0, false, 0, 0, 0, NULL, event_time, detect_time FROM gone
), trip AS (  -- round trips, from flat to flat
    SELECT *, coalesce(lag(share) OVER w, 0) AS held,
        count(*) FILTER (WHERE share = 0) OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS trip,
        trade AND event_time >= coalesce(max(event_time) FILTER (WHERE trade) OVER (
            w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), '-infinity') AS newest
    FROM step WINDOW w AS (PARTITION BY address, venue, asset ORDER BY sequence, number)
), priced AS (
    SELECT *,
        (min(ARRAY[sequence, number, price]) FILTER (WHERE price <> 0) OVER w)[3] AS first_price,
        (max(ARRAY[sequence, number, price]) FILTER (WHERE newest) OVER w)[3] AS newest_price,
        max(trip) OVER (PARTITION BY address, venue, asset) AS last_trip
    FROM trip
    WINDOW w AS (PARTITION BY address, venue, asset, trip ORDER BY sequence, number
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), booked AS (
    SELECT *, CASE
        WHEN trade THEN 0
        WHEN held <> 0 AND first_price IS NULL AND price <> 0 THEN div(price::numeric * share, 1000000)
        ELSE div(coalesce(price, newest_price, first_price, 0)::numeric * (share - held), 1000000)
    END AS deposit
    FROM priced
)
"""
_SUMS = """
SELECT address, venue, asset, max(market) AS market, sum(cash) AS cash_micros, sum(deposit) AS deposit_micros,
    sum(fee) AS fee_micros, coalesce(sum(cash + fee - deposit) FILTER (WHERE NOT open), 0) AS realized_micros,
    array_agg(ARRAY[trade::int, share, CASE WHEN trade THEN -cash - fee ELSE deposit END, price, newest::int,
        (extract(epoch FROM event_time) * 1000000)] ORDER BY sequence, number) FILTER (WHERE open) AS open
FROM (SELECT *, trip = last_trip AND bool_and(share <> 0) OVER (PARTITION BY address, venue, asset, trip) AS open
    FROM booked) b
GROUP BY address, venue, asset ORDER BY address, venue, asset
"""
_MOVED = """
SELECT venue, asset, minute, sum(moved) AS share_delta_micros, sum(cash) AS cash_delta_micros,
    sum(deposit) AS deposit_micros, (max(ARRAY[sequence, number, price]) FILTER (WHERE price IS NOT NULL))[3]
        AS price_micros, max(detect_time) FILTER (WHERE price IS NOT NULL) AS priced_at
FROM (SELECT *, share - held AS moved,
        date_trunc('minute', greatest(detect_time, $3::timestamptz - interval '1 minute'), 'UTC') AS minute
    FROM booked WHERE detect_time < $4) b
GROUP BY venue, asset, minute
"""
