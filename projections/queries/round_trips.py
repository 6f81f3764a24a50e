"""The performance of influencers, computed from their round trips (from flat to flat).

Profit, wins and drawdown are window functions over the rows of shadow_entry detected in a time span. Shares that were
held before it, or that came from a correction, count from the first price in it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from projections.queries.fetch import Reader, one
from projections.queries.influencers import LINE, InfluencerLine

FIRST, LAST = date(1970, 1, 1), date(9999, 1, 1)
"""A span of days that includes all days."""


class InfluencerMetrics(InfluencerLine, frozen=True, kw_only=True):
    """One influencer over a span of days: its activity, its copies and its round trips.

    `trips` counts round trips from flat to flat by trades detected in the span, `won` those with a profit after fees;
    `profit_micros` is their sum after fees, `best_micros` and `worst_micros` the extremes, `drawdown_micros` the
    deepest fall of the running sum from its peak (which starts at 0). `win_rate_micros` = won / trips,
    `signals_per_day` in micros over the days with signals.
    """

    fee_micros: int
    historic_signals: int
    gaps: int
    groups: int
    executed: int
    skipped: int
    copied_fills: int
    copied_fee_micros: int
    active_days: int
    trips: int
    won: int
    profit_micros: int
    best_micros: int
    worst_micros: int
    drawdown_micros: int

    @property
    def win_rate_micros(self) -> int:
        return self.won * 1_000_000 // self.trips if self.trips else 0

    @property
    def signals_per_day_micros(self) -> int:
        return self.signals * 1_000_000 // self.active_days if self.active_days else 0


async def influencer_metrics(
    db: Reader, influencer_id: str, since: date = FIRST, until: date = LAST
) -> InfluencerMetrics | None:
    """One influencer over the days [since, until); None when it is not configured.

    Counts and volumes are sums of influencer_metrics; round trips come from shadow_entry.
    """
    return await one(db, InfluencerMetrics, _METRICS, influencer_id, since, until, midnight(since), midnight(until))


def midnight(day: date) -> datetime:
    """The beginning of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


TRIPS = """
traded AS (
    SELECT *, before_micros <> 0 AND share_micros <> 0 AND (before_micros < 0) <> (share_micros < 0) AS flips
    FROM shadow_entry WHERE {which} AND kind <> 'REPORT'
), half AS (  -- a flip closes one round trip and begins another
    SELECT influencer_id, address, venue, asset, sequence, 0 AS part, before_micros, price_micros, event_time,
        CASE WHEN flips THEN 0 ELSE share_micros END AS share_micros,
        CASE WHEN flips THEN div(cash_delta_micros::numeric * abs(before_micros), abs(share_delta_micros))
            ELSE cash_delta_micros END AS cash_micros
    FROM traded
    UNION ALL
    SELECT influencer_id, address, venue, asset, sequence, 1, 0, price_micros, event_time, share_micros,
        cash_delta_micros - div(cash_delta_micros::numeric * abs(before_micros), abs(share_delta_micros))
    FROM traded WHERE flips
), line AS (
    SELECT *, lag(share_micros, 1, 0::bigint) OVER w AS held FROM half
    WINDOW w AS (PARTITION BY influencer_id, address, venue, asset ORDER BY sequence, part)
), begun AS (  -- a round trip begins where nothing, or the other side, was held
    SELECT *, held = 0 OR before_micros = 0 OR (held > 0) <> (before_micros > 0) AS begins FROM line
), numbered AS (
    SELECT *, count(*) FILTER (WHERE begins) OVER w AS trip,
        -- Shares that are gone before a trade were closed at that trade's price.
        CASE WHEN share_micros <> 0 AND lead(begins) OVER w
            THEN div((lead(price_micros) OVER w)::numeric * share_micros, 1000000) ELSE 0 END AS closed,
        share_micros <> 0 AND coalesce(lead(begins) OVER w, false) AS replaced
    FROM begun WINDOW w AS (PARTITION BY influencer_id, address, venue, asset ORDER BY sequence, part)
), trip AS (
    SELECT influencer_id, address, venue, asset, max(event_time) AS ended, max(ARRAY[sequence, part]) AS place,
        sum(cash_micros + closed - div(price_micros::numeric
            * (before_micros - CASE WHEN begins THEN 0 ELSE held END), 1000000)) AS profit,
        min(event_time) AS opened, bool_or(begins AND before_micros <> 0) AS censored,
        max(abs(div(price_micros::numeric * share_micros, 1000000))) AS capital,
        bool_or(share_micros > 0) AS long, (array_agg(price_micros ORDER BY sequence, part))[1] AS first_price,
        min(price_micros) FILTER (WHERE NOT begins AND abs(share_micros) > abs(before_micros)) AS lowest_added,
        max(price_micros) FILTER (WHERE NOT begins AND abs(share_micros) > abs(before_micros)) AS highest_added
    FROM numbered GROUP BY influencer_id, address, venue, asset, trip
    HAVING bool_or(share_micros = 0 OR replaced)
), curve AS (
    SELECT *, sum(profit) OVER (PARTITION BY influencer_id ORDER BY place, address, venue, asset) AS total FROM trip
), fall AS (
    SELECT *, greatest(max(total) OVER (PARTITION BY influencer_id ORDER BY place, address, venue, asset), 0) - total
        AS below FROM curve
), result AS (
    SELECT influencer_id, count(*) AS trips, count(*) FILTER (WHERE profit > 0) AS won, sum(profit) AS profit_micros,
        max(profit) AS best_micros, min(profit) AS worst_micros, max(below) AS drawdown_micros,
        coalesce(trunc(avg(profit) / nullif(stddev_samp(profit), 0) * 1000000), 0) AS risk_ratio_micros
    FROM fall GROUP BY influencer_id
)"""
"""Round trips (from flat to flat, or to the other side) of the rows that `which` selects, and their results by
influencer: profit after fees, drawdown of the running sum in the order of the log, mean profit / standard deviation."""

