"""Owed exits: what copies owe now, and how it went with what their influencers gave up."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from projections.queries.fetch import Reader, many


class OwedExit(Struct, frozen=True, kw_only=True):
    """What one subscription owes of one asset. Shares are signed as the position is that is to be given up.

    `since` is when the influencer's first reduction was detected, `tries` were made since then, `reasons` are those of
    the newest decision, `due_at` is the next try. `cause` is TRADE, MOVEMENT or GAP.
    """

    exit_id: str
    subscription_id: str
    subscriber_id: str
    scope: str
    mode: str
    influencer_id: str
    group_id: str
    venue: str
    asset: str
    market: str
    trade_side: str
    cause: str
    share_micros: int
    worth_micros: int
    since: datetime
    tries: int
    refused: int
    due_at: datetime | None
    while_paused: bool
    attempt_id: str | None
    reasons: tuple[str, ...]


async def owed_exits(
    db: Reader,
    *,
    subscriber_id: str | None = None,
    influencer_id: str | None = None,
    scopes: tuple[str, ...] | None = None,
    limit: int = 200,
) -> list[OwedExit]:
    """Owed exits, the oldest first. From owed_exit."""
    of_scopes = list(scopes) if scopes is not None else None
    return await many(db, OwedExit, _OWED, subscriber_id, influencer_id, of_scopes, limit)


_OWED = """
SELECT e.exit_id, e.subscription_id, e.subscriber_id, coalesce(s.scope, '') AS scope, coalesce(s.mode, '') AS mode,
    e.influencer_id, e.group_id, e.venue, e.asset, e.market, e.trade_side, e.cause,
    CASE e.trade_side WHEN 'SELL' THEN e.share_micros ELSE -e.share_micros END AS share_micros,
    trunc((CASE e.trade_side WHEN 'SELL' THEN e.share_micros ELSE -e.share_micros END)
        * coalesce(o.price_micros, m.price_micros, 0)::numeric / 1000000)::bigint AS worth_micros,
    e.owed_since AS since, e.tries, e.refused, e.due_at, e.while_paused, e.attempt_id,
    ARRAY(SELECT jsonb_array_elements_text(e.reasons)) AS reasons
FROM owed_exit e LEFT JOIN subscriber s USING (subscriber_id)
LEFT JOIN market_price m ON m.venue = e.venue AND m.asset = e.asset
LEFT JOIN outcome_payout o ON o.venue = e.venue AND o.asset = e.asset
WHERE e.ended_at IS NULL AND ($1::text IS NULL OR e.subscriber_id = $1) AND ($2::text IS NULL OR e.influencer_id = $2)
    AND ($3::text[] IS NULL OR s.scope = ANY($3))
ORDER BY e.owed_since, e.subscription_id, e.asset LIMIT $4
"""


class ExitCounts(Struct, frozen=True, kw_only=True):
    """What became of the reductions that met a copy which held something, counted per subscription and asset.

    `held` = `at_once` (done whole by the decision about the group) + `later` (owed first, ended since) + `owed` now.
    """

    held: int
    at_once: int
    later: int
    owed: int
    oldest: datetime | None


async def exit_counts(db: Reader) -> ExitCounts:
    """Counts over everything in the read models. From copy_attempt and owed_exit."""
    (counts,) = await many(db, ExitCounts, _COUNTS)
    return counts


_COUNTS = """
SELECT a.at_once + e.later + e.owed AS held, a.at_once, e.later, e.owed, e.oldest
FROM (
    SELECT count(*) AS at_once FROM copy_attempt
    WHERE reduce_micros > 0 AND exit_try = 0 AND owed_micros = 0 AND exit_id IS NULL
) a CROSS JOIN (
    SELECT count(ended_at) AS later, count(*) FILTER (WHERE ended_at IS NULL) AS owed,
        min(owed_since) FILTER (WHERE ended_at IS NULL) AS oldest
    FROM owed_exit
) e
"""


async def owed_now(db: Reader) -> int:
    """How many exits are owed."""
    rows = await db.fetch("SELECT count(*) FROM owed_exit WHERE ended_at IS NULL")
    found: int = rows[0][0]
    return found


async def open_copies_of_flat(db: Reader) -> int:
    """Copies that are open although their influencer holds nothing of the asset any more, per subscriber, influencer
    and asset; also those that were closed with `abandon`. From ledger_balance, influencer_position and
    influencer_holding."""
    rows = await db.fetch(_OPEN_OF_FLAT)
    found: int = rows[0][0]
    return found


_OPEN_OF_FLAT = """
SELECT count(*) FROM ledger_balance b
CROSS JOIN LATERAL (
    SELECT bool_and(
        coalesce(r.sequence > p.sequence AND r.event_time >= p.event_time AND h.sequence IS DISTINCT FROM r.sequence,
            false) OR p.share_micros = 0) AS flat
    FROM influencer_position p
    LEFT JOIN influencer_report r
        ON (r.influencer_id, r.address, r.venue, r.section) = (p.influencer_id, p.address, p.venue, p.section)
    LEFT JOIN influencer_holding h
        ON (h.influencer_id, h.address, h.venue, h.asset) = (p.influencer_id, p.address, p.venue, p.asset)
    WHERE p.influencer_id = b.influencer_id AND p.venue = b.venue AND p.asset = b.asset
) t
WHERE b.share_micros <> 0 AND b.asset <> '' AND t.flat
"""
