"""Markets and assets: marks, what portfolios hold, and what the newest decisions measured."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from projections.queries import markets as queries
from projections.queries.copies import AssetBoard, Measured, asset_board, measured
from projections.queries.markets import Mark, Market
from vibe.web.asked import SPANS, CursorText, Id, Limit, Range
from vibe.web.cursor import decode, encode
from vibe.web.problems import NotFoundError
from vibe.web.routing import Call, Page, Routes

routes = Routes("markets")


class ListedMarkets(Struct, frozen=True, kw_only=True):
    search: Id | None = None
    cursor: CursorText | None = None
    limit: Limit = 100


class ByMarket(Struct, frozen=True, kw_only=True):
    venue: Id
    market: Id


class MarksAsked(Struct, frozen=True, kw_only=True):
    venue: Id
    asset: Id
    range: Range = "1d"


class MarketRow(Struct, frozen=True, kw_only=True):
    """One asset; `measured` is None where none of the newest decisions is about it."""

    board: AssetBoard
    measured: Measured | None


@routes.get(
    "/markets",
    "listMarkets",
    reads=("market_price_snapshot", "market", "position", "copy_attempt", "guardrail"),
)
async def list_markets(call: Call, asked: ListedMarkets) -> Page[MarketRow]:
    """Every asset that is marked, described or held, with what the newest decisions about it measured."""
    site, after = call.site, decode(asked.cursor, tuple[str, str])
    rows = await asset_board(site.pool, search=asked.search, after=after or ("", ""), limit=asked.limit)
    of: dict[str, Measured] = await site.cached("measured", 10, lambda: measured(site.pool))
    items = [MarketRow(board=row, measured=of.get(row.asset)) for row in rows]
    return Page(items=items, next=encode(rows[-1].venue, rows[-1].asset) if len(rows) == asked.limit else None)


@routes.get("/markets/{venue}/{market}", "getMarket", reads=("market", "market_price_snapshot"))
async def get_market(call: Call, asked: ByMarket) -> Market:
    """One described market with its outcomes."""
    found = await queries.market(call.site.pool, asked.venue, asked.market)
    if found is None:
        raise NotFoundError(f"{asked.venue} has not described a market {asked.market!r}; see GET /api/v1/markets")
    return found


@routes.get("/markets/{venue}/{asset}/marks", "listMarks", reads=("market_price_snapshot",), minutely=True)
async def list_marks(call: Call, asked: MarksAsked) -> Page[Mark]:
    """The marks of an asset over a span, in order."""
    now: datetime = call.site.now()
    since = now - SPANS[asked.range]
    items = await queries.marks(call.site.pool, asked.venue, asked.asset, since, now + timedelta(days=1), 5000)
    return Page(items=items)
