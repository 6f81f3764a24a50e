"""Portfolios of subscribers: positions and equity now, and equity by minute.

EXEC_USER and EXEC_GLOBAL are subscribers; influencers' own portfolios (SHADOW_USER) are in queries/shadows.py.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from domain.micros import times
from projections.queries.fetch import Reader, many
from projections.queries.valuation import Asset, Movement, OpeningBalance, Worth, minute_of, minutes, prices, valued


class Holding(Struct, frozen=True, kw_only=True):
    """A subscriber's position in one asset. `share_micros` and `cost_micros` are signed; `mark_micros` is the payout of
    a resolved market, else the newest mark, else (`marked_at` None) the price of the newest fill."""

    venue: str
    asset: str
    share_micros: int
    cost_micros: int
    average_price_micros: int
    realized_micros: int
    mark_micros: int
    marked_at: datetime | None
    changed_at: datetime

    @property
    def worth_micros(self) -> int:
        return times(self.mark_micros, self.share_micros)

    @property
    def unrealized_micros(self) -> int:
        return self.worth_micros - self.cost_micros


class Portfolio(Struct, frozen=True, kw_only=True):
    """A subscriber's portfolio: equity = cash + value of open positions; profit = equity - deposits = realized +
    unrealized - fees."""

    subscriber_id: str
    cash_micros: int
    deposits_micros: int
    fees_micros: int
    realized_micros: int
    positions: tuple[Holding, ...]

    @property
    def equity_micros(self) -> int:
        return self.cash_micros + sum(position.worth_micros for position in self.positions)

    @property
    def profit_micros(self) -> int:
        return self.equity_micros - self.deposits_micros


class _Sums(Struct, frozen=True, kw_only=True):
    cash_micros: int
    deposits_micros: int
    fees_micros: int


async def portfolio(db: Reader, subscriber_id: str) -> Portfolio:
    """A subscriber's portfolio now; empty for an id without ledger entries. From ledger_balance, position (cost and
    realized profit as events stated them) and market_price."""
    (sums,) = await many(db, _Sums, _SUMS, subscriber_id)
    held = await many(db, Holding, _HELD, subscriber_id)
    return Portfolio(
        subscriber_id=subscriber_id,
        cash_micros=sums.cash_micros,
        deposits_micros=sums.deposits_micros,
        fees_micros=sums.fees_micros,
        realized_micros=sum(holding.realized_micros for holding in held),
        positions=tuple(holding for holding in held if holding.share_micros),
    )


_SUMS = """
SELECT coalesce(sum(cash_micros), 0) AS cash_micros,
    coalesce(sum(cash_micros) FILTER (WHERE asset = '' AND influencer_id = ''), 0) AS deposits_micros,
    coalesce(sum(fee_micros), 0) AS fees_micros
FROM ledger_balance WHERE subscriber_id = $1
"""
_HELD = """
SELECT p.venue, p.asset, p.share_micros, p.cost_micros, p.average_price_micros, p.realized_micros, p.changed_at,
    coalesce(o.price_micros, m.price_micros, (
        SELECT e.price_micros FROM ledger_entry e
        WHERE e.subscriber_id = $1 AND e.venue = p.venue AND e.asset = p.asset
        ORDER BY e.booked_at DESC, e.sequence DESC, e.index DESC LIMIT 1
    ), p.average_price_micros) AS mark_micros,
    coalesce(o.detect_time, m.marked_at) AS marked_at
