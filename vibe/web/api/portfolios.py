"""Portfolios: positions, exposures against their limits, equity curves, and exits that are owed."""

from __future__ import annotations

from msgspec import Struct

from projections.queries.accounts import (
    Account,
    Earlier,
    EquityPoint,
    Exposure,
    OwnPosition,
    accounts,
    equity_curve,
    exposure_by_asset,
    exposure_by_influencer,
    positions,
)
from projections.queries.exits import OwedExit, owed_exits
from projections.queries.markets import asset_names
from vibe.web.asked import SPANS, CursorText, Id, Limit, Range
from vibe.web.cursor import decode, encode
from vibe.web.problems import NotFoundError
from vibe.web.routing import Call, Page, Routes
from vibe.web.site import Site

routes = Routes("portfolios")

GLOBAL_PORTFOLIO = "exec-global"
_POINTS = 300


class ByPortfolio(Struct, frozen=True, kw_only=True):
    portfolio_id: Id


class SpannedPortfolio(Struct, frozen=True, kw_only=True):
    portfolio_id: Id
    range: Range = "30d"


class ListedPositions(Struct, frozen=True, kw_only=True):
    subscriber_id: Id | None = None
    influencer_id: Id | None = None
    asset: Id | None = None
    cursor: CursorText | None = None
    limit: Limit = 100


class ListedExits(Struct, frozen=True, kw_only=True):
    subscriber_id: Id | None = None
    limit: Limit = 200


class Limits(Struct, frozen=True, kw_only=True):
    """Limits of the portfolio's policy, in micros of a fraction of equity; 0 = off."""

    total_exposure_micros: int
    market_exposure_micros: int
    influencer_exposure_micros: int
    daily_loss_micros: int
    weekly_loss_micros: int
    drawdown_micros: int


class PortfolioDetail(Struct, frozen=True, kw_only=True):
    """A portfolio now, with what is at risk by market and by influencer, and its limits."""

    account: Account
    by_asset: tuple[Exposure, ...]
    by_influencer: tuple[Exposure, ...]
    limits: Limits
    names: dict[str, str]


class Equity(Struct, frozen=True, kw_only=True):
    points: tuple[EquityPoint, ...]


@routes.get(
    "/portfolios/global",
    "getGlobalPortfolio",
    reads=("subscriber", "guardrail", "ledger_entry", "position", "market_price_snapshot"),
    minutely=True,
)
async def get_global(call: Call) -> PortfolioDetail:
    """The paper portfolio that copies every influencer."""
    return await _portfolio(call.site, GLOBAL_PORTFOLIO)


@routes.get(
    "/portfolios/{portfolio_id}",
    "getPortfolio",
    reads=("subscriber", "guardrail", "ledger_entry", "position", "market_price_snapshot"),
    minutely=True,
)
async def get_portfolio(call: Call, asked: ByPortfolio) -> PortfolioDetail:
    """One portfolio: what it is worth, what is at risk, and its limits."""
    return await _portfolio(call.site, asked.portfolio_id)


async def _portfolio(site: Site, portfolio_id: str) -> PortfolioDetail:
    found = await accounts(
        site.pool,
        scopes=("SUBSCRIBER", "EXEC_USER", "EXEC_GLOBAL"),
        subscriber_id=portfolio_id,
        limit=1,
        earlier=Earlier.of(site.now()),
    )
    if not found:
        raise NotFoundError(f"portfolio {portfolio_id!r} is not configured; see GET /api/v1/subscribers")
    by_asset = await exposure_by_asset(site.pool, portfolio_id)
    policy = site.configuration.directory.subscriber_policy(portfolio_id)
    return PortfolioDetail(
        account=found[0],
        by_asset=tuple(by_asset),
        by_influencer=tuple(await exposure_by_influencer(site.pool, portfolio_id)),
        limits=Limits(**{name: getattr(policy, name) for name in Limits.__struct_fields__}),
        names=await asset_names(site.pool, [each.key for each in by_asset]),
    )


@routes.get("/portfolios/{portfolio_id}/equity", "getEquity", reads=("portfolio_snapshot",), minutely=True)
async def get_equity(call: Call, asked: SpannedPortfolio) -> Equity:
    """The equity of a portfolio over a span, in 300 even steps of at least a minute."""
    now = call.site.now()
    portfolio_id = GLOBAL_PORTFOLIO if asked.portfolio_id == "global" else asked.portfolio_id
    points = await equity_curve(call.site.pool, [portfolio_id], now - SPANS[asked.range], now, _POINTS)
    first = next((number for number, point in enumerate(points) if point.equity_micros is not None), len(points))
    return Equity(points=tuple(points[first:]))


@routes.get("/positions", "listPositions", reads=("position", "ledger_entry", "subscriber", "market_price_snapshot"))
async def list_positions(call: Call, asked: ListedPositions) -> Page[OwnPosition]:
    """Open positions by portfolio, venue and asset."""
    after = decode(asked.cursor, tuple[str, str, str])
    items = await positions(
        call.site.pool,
        subscriber_id=asked.subscriber_id,
        influencer_id=asked.influencer_id,
        asset=asked.asset,
        after=after or ("", "", ""),
        limit=asked.limit,
    )
    last = items[-1] if len(items) == asked.limit else None
    return Page(
        items=items,
        next=encode(last.subscriber_id, last.venue, last.asset) if last else None,
        names=await asset_names(call.site.pool, {one.asset for one in items}),
    )


@routes.get("/exits", "listExits", reads=("owed_exit",))
async def list_exits(call: Call, asked: ListedExits) -> Page[OwedExit]:
    """What copies owe: shares that their influencer gave up and they have not given up yet, the oldest first."""
    items = await owed_exits(call.site.pool, subscriber_id=asked.subscriber_id, limit=asked.limit)
    return Page(items=items, names=await asset_names(call.site.pool, {one.asset for one in items}))
