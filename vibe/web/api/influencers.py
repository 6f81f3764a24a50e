"""Influencers: how they trade, how copying them goes, and what they hold beside what is copied."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct

from projections.queries import influencers as queries
from projections.queries.accounts import Earlier, accounts, equity_curve, positions
from projections.queries.capital import capital
from projections.queries.copies import Counted, Filters, counted, qualities
from projections.queries.influencers import Activity, InfluencerLine, Trade
from projections.queries.leaderboard import Ranked, leaderboard
from projections.queries.markets import asset_names
from projections.queries.round_trips import InfluencerMetrics, influencer_metrics
from projections.queries.shadows import shadow, shadow_snapshots
from projections.queries.subscribers import Copying, subscriber_metrics
from projections.queries.valuation import minute_of
from vibe.web.asked import SPANS, CursorText, Id, Limit, Range
from vibe.web.cursor import decode, encode
from vibe.web.problems import NotFoundError
from vibe.web.routing import Call, Page, Routes
from vibe.web.site import Site

routes = Routes("influencers")

_POINTS = 300
_KEPT_SECONDS = 60.0
LAG_EDGES_MS = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000)
SLIPPAGE_EDGES_BPS = (-20, -10, -5, -2, 0, 2, 5, 10, 20, 50)


class ByInfluencer(Struct, frozen=True, kw_only=True):
    influencer_id: Id


class SpannedInfluencer(Struct, frozen=True, kw_only=True):
    influencer_id: Id
    range: Range = "30d"


class ListedOfInfluencer(Struct, frozen=True, kw_only=True):
    influencer_id: Id
    cursor: CursorText | None = None
    limit: Limit = 50


class Followed(InfluencerLine, frozen=True, kw_only=True):
    """One influencer with the paper portfolio that copies it alone; None where there is none.

    `equity_micros` is of that portfolio, `profit_micros` since its beginning, `month_micros` of thirty days.
    """

    equity_micros: int | None
    profit_micros: int | None
    month_micros: int | None
    exposure_micros: int | None
    open_positions: int | None


class InfluencerDetail(Struct, frozen=True, kw_only=True):
    """How an influencer traded over the span, how the portfolio that copies it alone went, and all its own equity.

    `exec_user` is that portfolio's id; `copying` its rates over the span, None without it.
    """

    trading: InfluencerMetrics
    exec_user: str
    copying: Copying | None
    shadow_equity_micros: int
    shadow_profit_micros: int
    budget_micros: int | None
    reasons: Counted


class Side(Struct, frozen=True, kw_only=True):
    """An asset that the influencer or the portfolio that copies it holds. Shares are signed; values at the mark."""

    venue: str
    asset: str
    their_share_micros: int
    their_worth_micros: int
    copied_share_micros: int
    copied_worth_micros: int
    copied_unrealized_micros: int
    mark_micros: int


class CurvePoint(Struct, frozen=True, kw_only=True):
    """Both profits since the first point, as fractions in micros (10_000 = 1 %): the influencer's of what it works
    with, the portfolio's of its equity at the first point."""

    at: datetime
    shadow_micros: int | None
    copied_micros: int | None


class Curves(Struct, frozen=True, kw_only=True):
    points: tuple[CurvePoint, ...]


