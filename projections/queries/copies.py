"""Copies by any filter: decisions with what was filled, the reasons of skips, and trades with the outcome of every
copy."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from domain.events import Check
from projections.queries.fetch import Reader, many

Cursor = tuple[datetime, int]
"""(time, sequence) of the last row of the page before."""

_FIRST_SPAN = timedelta(hours=6)


class Copy(Struct, frozen=True, kw_only=True):
    """One decision with its orders' result. `slippage_micros` is what the fills cost above the influencer's price
    (negative: below it); it and the average price are None without a fill."""

    attempt_id: str
    sequence: int
    subscription_id: str
    subscriber_id: str
    influencer_id: str
    group_id: str
    scope: str
    mode: str
    venue: str
    asset: str
    market: str
    action: str
    trade_side: str
    decision: str
    reasons: tuple[str, ...]
    fill_reasons: tuple[str, ...]
    target_notional_micros: int
    share_micros: int
    limit_price_micros: int
    mid_micros: int
    influencer_price_micros: int | None
    order_id: str | None
    status: str | None
    filled_micros: int
    notional_micros: int
    fee_micros: int
    average_price_micros: int | None
    slippage_micros: int | None
    event_time: datetime
    detect_time: datetime
    decided_at: datetime


class Filters(Struct, frozen=True, kw_only=True):
    """What rows of copies must be; None is no condition. Times are [since, until)."""

    subscriber_id: str | None = None
    influencer_id: str | None = None
    asset: str | None = None
    decision: str | None = None
    reason: str | None = None
    mode: str | None = None
    scope: str | None = None
    since: datetime | None = None
    until: datetime | None = None


_WANTED = """
    ($1::text IS NULL OR a.subscriber_id = $1) AND ($2::text IS NULL OR a.influencer_id = $2)
    AND ($3::text IS NULL OR a.asset = $3 OR a.market = $3) AND ($4::text IS NULL OR a.decision = $4)
    AND ($5::text IS NULL OR $5 = ANY(a.reasons)) AND ($6::text IS NULL OR a.mode = $6)
    AND ($7::text IS NULL OR a.scope = $7)
    AND a.decided_at >= coalesce($8::timestamptz, '-infinity')
    AND a.decided_at < coalesce($9::timestamptz, 'infinity')
