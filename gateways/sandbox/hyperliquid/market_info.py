"""What `POST /info` answers about the market: universes, prices, books, candles, funding."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from gateways.sandbox.hyperliquid.candles import INTERVALS
from gateways.sandbox.hyperliquid.coins import Coin
from gateways.sandbox.hyperliquid.frames import book_wire
from gateways.sandbox.hyperliquid.funding import RATE
from gateways.sandbox.hyperliquid.market import Market
from gateways.sandbox.hyperliquid.market_data import text
from gateways.sandbox.hyperliquid.subscriptions import Unparsable, book_options
from gateways.sandbox.hyperliquid.traders import address_of

_ZERO: Final = Decimal(0)
_DAY_MS: Final = 86_400_000

# maxLeverage -> (table id, USD of notional from which less leverage is allowed, that leverage), as on the venue.
_TIERS: Final = {40: (56, 150_000_000, 20), 25: (55, 100_000_000, 15), 20: (53, 40_000_000, 10), 10: (51, 3_000_000, 5)}


def _meta(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    dex = dex_of(market, body)
    coins = [coin for coin in market.coins.values() if coin.dex == dex]
    leverages = sorted({coin.max_leverage for coin in coins} & _TIERS.keys())
    return {
        "universe": [
            {
                "szDecimals": coin.sz_decimals,
                "name": coin.name,
                "maxLeverage": coin.max_leverage,
                "marginTableId": _TIERS[coin.max_leverage][0] if coin.max_leverage in _TIERS else coin.max_leverage,
                **({"isDelisted": True} if coin.name in market.delisted else {}),
            }
            for coin in coins
        ],
        "marginTables": [_margin_table(leverage) for leverage in leverages],
        "collateralToken": 0,
    }


def _margin_table(leverage: int) -> list[object]:
    table, above_usd, then = _TIERS[leverage]
    tiers = [
        {"lowerBound": "0.0", "maxLeverage": leverage},
        {"lowerBound": text(Decimal(above_usd)), "maxLeverage": then},
    ]
    return [table, {"description": f"tiered {leverage}x", "marginTiers": tiers}]


def _perp_dexs(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return [None, *(_perp_dex(market, dex) for dex in market.dexes())]


def _perp_dex(market: Market, dex: str) -> dict[str, object]:
    coins = [coin.name for coin in market.coins.values() if coin.dex == dex]
    return {
        "name": dex,
        "fullName": dex.upper(),
        "deployer": address_of(f"{dex} deployer"),
        "oracleUpdater": None,
        "feeRecipient": address_of(f"{dex} fees"),
        "assetToStreamingOiCap": [[coin, "25000000.0"] for coin in coins],
        "subDeployers": [],
        "deployerFeeScale": "1.0",
        "lastDeployerFeeScaleChangeTime": "1970-01-01T00:00:00",
        "assetToFundingMultiplier": [],
        "assetToFundingInterestRate": [],
    }


def _all_mids(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return {coin: text(mid) for coin, mid in market.mids(dex_of(market, body)).items()}


def _l2_book(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    coin, options = body.get("coin"), book_options(body)
    if not isinstance(coin, str):
        raise Unparsable(f"expected a coin, got {coin!r}")
    book = market.books.get(coin)
    if book is None:
        return None
    shown = book if options["figures"] is None else book.rounded(options["figures"], options["mantissa"] or 1)
    return book_wire(coin, shown, now_ms)


def _spot_meta(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    token = {
        "name": "USDC",
        "szDecimals": 8,
        "weiDecimals": 8,
        "index": 0,
        "tokenId": "0x6d1e7cde53ba9467b783cb7c530ce054",
        "isCanonical": True,
        "evmContract": None,
        "fullName": None,
        "deployerTradingFeeShare": "0.0",
    }
    return {"universe": [], "tokens": [token]}


def dex_of(market: Market, body: dict[str, Any]) -> str:
    dex = body.get("dex") or ""
    if dex != "" and dex not in market.dexes():
        raise Unparsable(f"unknown dex {dex!r}")
    return str(dex)


def context(market: Market, coin: Coin, now_ms: int) -> dict[str, object]:
    """The context of one coin: every price is the middle of its book, volumes are those of the last 24 hours."""
    mid, trades = market.mid(coin.name), market.recent_trades[coin.name]
    day = [one for one in market.candles[coin.name].minutes if one.start > now_ms - _DAY_MS]
    held = (account.positions.get(coin.name) for account in market.accounts.values())
    long = sum((position.size for position in held if position is not None and position.size > 0), _ZERO)
    book = market.books.get(coin.name)
    bid, ask = book.top if book is not None else (None, None)
    price = coin.opening_px if mid is None else mid
    return {
        "funding": text(RATE),
        "openInterest": text(long),
        "prevDayPx": text(day[0].open if day else coin.opening_px),
        "dayNtlVlm": text(sum((one.notional for one in day), _ZERO)),
        "premium": None if mid is None else "0.0",
        "oraclePx": text(price),
        "markPx": text(trades[-1].px if mid is None and trades else price),
        "midPx": None if mid is None else text(mid),
        "impactPxs": [text(bid.px), text(ask.px)] if bid and ask else None,
        "dayBaseVlm": text(sum((one.volume for one in day), _ZERO)),
    }


def _meta_and_contexts(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    dex = dex_of(market, body)
    coins = (coin for coin in market.coins.values() if coin.dex == dex)
    return [_meta(market, now_ms, body), [context(market, coin, now_ms) for coin in coins]]


def _all_metas(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return [_meta(market, now_ms, {"dex": dex}) for dex in ("", *market.dexes())]


def _spot_meta_and_contexts(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return [_spot_meta(market, now_ms, body), []]


def _recent_trades(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return [trade.wire() for trade in reversed(market.recent_trades[_coin(market, body)])]


def _candles(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    asked = body.get("req")
    if not isinstance(asked, dict) or str(asked.get("interval")) not in INTERVALS:
        raise Unparsable("expected a coin, an interval, a startTime and an endTime")
    coin, start, end = _coin(market, asked), asked.get("startTime"), asked.get("endTime") or now_ms
    if not isinstance(start, int) or not isinstance(end, int):
        raise Unparsable("expected startTime and endTime in ms")
    interval = asked["interval"]
    return [candle.wire(coin, interval) for candle in market.candles[coin].of(interval, start, end)]


def _funding_history(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    coin, start, end = _coin(market, body), body.get("startTime"), body.get("endTime") or now_ms
    if not isinstance(start, int) or not isinstance(end, int):
        raise Unparsable("expected startTime and endTime in ms")
    times = [time for time in market.funding_times if start <= time <= end]
    return [{"coin": coin, "fundingRate": text(RATE), "premium": "0.0", "time": time} for time in times]


def _deploy_auction(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return {
        "startTimeSeconds": now_ms // _DAY_MS * _DAY_MS // 1_000,
        "durationSeconds": _DAY_MS // 1_000,
        "startGas": "500.0",
        "currentGas": "500.0",
        "endGas": None,
    }


def _coin(market: Market, body: dict[str, Any]) -> str:
    coin = body.get("coin")
    if not isinstance(coin, str) or coin not in market.coins:
        raise Unparsable(f"unknown coin {coin!r}")
    return coin


QUESTIONS: Final[dict[str, Callable[[Market, int, dict[str, Any]], object]]] = {
    "meta": _meta,
    "metaAndAssetCtxs": _meta_and_contexts,
    "allPerpMetas": _all_metas,
    "perpDexs": _perp_dexs,
    "perpDeployAuctionStatus": _deploy_auction,
    "spotMeta": _spot_meta,
    "spotMetaAndAssetCtxs": _spot_meta_and_contexts,
    "allMids": _all_mids,
    "l2Book": _l2_book,
    "recentTrades": _recent_trades,
    "candleSnapshot": _candles,
    "fundingHistory": _funding_history,
}