class Histogram(Struct, frozen=True, kw_only=True):
    """Counts below each edge and, last, from the last edge on; `p50` and `p95` in the edges' unit, None when empty."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    p50: float | None
    p95: float | None


class Distributions(Struct, frozen=True, kw_only=True):
    """The newest decisions of the span: slippage of fills in bps (above zero: worse than the influencer's price) and
    detection lag in ms."""

    slippage_bps: Histogram
    detection_ms: Histogram


class BoardAsked(Struct, frozen=True, kw_only=True):
    days: Annotated[int, Meta(ge=1, le=3650)] = 30
    min_trips: Annotated[int, Meta(ge=1, le=100_000)] = 1
    limit: Limit = 100


def exec_user(influencer_id: str) -> str:
    """The id of the paper portfolio that copies one influencer alone."""
    return f"exec-user:{influencer_id}"


@routes.get(
    "/influencers",
    "listInfluencers",
    reads=("influencer", "influencer_metrics", "subscription", "guardrail", "ledger_entry", "market_price_snapshot"),
    minutely=True,
)
async def list_influencers(call: Call) -> Page[Followed]:
    """All influencers, by copied volume, each with the portfolio that copies it alone."""
    return Page(items=await call.site.cached("influencers", 5, lambda: _followed(call.site)))


async def _followed(site: Site) -> list[Followed]:
    lines = await queries.influencers(site.pool)
    own = await accounts(site.pool, scopes=("EXEC_USER",), limit=100_000, earlier=Earlier.of(site.now()))
    of = {account.subscriber_id: account for account in own}
    found = []
    for line in lines:
        account = of.get(exec_user(line.influencer_id))
        facts = {name: getattr(line, name) for name in InfluencerLine.__struct_fields__}
        found.append(
            Followed(
                **facts,
                equity_micros=account.equity_micros if account else None,
                profit_micros=account.profit_micros if account else None,
                month_micros=account.profit_micros - account.month_then_micros if account else None,
                exposure_micros=account.exposure_micros if account else None,
                open_positions=account.open_positions if account else None,
            )
        )
    return found


@routes.get(
    "/influencers/{influencer_id}",
    "getInfluencer",
    reads=("influencer", "influencer_metrics", "guardrail", "copy_attempt", "shadow_entry"),
    minutely=True,
)
async def get_influencer(call: Call, asked: SpannedInfluencer) -> InfluencerDetail:
    """One influencer's trading, its copies' rates and the reasons of skips over a span."""
    site, name = call.site, asked.influencer_id
    return await site.cached(("influencer", name, asked.range), 10, lambda: _detail(site, name, asked.range))


async def _detail(site: Site, influencer_id: str, span: Range) -> InfluencerDetail:
    now = site.now()
    since = now - SPANS[span]
    trading = await influencer_metrics(site.pool, influencer_id, since.date(), now.date() + timedelta(days=1))
    if trading is None:
        raise NotFoundError(f"influencer {influencer_id!r} is not configured; see GET /api/v1/influencers")
    own = exec_user(influencer_id)
    copying = None
    budget = None
    if (configured := site.configuration.directory.subscribers.get(own)) is not None:
        copying = (await subscriber_metrics(site.pool, own, since, now + timedelta(days=1))).copying
        budget = configured.deposit_micros
    worth = await shadow(site.pool, influencer_id)
    return InfluencerDetail(
        trading=trading,
        exec_user=own,
        copying=copying,
        shadow_equity_micros=sum(one.equity_micros for one in worth),
        shadow_profit_micros=sum(one.profit_micros for one in worth),
        budget_micros=budget,
        reasons=await counted(site.pool, Filters(subscriber_id=own, influencer_id=influencer_id, since=since)),
    )


@routes.get(
    "/influencers/{influencer_id}/positions",
    "listInfluencerPositions",
    reads=("influencer_position", "position", "ledger_entry", "market_price_snapshot"),
)
async def list_positions(call: Call, asked: ByInfluencer) -> Page[Side]:
    """What the influencer holds, beside what the portfolio that copies it alone holds."""
    db = call.site.pool
    theirs = await queries.holdings(db, asked.influencer_id)
    ours = await positions(db, subscriber_id=exec_user(asked.influencer_id), limit=500)
    sides: dict[tuple[str, str], dict[str, int]] = {}
    for holding in theirs:
        side = sides.setdefault((holding.venue, holding.asset), {"their_share_micros": 0, "mark_micros": 0})
        side["their_share_micros"] += holding.share_micros
        side["mark_micros"] = holding.price_micros or side["mark_micros"]
    for position in ours:
        side = sides.setdefault((position.venue, position.asset), {"their_share_micros": 0, "mark_micros": 0})
        side["mark_micros"] = position.mark_micros
        side["copied_share_micros"] = position.share_micros
        side["copied_worth_micros"] = position.worth_micros
        side["copied_unrealized_micros"] = position.unrealized_micros
    items = [
        Side(
            venue=venue,
            asset=asset,
            their_share_micros=side["their_share_micros"],
            their_worth_micros=side["their_share_micros"] * side["mark_micros"] // 1_000_000,
            copied_share_micros=side.get("copied_share_micros", 0),
            copied_worth_micros=side.get("copied_worth_micros", 0),
            copied_unrealized_micros=side.get("copied_unrealized_micros", 0),
            mark_micros=side["mark_micros"],
        )
        for (venue, asset), side in sides.items()
    ]
    items.sort(key=lambda side: -abs(side.their_worth_micros))
    return Page(items=items[:500], names=await asset_names(db, [side.asset for side in items]))


@routes.get(
    "/influencers/{influencer_id}/curves",
    "getInfluencerCurves",
    reads=("shadow_entry", "portfolio_snapshot"),
    minutely=True,
)
async def get_curves(call: Call, asked: SpannedInfluencer) -> Curves:
    """The influencer's own profit and that of the portfolio that copies it, both in percent since the first common
    time."""
    site, name = call.site, asked.influencer_id
    return await site.cached(("curves", name, asked.range), _KEPT_SECONDS, lambda: _curves(site, name, asked.range))


async def _curves(site: Site, influencer_id: str, span: Range) -> Curves:
    now = site.now()
    ours = await equity_curve(site.pool, [exec_user(influencer_id)], now - SPANS[span], now, _POINTS)
    ours = [point for point in ours if point.equity_micros is not None]
    if not ours:
        return Curves(points=())
    worths = await shadow_snapshots(site.pool, influencer_id, ours[0].at - timedelta(minutes=1), now)
    base = await capital(site.pool, influencer_id, ours[0].at - timedelta(days=90))
    theirs = {worth.minute: worth.profit_micros for worth in worths}
    first = worths[0].profit_micros if worths else 0
    ours_first = ours[0].equity_micros or 0
    points = []
    for point in ours:
        profit = theirs.get(minute_of(point.at - timedelta(microseconds=1)))
        points.append(
            CurvePoint(
                at=point.at,
                shadow_micros=_fraction(profit - first, base) if profit is not None else None,
                copied_micros=_fraction((point.equity_micros or 0) - ours_first, ours_first),
            )
        )
    return Curves(points=tuple(points))


def _fraction(change: int, base: int) -> int | None:
    return change * 1_000_000 // base if base > 0 else None


@routes.get(
    "/influencers/{influencer_id}/distributions",
    "getInfluencerDistributions",
    reads=("copy_attempt",),
    minutely=True,
)
async def get_distributions(call: Call, asked: SpannedInfluencer) -> Distributions:
    """How slippage and detection lag of the newest copies are distributed."""
    site = call.site
    found = await qualities(
        site.pool,
        influencer_id=asked.influencer_id,
        subscriber_id=exec_user(asked.influencer_id),
        since=site.now() - SPANS[asked.range],
    )
    slippages = [one.slippage_bps_hundredths / 100 for one in found if one.slippage_bps_hundredths is not None]
    return Distributions(
        slippage_bps=histogram(SLIPPAGE_EDGES_BPS, slippages),
        detection_ms=histogram(LAG_EDGES_MS, [one.detection_us / 1000 for one in found]),
    )


def histogram(edges: tuple[int, ...], values: list[float]) -> Histogram:
    """Counts of values between edges, with their median and 95th percentile."""
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[next((number for number, edge in enumerate(edges) if value < edge), len(edges))] += 1
    values = sorted(values)
    percentile = [
        values[min(len(values) - 1, len(values) * percent // 100)] if values else None for percent in (50, 95)
    ]
    return Histogram(edges=edges, counts=tuple(counts), p50=percentile[0], p95=percentile[1])


@routes.get("/influencers/{influencer_id}/signals", "listSignals", reads=("trade_event",))
async def list_signals(call: Call, asked: ListedOfInfluencer) -> Page[Trade]:
    """The influencer's own trades, newest first."""
    after = decode(asked.cursor, tuple[datetime, int])
    items = await queries.trades(call.site.pool, asked.influencer_id, after=after, limit=asked.limit)
    behind = encode(items[-1].event_time, items[-1].signal_sequence) if len(items) == asked.limit else None
    return Page(items=items, next=behind, names=await asset_names(call.site.pool, {one.asset for one in items}))


@routes.get("/influencers/{influencer_id}/activities", "listActivities", reads=("activity_event",))
async def list_activities(call: Call, asked: ListedOfInfluencer) -> Page[Activity]:
    """The influencer's events other than trades, newest first."""
    before = decode(asked.cursor, tuple[datetime])
    items = await queries.activities(
        call.site.pool, asked.influencer_id, before=before[0] if before else None, limit=asked.limit
    )
    return Page(items=items, next=encode(items[-1].event_time) if len(items) == asked.limit else None)


@routes.get("/leaderboard", "getLeaderboard", reads=("shadow_entry", "influencer_metrics", "influencer"))
async def get_leaderboard(call: Call, asked: BoardAsked) -> Page[Ranked]:
    """Influencers by score over the last days."""
    site = call.site

    async def rank() -> list[Ranked]:
        until = site.now().date() + timedelta(days=1)
        return await leaderboard(
            site.pool, until - timedelta(days=asked.days), until, min_trips=asked.min_trips, limit=asked.limit
        )

    key = "leaderboard", asked.days, asked.min_trips, asked.limit
    return Page(items=await site.cached(key, _KEPT_SECONDS, rank))