"""


def _values(filters: Filters) -> tuple[object, ...]:
    return (
        filters.subscriber_id,
        filters.influencer_id,
        filters.asset,
        filters.decision,
        filters.reason,
        filters.mode,
        filters.scope,
        filters.since,
        filters.until,
    )


async def copies(db: Reader, filters: Filters, *, after: Cursor | None = None, limit: int = 50) -> list[Copy]:
    """Decisions that fit, newest first, after (decided_at, sequence). A rare match reads every decision of the time."""
    behind = "AND a.decided_at <= $11 AND (a.decided_at, a.sequence) < ($11, $12)" if after else ""
    query = (
        f"SELECT {_COPY} FROM (SELECT * FROM copy_attempt a WHERE {_WANTED} {behind} "
        f"ORDER BY a.decided_at DESC, a.sequence DESC LIMIT $10) a {_WITH_RESULT} "
        "ORDER BY a.decided_at DESC, a.sequence DESC"
    )
    return await many(db, Copy, query, *_values(filters), limit, *(after or ()))


async def copies_of_group(db: Reader, group_id: str, limit: int = 200) -> list[Copy]:
    """The decisions about one group, in order, with their results."""
    query = (
        f"SELECT {_COPY} FROM (SELECT * FROM copy_attempt WHERE group_id = $1 ORDER BY sequence LIMIT $2) a "
        f"{_WITH_RESULT} ORDER BY a.sequence"
    )
    return await many(db, Copy, query, group_id, limit)


_COPY = """
    a.attempt_id, a.sequence, a.subscription_id, a.subscriber_id, a.influencer_id, a.group_id, a.scope, a.mode,
    a.venue, a.asset, a.market, a.action, a.trade_side, a.decision, a.reasons,
    coalesce(e.fill_reasons, '[]')::text AS fill_reasons, a.target_notional_micros, a.share_micros,
    a.limit_price_micros, a.mid_micros, g.price_micros AS influencer_price_micros, e.order_id, e.status,
    coalesce(e.filled_micros, 0) AS filled_micros, coalesce(e.notional_micros, 0) AS notional_micros,
    coalesce(e.fee_micros, 0) AS fee_micros, nullif(e.average_price_micros, 0) AS average_price_micros,
    CASE WHEN e.filled_micros > 0 AND g.price_micros > 0 THEN
        (CASE a.trade_side WHEN 'BUY' THEN 1 ELSE -1 END)
        * (e.notional_micros - div(e.filled_micros::numeric * g.price_micros, 1000000)) END AS slippage_micros,
    a.event_time, a.detect_time, a.decided_at"""
_WITH_RESULT = """
    LEFT JOIN LATERAL (
        SELECT x.order_id, x.status, x.filled_micros, x.notional_micros, x.fee_micros, x.average_price_micros,
            x.reasons AS fill_reasons
        FROM execution x WHERE x.attempt_id = a.attempt_id ORDER BY x.submitted_sequence LIMIT 1
    ) e ON true
    LEFT JOIN LATERAL (
        SELECT s.price_micros FROM signal_group s WHERE s.group_id = a.group_id
            AND s.closed_at >= a.decided_at - interval '1 day' AND s.closed_at <= a.decided_at LIMIT 1
    ) g ON true"""


class Counted(Struct, frozen=True, kw_only=True):
    """How many decisions fit: by decision, and skips by each of their reasons."""

    executed: int
    skipped: int
    reasons: dict[str, int]


class _Count(Struct, frozen=True, kw_only=True):
    name: str
    decisions: int


async def counted(db: Reader, filters: Filters) -> Counted:
    """The numbers of decisions that fit. Reads every one of them: limit the time."""
    found = {row.name: row.decisions for row in await many(db, _Count, _COUNTS, *_values(filters))}
    return Counted(executed=found.pop("", 0), skipped=found.pop("*", 0), reasons=found)


_COUNTS = f"""
WITH fit AS (SELECT decision, reasons FROM copy_attempt a WHERE {_WANTED})
SELECT CASE decision WHEN 'EXECUTE' THEN '' ELSE '*' END AS name, count(*) AS decisions FROM fit GROUP BY 1
UNION ALL
SELECT r.reason, count(*) FROM fit CROSS JOIN unnest(reasons) r (reason) WHERE decision = 'SKIP' GROUP BY 1
ORDER BY decisions DESC
"""


class CopiedTrade(Struct, frozen=True, kw_only=True):
    """A closed group (the influencer's trade) and what became of its copies. Sizes are signed in `delta_micros`."""

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
    signals: int
    event_time: datetime
    detect_time: datetime
    closed_at: datetime
    copies: int
    executed: int
    skipped: int
    copied_micros: int


async def copied_trades(
    db: Reader,
    *,
    influencer_id: str | None = None,
    asset: str | None = None,
    since: datetime | None = None,
    until: datetime,
    after: Cursor | None = None,
    limit: int = 50,
) -> list[CopiedTrade]:
    """Groups closed in [since, until), newest first, after (closed_at, closed_sequence).

    Reads time backwards in growing spans, so that the newest page reads little of signal_group.
    """
    begin = since or datetime(1970, 1, 1, tzinfo=until.tzinfo)
    end, span = (min(until, after[0] + timedelta(microseconds=1)) if after else until), _FIRST_SPAN
    sequence = after[1] if after else 1 << 62
    found: list[CopiedTrade] = []
    while len(found) < limit and end > begin:
        start = max(begin, end - span) if span < timedelta(days=400) else begin
        at, place = (after[0], sequence) if after else (until, 1 << 62)
        found += await many(db, CopiedTrade, _TRADES, influencer_id, asset, start, end, at, place, limit - len(found))
        end, span = start, span * 4
    return found


_TRADES = """
SELECT g.group_id, g.closed_sequence, g.influencer_id, g.venue, g.asset, g.action, g.trade_side, g.delta_micros,
    g.notional_micros, g.price_micros, cardinality(g.signal_ids) AS signals, g.event_time, g.detect_time, g.closed_at,
    c.copies, c.executed, c.copies - c.executed AS skipped, c.copied_micros
FROM (
    SELECT * FROM signal_group
    WHERE ($1::text IS NULL OR influencer_id = $1) AND ($2::text IS NULL OR asset = $2)
        AND closed_at >= $3 AND closed_at < $4 AND (closed_at, closed_sequence) < ($5, $6)
    ORDER BY closed_at DESC, closed_sequence DESC LIMIT $7
) g
CROSS JOIN LATERAL (
    SELECT count(*) AS copies, count(*) FILTER (WHERE a.decision = 'EXECUTE') AS executed,
        coalesce(sum(e.notional_micros), 0)::bigint AS copied_micros
    FROM copy_attempt a LEFT JOIN execution e ON e.attempt_id = a.attempt_id
    WHERE a.group_id = g.group_id AND a.decided_at >= g.closed_at AND a.decided_at < g.closed_at + interval '1 day'
) c
ORDER BY g.closed_at DESC, g.closed_sequence DESC
"""


class Quality(Struct, frozen=True, kw_only=True):
    """What one executed copy measured: slippage in hundredths of a basis point of the influencer's price, and the
    detection lag in microseconds."""

    slippage_bps_hundredths: int | None
    detection_us: int


async def qualities(
    db: Reader, *, influencer_id: str, subscriber_id: str, since: datetime, limit: int = 2000
) -> list[Quality]:
    """The newest decisions of a subscriber about an influencer since a time. One probe of three tables for each."""
    return await many(db, Quality, _QUALITY, subscriber_id, influencer_id, since, limit)


_QUALITY = """
SELECT CASE WHEN e.filled_micros > 0 AND g.price_micros > 0 THEN
        ((CASE a.trade_side WHEN 'BUY' THEN 1 ELSE -1 END) * (e.average_price_micros - g.price_micros)::numeric
            * 1000000 / g.price_micros)::bigint END AS slippage_bps_hundredths,
    greatest(0, (extract(epoch FROM a.detect_time - a.event_time) * 1000000)::bigint) AS detection_us
FROM (
    SELECT * FROM copy_attempt WHERE subscriber_id = $1 AND influencer_id = $2 AND decided_at >= $3
    ORDER BY decided_at DESC LIMIT $4
) a
LEFT JOIN execution e ON e.attempt_id = a.attempt_id
LEFT JOIN LATERAL (
    SELECT s.price_micros FROM signal_group s WHERE s.group_id = a.group_id
        AND s.closed_at >= a.decided_at - interval '1 day' AND s.closed_at <= a.decided_at LIMIT 1
) g ON true
"""


class AssetBoard(Struct, frozen=True, kw_only=True):
    """One asset that is marked, described or held: its mark, and what portfolios hold of it. `question` and `label` are
    empty where the venue names no market; long and short are shares."""

    venue: str
    asset: str
    market: str
    question: str
    label: str
    price_micros: int | None
    marked_at: datetime | None
    closes_at: datetime | None
    resolved: bool
    control: str
    held_positions: int
    long_micros: int
    short_micros: int


async def asset_board(
    db: Reader, *, search: str | None = None, after: tuple[str, str] = ("", ""), limit: int = 100
) -> list[AssetBoard]:
    """Assets by (venue, asset), after the last of the page before; `search` is part of a name or id."""
    return await many(db, AssetBoard, _BOARD, *after, f"%{_escaped(search)}%" if search else None, limit)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


_BOARD = """
SELECT k.venue, k.asset, coalesce(nullif(n.market, ''), p.market, k.asset) AS market,
    coalesce(d.question, '') AS question, coalesce(n.label, '') AS label,
    coalesce(o.price_micros, p.price_micros) AS price_micros, p.marked_at, d.closes_at, o.price_micros IS NOT NULL
        AS resolved, coalesce(c.state, 'enabled') AS control, h.held_positions, h.long_micros, h.short_micros
FROM (
    SELECT venue, asset FROM market_price UNION SELECT venue, asset FROM outcome_asset
    UNION SELECT venue, asset FROM position WHERE share_micros <> 0
) k
LEFT JOIN market_price p ON p.venue = k.venue AND p.asset = k.asset
LEFT JOIN outcome_asset n ON n.venue = k.venue AND n.asset = k.asset
LEFT JOIN market d ON d.venue = k.venue AND d.market = n.market
LEFT JOIN outcome_payout o ON o.venue = k.venue AND o.asset = k.asset
LEFT JOIN control c ON c.target = 'market' AND c.target_id = coalesce(n.market, k.asset)
CROSS JOIN LATERAL (
    SELECT count(*) AS held_positions, coalesce(sum(greatest(h.share_micros, 0)), 0)::bigint AS long_micros,
        coalesce(sum(greatest(-h.share_micros, 0)), 0)::bigint AS short_micros
    FROM position h WHERE h.venue = k.venue AND h.asset = k.asset AND h.share_micros <> 0
) h
WHERE (k.venue, k.asset) > ($1, $2) AND ($3::text IS NULL OR k.asset ILIKE $3 OR d.question ILIKE $3)
ORDER BY k.venue, k.asset LIMIT $4
"""


class Measured(Struct, frozen=True, kw_only=True):
    """What the newest decisions about an asset measured: the last spread and its limit, what the band held, and the
    mean slippage of its fills in hundredths of a basis point of the influencer's price."""

    asset: str
    decisions: int
    executed: int
    spread_micros: int | None
    spread_limit_micros: int | None
    depth_micros: int | None
    slippage_bps_hundredths: int | None
    decided_at: datetime


class _Decided(Struct, frozen=True, kw_only=True):
    asset: str
    decision: str
    decided_at: datetime
    checks: tuple[Check, ...]
    slippage: int | None


async def measured(db: Reader, decisions: int = 500) -> dict[str, Measured]:
    """Measurements by asset over the newest so many decisions."""
    of: dict[str, list[_Decided]] = {}
    for row in await many(db, _Decided, _MEASURED, decisions):
        of.setdefault(row.asset, []).append(row)
    return {asset: _measured(asset, rows) for asset, rows in of.items()}


def _measured(asset: str, rows: list[_Decided]) -> Measured:
    """`rows` are the newest first."""
    slippages = [row.slippage for row in rows if row.slippage is not None]
    spread, spread_limit = _newest(rows, "spread_micros")
    depth, _ = _newest(rows, "depth_in_band_micros")
    return Measured(
        asset=asset,
        decisions=len(rows),
        executed=sum(row.decision == "EXECUTE" for row in rows),
        spread_micros=spread,
        spread_limit_micros=spread_limit,
        depth_micros=depth,
        slippage_bps_hundredths=sum(slippages) // len(slippages) if slippages else None,
        decided_at=rows[0].decided_at,
    )


def _newest(rows: list[_Decided], name: str) -> tuple[int | None, int | None]:
    """(input, limit) of the newest check of this name."""
    for row in rows:
        for check in row.checks:
            if check.name == name and isinstance(check.input, int) and isinstance(check.limit, int):
                return check.input, check.limit
    return None, None


_MEASURED = """
SELECT n.asset, n.decision, n.decided_at, n.checks::text AS checks,
    ((CASE n.trade_side WHEN 'BUY' THEN 1 ELSE -1 END) * (e.average_price_micros - g.price_micros)::numeric
        * 1000000 / nullif(g.price_micros, 0))::bigint AS slippage
FROM (
    SELECT attempt_id, sequence, asset, decision, trade_side, group_id, decided_at, checks FROM copy_attempt
    ORDER BY decided_at DESC, sequence DESC LIMIT $1
) n
LEFT JOIN execution e ON e.attempt_id = n.attempt_id AND e.filled_micros > 0
LEFT JOIN LATERAL (
    SELECT s.price_micros FROM signal_group s WHERE s.group_id = n.group_id
        AND s.closed_at >= n.decided_at - interval '1 day' AND s.closed_at <= n.decided_at LIMIT 1
) g ON true
ORDER BY n.decided_at DESC, n.sequence DESC
"""
