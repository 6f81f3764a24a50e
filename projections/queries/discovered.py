"""Discovered traders: every address that the public feeds named, followed or not."""

from __future__ import annotations

from datetime import date

from msgspec import Struct

from projections.queries.fetch import Reader, many


class DiscoveredTrader(Struct, frozen=True, kw_only=True):
    """One address with sums over all days. `active_minutes` are minutes with a trade; `self_trades` of the trades were
    with itself. `influencer_id` is the influencer that it is followed as, if any."""

    venue: str
    address: str
    trades: int
    self_trades: int
    notional_micros: int
    active_minutes: int
    first_day: date
    last_day: date
    influencer_id: str | None


async def discovered_traders(
    db: Reader, *, venue: str | None = None, address: str | None = None, limit: int = 100
) -> list[DiscoveredTrader]:
    """The traders with the largest notional first. From trader_activity and influencer."""
    return await many(db, DiscoveredTrader, _TRADERS, venue, address, limit)


_TRADERS = """
SELECT t.*, (
    SELECT min(i.influencer_id) FROM influencer i WHERE i.venue = t.venue AND i.addresses ? t.address
) AS influencer_id
FROM (
    SELECT venue, address, sum(trades) AS trades, sum(self_trades) AS self_trades,
        sum(notional_micros) AS notional_micros, sum(minutes) AS active_minutes, min(day) AS first_day,
        max(day) AS last_day
    FROM trader_activity
    WHERE ($1::text IS NULL OR venue = $1) AND ($2::text IS NULL OR address = lower($2))
    GROUP BY venue, address ORDER BY notional_micros DESC, venue, address LIMIT $3
) t ORDER BY notional_micros DESC, venue, address
"""
