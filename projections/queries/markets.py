"""Markets: descriptions, marks and payouts."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from msgspec import Struct

from projections.queries.fetch import Reader, many, one


class Outcome(Struct, frozen=True, kw_only=True):
    """One outcome: `price_micros` is its newest mark, `payout_micros` the final value of a share."""

    asset: str
    number: int
    label: str
    price_micros: int | None
    payout_micros: int | None


class Market(Struct, frozen=True, kw_only=True):
    """A described market; it is resolved when its outcomes have payouts. Tick, minimum and taker rate are micros."""

    venue: str
    market: str
    question: str
    slug: str
    tick_micros: int
    min_share_micros: int
    fee_rate_micros: int
    accepting: bool
    closes_at: datetime | None
    described_at: datetime
    resolved_at: datetime | None
    outcomes: tuple[Outcome, ...]


class Mark(Struct, frozen=True, kw_only=True):
    """The price of an asset at a time; `source` is MIDPOINT or LAST_TRADE."""

    price_micros: int
    source: str
    venue_time: datetime
    marked_at: datetime


async def market(db: Reader, venue: str, market: str) -> Market | None:
    """One market; None if it was never described."""
    return await one(db, Market, f"{_MARKET} WHERE m.venue = $1 AND m.market = $2", venue, market)


async def markets(db: Reader, *, after: str = "", limit: int = 100) -> list[Market]:
    """Markets by id, after the last id of the page before."""
    return await many(db, Market, f"{_MARKET} WHERE m.market > $1 ORDER BY m.market LIMIT $2", after, limit)


async def marks(
    db: Reader, venue: str, asset: str, since: datetime, until: datetime, limit: int = 10_000
) -> list[Mark]:
    """The marks of an asset in [since, until), in order."""
    return await many(
        db,
        Mark,
        "SELECT price_micros, source, venue_time, marked_at FROM market_price_snapshot "
        "WHERE asset = $2 AND venue = $1 AND marked_at >= $3 AND marked_at < $4 ORDER BY marked_at LIMIT $5",
        venue,
        asset,
        since,
        until,
        limit,
    )


async def asset_names(db: Reader, assets: Collection[str]) -> dict[str, str]:
    """What outcome tokens are called, 'outcome: question', by asset; assets without such a name are left out."""
    rows = await db.fetch(
        "SELECT a.asset, a.label || ': ' || m.question AS name "
        "FROM outcome_asset a JOIN market m USING (venue, market) WHERE a.asset = ANY($1)",
        list(assets),
    )
    return {row["asset"]: row["name"] for row in rows}


_MARKET = """
SELECT m.venue, m.market, m.question, m.slug, m.tick_micros, m.min_share_micros, m.fee_rate_micros, m.accepting,
    m.closes_at, m.described_at, x.resolved_at, coalesce(x.outcomes, '[]')::text AS outcomes
FROM market m CROSS JOIN LATERAL (
    SELECT max(p.resolved_at) AS resolved_at, jsonb_agg(jsonb_build_object(
        'asset', a.asset, 'number', a.number, 'label', a.label, 'price_micros', k.price_micros,
        'payout_micros', p.price_micros) ORDER BY a.number) AS outcomes
    FROM outcome_asset a
    LEFT JOIN market_price k ON k.venue = a.venue AND k.asset = a.asset
    LEFT JOIN outcome_payout p ON p.venue = a.venue AND p.asset = a.asset
    WHERE a.market = m.market AND a.venue = m.venue
) x
"""
