"""What an influencer works with: the base that its returns are fractions of."""

from __future__ import annotations

from datetime import datetime

from projections.queries.fetch import Reader


async def capital(db: Reader, influencer_id: str, since: datetime) -> int:
    """The equity that the venue reported last, over all of its addresses; where it reports none, the value of its
    largest position after a trade since a time. Micros; 0 when neither is known."""
    (row,) = await db.fetch(_CAPITAL, influencer_id, since)
    return int(row["reported"] or row["largest"] or 0)


_CAPITAL = """
SELECT (SELECT sum(equity_micros) FROM influencer_report WHERE influencer_id = $1 AND equity_micros > 0) AS reported,
    (SELECT max(abs(div(after_micros::numeric * price_micros, 1000000))) FROM trade_event
        WHERE influencer_id = $1 AND event_time >= $2) AS largest
"""
