"""Influencers: their configuration, holdings, trades and groups. Their performance: queries/round_trips.py."""

from __future__ import annotations

from datetime import date, datetime

from msgspec import Struct

from projections.queries.fetch import Reader, many, one


class InfluencerLine(Struct, frozen=True, kw_only=True):
    """One influencer in a list. `status` is active, paused or closed; `control` the operator switch (enabled or
    disabled); `since` when the configuration was recorded; `subscribers` counts active subscriptions."""

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


class InfluencerHolding(Struct, frozen=True, kw_only=True):
    """The position of an address in an asset: signed shares as of its newest trade or account snapshot (`source`: trade
    or report), and the newest price: a payout, else a mark, else that of its own trade (None without any)."""

    address: str
    venue: str
    asset: str
    market: str
    share_micros: int
    leverage: int | None
    price_micros: int | None
    source: str
    as_of: datetime


class Trade(Struct, frozen=True, kw_only=True):
    """A signal: signed sizes (`before`, `after`, `delta`), `notional_micros` a magnitude, fee None if not reported."""

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
    """An event other than a trade; the kinds are those of projections/models/activity_event.py."""

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
    """A closed group with its quote and fan-out: `matched` subscriptions, and counts of `filtered` ones by reason."""

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


async def influencers(db: Reader, *, limit: int = 10_000) -> list[InfluencerLine]:
    """All configured influencers, by copied volume over all days (descending), then by id. Reads all subscriptions."""
    return await many(db, InfluencerLine, _LINES, limit)


async def holdings(db: Reader, influencer_id: str) -> list[InfluencerHolding]:
    """The open positions of an influencer's addresses. From influencer_position, influencer_holding and
    influencer_report: a snapshot counts if it is newer than the trade (in the log and by the venue's time), and assets
    that it does not list are flat."""
    return await many(db, InfluencerHolding, _HELD, influencer_id)


async def trades(
    db: Reader, influencer_id: str, *, after: tuple[datetime, int] | None = None, limit: int = 50
) -> list[Trade]:
    """An influencer's signals, newest first by the venue's time, after (event_time, signal_sequence)."""
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
    """An influencer's events other than trades, newest first; only those before `before`."""
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
    """An influencer's groups, newest first by the venue's time; only those before `before`."""
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
    """One group; None for an unknown id."""
    query = f"SELECT g.*, {_OUTCOME} FROM signal_group g {_WITH_OUTCOME} WHERE group_id = $1"
    return await one(db, Group, query, group_id)


_OUTCOME = "q.outcome AS quote, q.detail AS quote_detail, f.matched, f.filtered"
_WITH_OUTCOME = "LEFT JOIN quote q USING (group_id) LEFT JOIN group_fan_out f USING (group_id)"

LINE = """
    i.influencer_id, i.venue, i.addresses, i.label, i.status, i.since, coalesce(c.state, 'enabled') AS control,
    coalesce(s.subscribers, 0) AS subscribers,
    coalesce(m.signals, 0) AS signals, coalesce(m.volume_micros, 0) AS volume_micros,
    coalesce(m.copied_volume_micros, 0) AS copied_volume_micros, m.first_day, m.last_day"""

_LINES = f"""
SELECT {LINE}
FROM influencer i
LEFT JOIN control c ON c.target = 'influencer' AND c.target_id = i.influencer_id
LEFT JOIN (
    SELECT influencer_id, sum(signals) AS signals, sum(volume_micros) AS volume_micros,
        sum(copied_volume_micros) AS copied_volume_micros, min(day) AS first_day, max(day) AS last_day
    FROM influencer_metrics GROUP BY influencer_id
) m USING (influencer_id)
LEFT JOIN (
    SELECT influencer_id, count(*) AS subscribers FROM subscription WHERE status = 'active' GROUP BY influencer_id
) s USING (influencer_id)
ORDER BY copied_volume_micros DESC, i.influencer_id LIMIT $1
"""

_HELD = """
SELECT * FROM (
    SELECT k.address, k.venue, k.asset, coalesce(nullif(t.market, ''), h.market, '') AS market,
        CASE WHEN NOT reported THEN t.share_micros WHEN h.sequence = r.sequence THEN h.share_micros ELSE 0 END
            AS share_micros,
        coalesce(t.leverage, h.leverage) AS leverage,
        coalesce(o.price_micros, m.price_micros, t.price_micros, h.price_micros) AS price_micros,
        CASE WHEN reported THEN 'report' ELSE 'trade' END AS source,
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