_METRICS = f"""
WITH {TRIPS.format(which="influencer_id = $1 AND detect_time >= $4 AND detect_time < $5")}
SELECT {LINE}, coalesce(m.fee_micros, 0) AS fee_micros, coalesce(m.historic_signals, 0) AS historic_signals,
    coalesce(m.gaps, 0) AS gaps, coalesce(m.groups, 0) AS groups, coalesce(m.executed, 0) AS executed,
    coalesce(m.skipped, 0) AS skipped, coalesce(m.copied_fills, 0) AS copied_fills,
    coalesce(m.copied_fee_micros, 0) AS copied_fee_micros, coalesce(m.active_days, 0) AS active_days,
    coalesce(r.trips, 0) AS trips, coalesce(r.won, 0) AS won, coalesce(r.profit_micros, 0) AS profit_micros,
    coalesce(r.best_micros, 0) AS best_micros, coalesce(r.worst_micros, 0) AS worst_micros,
    coalesce(r.drawdown_micros, 0) AS drawdown_micros
FROM influencer i
LEFT JOIN control c ON c.target = 'influencer' AND c.target_id = i.influencer_id
LEFT JOIN (
    SELECT influencer_id, sum(signals) AS signals, sum(volume_micros) AS volume_micros,
        sum(copied_volume_micros) AS copied_volume_micros, min(day) AS first_day, max(day) AS last_day,
        sum(fee_micros) AS fee_micros, sum(historic_signals) AS historic_signals, sum(gaps) AS gaps,
        sum(groups) AS groups, sum(executed) AS executed, sum(skipped) AS skipped, sum(copied_fills) AS copied_fills,
        sum(copied_fee_micros) AS copied_fee_micros, count(*) FILTER (WHERE signals > 0) AS active_days
    FROM influencer_metrics WHERE influencer_id = $1 AND day >= $2 AND day < $3 GROUP BY influencer_id
) m USING (influencer_id)
LEFT JOIN result r USING (influencer_id)
LEFT JOIN (
    SELECT influencer_id, count(*) AS subscribers FROM subscription
    WHERE influencer_id = $1 AND status = 'active' GROUP BY influencer_id
) s USING (influencer_id)
WHERE i.influencer_id = $1
"""