FROM position p LEFT JOIN market_price m USING (venue, asset) LEFT JOIN outcome_payout o USING (venue, asset)
WHERE p.subscriber_id = $1 ORDER BY abs(p.cost_micros) DESC, p.venue, p.asset
"""


class Snapshot(Struct, frozen=True, kw_only=True):
    """The equity of a portfolio at the end of a minute. `source`: DECISION, MARK, BREAKER_TRIPPED or BREAKER_RESET when
    an event of that minute states it, BOOKS when it is valued from ledger entries and marks."""

    minute: datetime
    equity_micros: int
    source: str


class _Held(Struct, frozen=True, kw_only=True):
    venue: str
    asset: str
    share_micros: int
    cash_micros: int
    price_micros: int | None


async def snapshots(db: Reader, subscriber_id: str, since: datetime, until: datetime) -> list[Snapshot]:
    """Every minute from that of `since` to before `until`, in order.

    Minutes with a stated equity are rows of portfolio_snapshot. The others are valued: the current balances less the
    entries since, at the newest price of each minute. From ledger_balance, ledger_entry (only from `since` on) and
    market_price_snapshot.
    """
    begin = minute_of(since)
    facts = {fact.minute: fact for fact in await many(db, Snapshot, _FACTS, subscriber_id, begin, until)}
    moved = await many(db, Movement, _MOVED, subscriber_id, begin, until)
    held = await many(db, _Held, _HELD_BEFORE, subscriber_id, begin)
    start = OpeningBalance(
        shares={(each.venue, each.asset): each.share_micros for each in held},
        price_of={(each.venue, each.asset): each.price_micros or 0 for each in held},
        cash_micros=sum(each.cash_micros for each in held),
        deposits_micros=sum(each.cash_micros for each in held if not each.asset),
    )
    assets: set[Asset] = set(start.shares) | {(move.venue, move.asset) for move in moved}
    marks = await prices(db, (asset for asset in assets if asset[1]), begin, until)
    return [facts.get(worth.minute) or _valued(worth) for worth in valued(minutes(begin, until), start, moved, marks)]


def _valued(worth: Worth) -> Snapshot:
    return Snapshot(minute=worth.minute, equity_micros=worth.equity_micros, source="BOOKS")


async def snapshots_of_scope(db: Reader, scope: str, since: datetime, until: datetime) -> dict[str, list[Snapshot]]:
    """Only stated equities, by subscriber, for all subscribers of a scope (EXEC_USER, EXEC_GLOBAL, SUBSCRIBER)."""
    found: dict[str, list[Snapshot]] = {}
    for row in await many(db, _SubscriberSnapshot, _OF_SCOPE, scope, minute_of(since), until):
        found.setdefault(row.subscriber_id, []).append(row)
    return found


class _SubscriberSnapshot(Snapshot, frozen=True, kw_only=True):
    subscriber_id: str


_FACTS = """
SELECT minute, equity_micros, source FROM portfolio_snapshot
WHERE subscriber_id = $1 AND minute >= $2 AND minute < $3 ORDER BY minute
"""
_OF_SCOPE = """
SELECT s.subscriber_id, f.minute, f.equity_micros, f.source
FROM subscriber s JOIN portfolio_snapshot f USING (subscriber_id)
WHERE s.scope = $1 AND f.minute >= $2 AND f.minute < $3 ORDER BY s.subscriber_id, f.minute
"""
_MOVED = """
SELECT coalesce(venue, '') AS venue, coalesce(asset, '') AS asset, date_trunc('minute', booked_at, 'UTC') AS minute,
    sum(share_delta_micros) AS share_delta_micros, sum(cash_delta_micros) AS cash_delta_micros,
    coalesce(sum(cash_delta_micros) FILTER (WHERE asset IS NULL), 0) AS deposit_micros,
    (max(ARRAY[sequence, price_micros]) FILTER (WHERE asset IS NOT NULL))[2] AS price_micros
FROM ledger_entry WHERE subscriber_id = $1 AND booked_at >= $2 AND booked_at < $3 GROUP BY 1, 2, 3
"""
# Current balances less the entries since; the price of the last fill only where it is newer than the last mark, so
# that few entries are read.
_HELD_BEFORE = """
SELECT b.venue, b.asset, b.share_micros - coalesce(l.share_micros, 0) AS share_micros,
    b.cash_micros - coalesce(l.cash_micros, 0) AS cash_micros, coalesce(e.price_micros, m.price_micros) AS price_micros
FROM (
    SELECT venue, asset, sum(share_micros) AS share_micros, sum(cash_micros) AS cash_micros
    FROM ledger_balance WHERE subscriber_id = $1 GROUP BY venue, asset
) b
LEFT JOIN (
    SELECT coalesce(venue, '') AS venue, coalesce(asset, '') AS asset, sum(share_delta_micros) AS share_micros,
        sum(cash_delta_micros) AS cash_micros
    FROM ledger_entry WHERE subscriber_id = $1 AND booked_at >= $2 GROUP BY 1, 2
) l USING (venue, asset)
LEFT JOIN LATERAL (
    SELECT date_trunc('minute', marked_at, 'UTC') AS minute, price_micros FROM market_price_snapshot s
    WHERE s.asset = b.asset AND s.venue = b.venue AND s.marked_at < $2 ORDER BY marked_at DESC LIMIT 1
) m ON true
LEFT JOIN LATERAL (
    SELECT price_micros FROM ledger_entry l
    WHERE l.subscriber_id = $1 AND l.venue = b.venue AND l.asset = b.asset AND l.booked_at < $2
        AND l.booked_at >= coalesce(m.minute + interval '1 minute', '-infinity')
    ORDER BY booked_at DESC, sequence DESC, index DESC LIMIT 1
) e ON true
"""
