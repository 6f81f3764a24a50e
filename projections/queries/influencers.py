"""Influencers: who is followed, what they hold and did, and how they are copied."""

from __future__ import annotations

from datetime import UTC, date, datetime

from msgspec import Struct

from projections.queries.reading import Reader, many, one

FIRST, LAST = date(1970, 1, 1), date(9999, 1, 1)
"""A span of days that holds all of them."""


class InfluencerLine(Struct, frozen=True, kw_only=True):
    """One influencer as a line of a list. `status` active, paused or closed; `control` an operator's word (enabled or
    disabled); `since` when this configuration was recorded; `subscribers` with an active subscription."""

    influencer_id: str
    venue: str
    addresses: tuple[str, ...]
    label: str
    status: str
    control: str
    since: datetime
    subscribers: int
    signals: int
    volume_micros: int
    copied_volume_micros: int
    first_day: date | None
    last_day: date | None


class InfluencerMetrics(InfluencerLine, frozen=True, kw_only=True):
    """The same for a span of days, with what followed.

    `trips` are round trips from flat to flat, of the trades that were seen in the span, `won` those with a profit after
    fees; `profit_micros` is theirs (fees taken off), `best_micros`, `worst_micros` the extremes, `drawdown_micros` the
    deepest fall of their sum from its peak (0 before the first). `win_rate_micros` = won / trips, `signals_per_day`
    in micros over the days with signals.
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


class Held(Struct, frozen=True, kw_only=True):
    """What an address holds of an asset: signed shares as of its newest trade or report, whichever is newer, and the
    newest price: a payout, else a mark, else that of its own trade (None when there is none)."""

    address: str
    venue: str
    asset: str
    market: str
    share_micros: int
    leverage: int | None
    price_micros: int | None
    told_by: str
    as_of: datetime


class Trade(Struct, frozen=True, kw_only=True):
    """A signal: sizes signed (`before`, `after`, `delta`), `notional_micros` a magnitude, fee None where not told."""

    source_event_id: str
    signal_id: str
    signal_sequence: int
    venue: str
    address: str
    asset: str
    market: str
    action: str
    side: str
    trade_side: str
    before_micros: int
    after_micros: int
    delta_micros: int
    price_micros: int
    notional_micros: int
    fee_micros: int | None
    leverage: int | None
    position_state: str
    taker: bool
    event_time: datetime
    detect_time: datetime


class Activity(Struct, frozen=True, kw_only=True):
    """What is no trade; see projections/activity_event.py for the kinds."""

    activity_id: str
    stream: str
    sequence: int
    kind: str
    detail: str
    source_event_id: str
    signal_id: str | None
    venue: str
    address: str
    asset: str
    market: str
    before_micros: int
    after_micros: int
    cash_micros: int
    event_time: datetime
    detect_time: datetime


class Group(Struct, frozen=True, kw_only=True):
    """A closed group with its quote and fan-out: `matched` subscriptions asked for it, `filtered` counts by reason."""

    group_id: str
    closed_sequence: int
    influencer_id: str
    venue: str
    asset: str
    action: str
    trade_side: str
    delta_micros: int
    notional_micros: int
    price_micros: int
    signal_ids: tuple[str, ...]
    event_time: datetime
    detect_time: datetime
    closed_at: datetime
    quote: str | None
    quote_detail: str | None
    matched: int | None
    filtered: dict[str, int] | None


async def influencers(db: Reader) -> list[InfluencerLine]:
    """Everybody configured, by copied volume over all days (descending), then by id."""
    return await many(db, InfluencerLine, _LINES)


async def influencer_metrics(
    db: Reader, influencer_id: str, since: date = FIRST, until: date = LAST
) -> InfluencerMetrics | None:
    """One influencer over the days [since, until); None when it is not configured.

    Counts and volumes are sums of influencer_metrics. Profit, wins and drawdown are window functions over the lines of
    shadow_entry; what was held before, or came from elsewhere than a trade, counts from the first price seen.
    """
    return await one(db, InfluencerMetrics, _METRICS, influencer_id, since, until, midnight(since), midnight(until))


async def holdings(db: Reader, influencer_id: str) -> list[Held]:
    """What an influencer's addresses hold. From influencer_position, influencer_holding and influencer_report: a
    report counts where it is newer than the trade (by the log and by the venue's time), and what it does not list is
    flat."""
    return await many(db, Held, _HELD, influencer_id)


async def trades(
    db: Reader, influencer_id: str, *, after: tuple[datetime, int] | None = None, limit: int = 50
) -> list[Trade]:
    """An influencer's signals, newest first by the venue's time, behind (event_time, signal_sequence)."""
    behind = "AND event_time <= $3 AND (event_time, signal_sequence) < ($3, $4)" if after else ""
    return await many(
        db,
        Trade,
        f"SELECT {', '.join(Trade.__struct_fields__)} FROM trade_event WHERE influencer_id = $1 {behind} "
        "ORDER BY event_time DESC, signal_sequence DESC LIMIT $2",
        influencer_id,
        limit,
        *(after or ()),
    )


async def activities(
    db: Reader, influencer_id: str, *, before: datetime | None = None, limit: int = 50
) -> list[Activity]:
    """What an influencer did that is no trade, newest first, from before a time."""
    return await many(
        db,
        Activity,
        f"SELECT {', '.join(Activity.__struct_fields__)} FROM activity_event WHERE influencer_id = $1 "
        "AND event_time < coalesce($2::timestamptz, 'infinity') ORDER BY event_time DESC, sequence DESC LIMIT $3",
        influencer_id,
        before,
        limit,
    )


async def groups(db: Reader, influencer_id: str, *, before: datetime | None = None, limit: int = 50) -> list[Group]:
    """An influencer's groups, newest first by the venue's time, from before a time."""
    return await many(
        db,
        Group,
        f"SELECT g.*, {_OUTCOME} FROM (SELECT * FROM signal_group WHERE influencer_id = $1 "
        "AND event_time < coalesce($2::timestamptz, 'infinity') "
        f"ORDER BY event_time DESC, closed_sequence DESC LIMIT $3) g "
        f"{_WITH_OUTCOME} ORDER BY g.event_time DESC, g.closed_sequence DESC",
        influencer_id,
        before,
        limit,
    )


async def group(db: Reader, group_id: str) -> Group | None:
    """One group; None when there is no such id."""
    query = f"SELECT g.*, {_OUTCOME} FROM signal_group g {_WITH_OUTCOME} WHERE group_id = $1"
    return await one(db, Group, query, group_id)


def midnight(day: date) -> datetime:
    """Where a UTC day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


_OUTCOME = "q.outcome AS quote, q.detail AS quote_detail, f.matched, f.filtered"
_WITH_OUTCOME = "LEFT JOIN quote q USING (group_id) LEFT JOIN group_fan_out f USING (group_id)"

_LINE = """
    i.influencer_id, i.venue, i.addresses, i.label, i.status, i.since, coalesce(c.state, 'enabled') AS control,
    (SELECT count(*) FROM subscription s WHERE s.influencer_id = i.influencer_id AND s.status = 'active')
        AS subscribers,
    coalesce(m.signals, 0) AS signals, coalesce(m.volume_micros, 0) AS volume_micros,
    coalesce(m.copied_volume_micros, 0) AS copied_volume_micros, m.first_day, m.last_day"""

_LINES = f"""
SELECT {_LINE}
FROM influencer i
LEFT JOIN control c ON c.target = 'influencer' AND c.target_id = i.influencer_id
LEFT JOIN (
    SELECT influencer_id, sum(signals) AS signals, sum(volume_micros) AS volume_micros,
        sum(copied_volume_micros) AS copied_volume_micros, min(day) AS first_day, max(day) AS last_day
    FROM influencer_metrics GROUP BY influencer_id
) m USING (influencer_id)
ORDER BY copied_volume_micros DESC, i.influencer_id
"""

TRIPS = """
told AS (
    SELECT *, before_micros <> 0 AND share_micros <> 0 AND (before_micros < 0) <> (share_micros < 0) AS flips
    FROM shadow_entry WHERE {which} AND kind <> 'REPORT'
), half AS (  -- a flip closes one round trip and begins another
    SELECT influencer_id, address, venue, asset, sequence, 0 AS part, before_micros, price_micros, event_time,
        CASE WHEN flips THEN 0 ELSE share_micros END AS share_micros,
        CASE WHEN flips THEN div(cash_delta_micros::numeric * abs(before_micros), abs(share_delta_micros))
            ELSE cash_delta_micros END AS cash_micros
    FROM told
    UNION ALL
    SELECT influencer_id, address, venue, asset, sequence, 1, 0, price_micros, event_time, share_micros,
        cash_delta_micros - div(cash_delta_micros::numeric * abs(before_micros), abs(share_delta_micros))
    FROM told WHERE flips
), line AS (
    SELECT *, lag(share_micros, 1, 0::bigint) OVER w AS held FROM half
    WINDOW w AS (PARTITION BY influencer_id, address, venue, asset ORDER BY sequence, part)
), begun AS (  -- a round trip begins where nothing, or the other side, was held
    SELECT *, held = 0 OR before_micros = 0 OR (held > 0) <> (before_micros > 0) AS begins FROM line
), numbered AS (
    SELECT *, count(*) FILTER (WHERE begins) OVER w AS trip,
        -- What a trade does not find any more went out at that trade's price.
        CASE WHEN share_micros <> 0 AND lead(begins) OVER w
            THEN div((lead(price_micros) OVER w)::numeric * share_micros, 1000000) ELSE 0 END AS went,
        share_micros <> 0 AND coalesce(lead(begins) OVER w, false) AS cut
    FROM begun WINDOW w AS (PARTITION BY influencer_id, address, venue, asset ORDER BY sequence, part)
), trip AS (
    SELECT influencer_id, address, venue, asset, max(event_time) AS ended, max(ARRAY[sequence, part]) AS place,
        sum(cash_micros + went - div(price_micros::numeric
            * (before_micros - CASE WHEN begins THEN 0 ELSE held END), 1000000)) AS profit
    FROM numbered GROUP BY influencer_id, address, venue, asset, trip
    HAVING bool_or(share_micros = 0 OR cut)
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
"""Round trips (from flat to flat, or to the other side) of the lines that `which` selects, and what they come to by
influencer: profit after fees, drawdown of their sum in the order of the log, mean profit / standard deviation."""

_METRICS = f"""
WITH {TRIPS.format(which="influencer_id = $1 AND detect_time >= $4 AND detect_time < $5")}
SELECT {_LINE}, coalesce(m.fee_micros, 0) AS fee_micros, coalesce(m.historic_signals, 0) AS historic_signals,
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
WHERE i.influencer_id = $1
"""

_HELD = """
SELECT * FROM (
    SELECT k.address, k.venue, k.asset, coalesce(nullif(t.market, ''), h.market, '') AS market,
        CASE WHEN NOT reported THEN t.share_micros WHEN h.sequence = r.sequence THEN h.share_micros ELSE 0 END
            AS share_micros,
        coalesce(t.leverage, h.leverage) AS leverage,
        coalesce(o.price_micros, m.price_micros, t.price_micros, h.price_micros) AS price_micros,
        CASE WHEN reported THEN 'report' ELSE 'trade' END AS told_by,
        CASE WHEN reported THEN r.event_time ELSE t.event_time END AS as_of
    FROM (
        SELECT address, venue, section, asset FROM influencer_position WHERE influencer_id = $1
        UNION SELECT address, venue, section, asset FROM influencer_holding WHERE influencer_id = $1
    ) k
    LEFT JOIN influencer_position t
        ON (t.influencer_id, t.address, t.venue, t.asset) = ($1, k.address, k.venue, k.asset)
    LEFT JOIN influencer_holding h
        ON (h.influencer_id, h.address, h.venue, h.asset) = ($1, k.address, k.venue, k.asset)
    LEFT JOIN influencer_report r
        ON (r.influencer_id, r.address, r.venue, r.section) = ($1, k.address, k.venue, k.section)
    CROSS JOIN LATERAL (
        SELECT t.sequence IS NULL OR coalesce(r.sequence > t.sequence AND r.event_time >= t.event_time, false)
    ) n (reported)
    LEFT JOIN market_price m ON m.venue = k.venue AND m.asset = k.asset
    LEFT JOIN outcome_payout o ON o.venue = k.venue AND o.asset = k.asset
) held WHERE share_micros <> 0 ORDER BY address, venue, asset
"""
