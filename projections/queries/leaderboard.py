"""The leaderboard: influencers ranked by a weighted score.

score = 30 % win rate + 20 % volume + 25 % drawdown (less is better) + 15 % risk ratio + 10 % best round trip, each
scaled to 0..1 between the lowest and the highest value of all traders (1 where all are equal). It ranks configured,
active influencers that finished at least `min_trips` round trips in the time span.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from msgspec import Struct

from projections.queries.fetch import Reader, many
from projections.queries.round_trips import FIRST, LAST, TRIPS, midnight

MICRO = 1_000_000
WEIGHTS = {
    "win_rate_micros": 30,
    "volume_micros": 20,
    "drawdown_share_micros": 25,
    "risk_ratio_micros": 15,
    "best_micros": 10,
}
"""Percent of the score."""
LESS_IS_BETTER = frozenset({"drawdown_share_micros"})


class Trader(Struct, frozen=True, kw_only=True):
    """One influencer's performance in the time span, from its round trips (queries/round_trips.py).

    `win_rate_micros` = won / trips; `drawdown_share_micros` is the deepest fall of summed profit as a share of the
    volume traded, so that small and large traders compare; `risk_ratio_micros` is mean profit / its standard deviation
    (0 for fewer than two trips or no deviation). `first_day` is the first day with recorded activity.
    """

    influencer_id: str
    label: str
    venue: str
    status: str
    trips: int
    won: int
    win_rate_micros: int
    volume_micros: int
    profit_micros: int
    drawdown_micros: int
    drawdown_share_micros: int
    risk_ratio_micros: int
    best_micros: int
    first_day: date | None


class Ranked(Struct, frozen=True, kw_only=True):
    """A row of the leaderboard. `score_micros` and the unweighted parts (by field) are 0..1_000_000."""

    rank: int
    score_micros: int
    parts: dict[str, int]
    age_days: int | None
    trader: Trader


async def leaderboard(
    db: Reader, since: date = FIRST, until: date = LAST, *, min_trips: int = 1, limit: int = 100
) -> list[Ranked]:
    """The best first. Reads all rows of shadow_entry detected in the days [since, until): limit the time span, and
    cache the result if it is needed often."""
    traders = await many(db, Trader, _TRADERS, since, until, midnight(since), midnight(until), min_trips)
    # Ages count to the last day with activity of any influencer, so that a replay gives the same result.
    (newest,) = await db.fetch("SELECT max(day) AS day FROM influencer_metrics WHERE day < $1", until)
    return ranked(traders, newest["day"])[:limit]


def ranked(traders: Sequence[Trader], today: date | None) -> list[Ranked]:
    """Traders by score (descending), then by id."""
    parts = {name: _parts([getattr(trader, name) for trader in traders], name in LESS_IS_BETTER) for name in WEIGHTS}
    scored = []
    for number, trader in enumerate(traders):
        of = {name: parts[name][number] for name in WEIGHTS}
        score = sum(of[name] * weight for name, weight in WEIGHTS.items()) // 100
        scored.append((score, of, trader))
    scored.sort(key=lambda one: (-one[0], one[2].influencer_id))
    return [
        Ranked(
            rank=rank,
            score_micros=score,
            parts=of,
            age_days=(today - trader.first_day).days if today and trader.first_day else None,
            trader=trader,
        )
        for rank, (score, of, trader) in enumerate(scored, 1)
    ]


def _parts(values: Sequence[int], less_is_better: bool) -> list[int]:
    low, high = min(values, default=0), max(values, default=0)
    if low == high:
        return [MICRO] * len(values)
    return [((high - value) if less_is_better else (value - low)) * MICRO // (high - low) for value in values]


_TRADERS = f"""
WITH {TRIPS.format(which="detect_time >= $3 AND detect_time < $4")}, known AS (
    SELECT influencer_id, min(day) AS first_day,
        coalesce(sum(volume_micros) FILTER (WHERE day >= $1 AND day < $2), 0) AS volume_micros
    FROM influencer_metrics GROUP BY influencer_id
)
SELECT i.influencer_id, i.label, i.venue, i.status, r.trips, r.won, r.won * 1000000 / r.trips AS win_rate_micros,
    coalesce(k.volume_micros, 0) AS volume_micros, r.profit_micros, r.drawdown_micros,
    coalesce(div(r.drawdown_micros * 1000000, nullif(k.volume_micros, 0)), 0) AS drawdown_share_micros,
    r.risk_ratio_micros, r.best_micros, k.first_day
FROM result r JOIN influencer i USING (influencer_id) LEFT JOIN known k USING (influencer_id)
WHERE r.trips >= $5 AND i.status = 'active' ORDER BY i.influencer_id
"""
