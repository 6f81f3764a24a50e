"""`POST /info`: the venue's questions and answers. A body it does not understand is `Unparsable` (HTTP 422)."""

from collections.abc import Callable, Iterable
from decimal import Context, Decimal
from typing import Any, Final

from gateways.sandbox.hyperliquid.frames import book_wire
from gateways.sandbox.hyperliquid.margin import Holding, margin_of
from gateways.sandbox.hyperliquid.market import FILLS_PAGE, Account, Market
from gateways.sandbox.hyperliquid.market_data import Fill, text
from gateways.sandbox.hyperliquid.orders import Order, TradingAccount
from gateways.sandbox.hyperliquid.subscriptions import Unparsable, address, book_options
from gateways.sandbox.hyperliquid.traders import address_of

_ZERO: Final = Decimal(0)
_ENTRY: Final = Context(prec=6)
_RATIO: Final = Decimal("0.0000000001")

_LIGHT: Final = frozenset({"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState"})
_BY_ROWS: Final = frozenset({"userFills", "userFillsByTime", "userTwapSliceFillsByTime"})
_ROWS_PER_WEIGHT: Final = 20

# maxLeverage -> (table id, USD of notional from which less leverage is allowed, that leverage), as on the venue.
_TIERS: Final = {40: (56, 150_000_000, 20), 25: (55, 100_000_000, 15), 20: (53, 40_000_000, 10), 10: (51, 3_000_000, 5)}


def answer(market: Market, now_ms: int, body: object) -> object:
    """The answer to one `/info` body, ready for JSON; `now_ms` is the venue's time. Raises `Unparsable`."""
    if not isinstance(body, dict):
        raise Unparsable("expected an object")
    kind = body.get("type")
    if not isinstance(kind, str) or kind not in _QUESTIONS:
        raise Unparsable(f"unknown type {kind!r}")
    return _QUESTIONS[kind](market, now_ms, body)


def weight(body: object) -> int:
    """What a request costs before its answer is known: 20 unless it is one of the light ones."""
    kind = str(body.get("type")) if isinstance(body, dict) else ""
    return 60 if kind == "userRole" else 2 if kind in _LIGHT else 20


def surcharge(body: dict[str, Any], answered: object) -> int:
    """What the rows of an answer cost on top: 1 for every 20 fills."""
    return -(-len(answered) // _ROWS_PER_WEIGHT) if body["type"] in _BY_ROWS and isinstance(answered, list) else 0


def _meta(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    dex = _dex(market, body)
    coins = [coin for coin in market.coins.values() if coin.dex == dex]
    leverages = sorted({coin.max_leverage for coin in coins} & _TIERS.keys())
    return {
        "universe": [
            {
                "szDecimals": coin.sz_decimals,
                "name": coin.name,
                "maxLeverage": coin.max_leverage,
                "marginTableId": _TIERS[coin.max_leverage][0] if coin.max_leverage in _TIERS else coin.max_leverage,
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
    return {coin: text(mid) for coin, mid in market.mids(_dex(market, body)).items()}


def _l2_book(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    coin, options = body.get("coin"), book_options(body)
    if not isinstance(coin, str):
        raise Unparsable(f"expected a coin, got {coin!r}")
    book = market.books.get(coin)
    if book is None:
        return None
    shown = book if options["figures"] is None else book.rounded(options["figures"], options["mantissa"] or 1)
    return book_wire(coin, shown, now_ms)


def _clearinghouse_state(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    user, dex = address(body.get("user")), _dex(market, body)
    margin = margin_of(market, user, dex)
    trading = market.trading.get(user) or TradingAccount()
    return {
        "marginSummary": _summary(margin.holdings, margin.value),
        "crossMarginSummary": _summary(margin.cross, margin.cross_value),
        "crossMaintenanceMarginUsed": text(sum((held.maintenance for held in margin.cross), _ZERO)),
        "withdrawable": text(max(_ZERO, margin.free)),
        "assetPositions": [{"type": "oneWay", "position": _position(held, trading)} for held in margin.holdings],
        "time": now_ms,
    }


def _summary(holdings: Iterable[Holding], value: Decimal) -> dict[str, str]:
    holdings = tuple(holdings)
    signed = sum((held.value.copy_sign(held.position.size) for held in holdings), _ZERO)
    return {
        "accountValue": text(value),
        "totalNtlPos": text(sum((held.value for held in holdings), _ZERO)),
        "totalRawUsd": text(value - signed),
        "totalMarginUsed": text(sum((held.margin for held in holdings), _ZERO)),
    }


def _position(held: Holding, trading: TradingAccount) -> dict[str, object]:
    leverage: dict[str, object] = {"type": "isolated" if held.isolated else "cross", "value": held.leverage}
    if held.isolated:
        leverage["rawUsd"] = text(held.margin - held.value.copy_sign(held.position.size))
    return {
        "coin": held.coin.name,
        "szi": text(held.position.size),
        "leverage": leverage,
        "entryPx": text(_ENTRY.plus(held.position.entry_px)),
        "positionValue": text(held.value),
        "unrealizedPnl": text(held.profit),
        "returnOnEquity": text((held.profit / held.margin).quantize(_RATIO) if held.margin else _ZERO),
        "liquidationPx": None,
        "marginUsed": text(held.margin),
        "maxLeverage": held.coin.max_leverage,
        "cumFunding": {"allTime": "0.0", "sinceOpen": "0.0", "sinceChange": "0.0"},
    }


def _user_fills(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return [fill.wire() for fill in _account_of(market, body).newest_fills()]


def _user_fills_by_time(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    # As on the venue, TWAP slices are left out: they have a question of their own.
    return [fill.wire() for fill in _within(market, body) if fill.twap_id is None][:FILLS_PAGE]


def _twap_slices_by_time(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    slices = [fill for fill in _within(market, body) if fill.twap_id is not None][:FILLS_PAGE]
    return [{"fill": fill.wire() | {"twapId": None}, "twapId": fill.twap_id} for fill in slices]


def _within(market: Market, body: dict[str, Any]) -> list[Fill]:
    start, end = body.get("startTime"), body.get("endTime")
    if not isinstance(start, int) or not isinstance(end, int | None):
        raise Unparsable("expected startTime and endTime in ms")
    fills = _account_of(market, body).fills
    return [fill for fill in fills if start <= fill.time and (end is None or fill.time <= end)]


def _account_of(market: Market, body: dict[str, Any]) -> Account:
    if body.get("aggregateByTime") or body.get("reversed"):
        raise Unparsable("aggregateByTime and reversed are not played here")
    return market.accounts.get(address(body.get("user"))) or Account(_ZERO)


def _dex(market: Market, body: dict[str, Any]) -> str:
    dex = body.get("dex") or ""
    if dex != "" and dex not in market.dexes():
        raise Unparsable(f"unknown dex {dex!r}")
    return str(dex)


def _trading(market: Market, body: dict[str, Any]) -> TradingAccount:
    return market.trading.get(address(body.get("user"))) or TradingAccount()


def _order_status(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    order = _trading(market, body).find(body.get("oid"))
    return {"status": "unknownOid"} if order is None else {"status": "order", "order": order.status_wire()}


def _open_orders(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return [order.wire() for order in _open_of(market, body)]


def _frontend_open_orders(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return [order.frontend_wire() for order in _open_of(market, body)]


def _open_of(market: Market, body: dict[str, Any]) -> list[Order]:
    dex = _dex(market, body)
    return [order for order in _trading(market, body).open_orders() if market.coins[order.coin].dex == dex]


def _historical_orders(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return [order.status_wire() for order in reversed(_trading(market, body).orders.values())]


def _user_role(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    asked = address(body.get("user"))
    for account, known in market.trading.items():
        if asked in known.agents:
            return {"role": "agent", "data": {"user": account}}
    own = market.trading.get(asked)
    if own is not None and own.leader is not None:
        return {"role": "subAccount", "data": {"master": own.leader}}
    return {"role": "user" if asked in market.accounts else "missing"}


def _user_abstraction(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    address(body.get("user"))
    return "default"


def _extra_agents(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    known = _trading(market, body)
    return [
        {"name": name, "address": agent, "validUntil": known.valid_until[agent]}
        for agent, name in known.agents.items()
        if name
    ]


def _user_rate_limit(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    known = _trading(market, body)
    return {
        "cumVlm": text(known.volume),
        "nRequestsUsed": known.requests,
        "nRequestsCap": 10_000 + int(known.volume),
        "nRequestsSurplus": 0,
    }


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


def _spot_state(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    address(body.get("user"))
    return {"balances": []}


_QUESTIONS: Final[dict[str, Callable[[Market, int, dict[str, Any]], object]]] = {
    "meta": _meta,
    "perpDexs": _perp_dexs,
    "allMids": _all_mids,
    "l2Book": _l2_book,
    "clearinghouseState": _clearinghouse_state,
    "userFills": _user_fills,
    "userFillsByTime": _user_fills_by_time,
    "userTwapSliceFillsByTime": _twap_slices_by_time,
    "orderStatus": _order_status,
    "openOrders": _open_orders,
    "frontendOpenOrders": _frontend_open_orders,
    "historicalOrders": _historical_orders,
    "userRole": _user_role,
    "userAbstraction": _user_abstraction,
    "extraAgents": _extra_agents,
    "userRateLimit": _user_rate_limit,
    "spotMeta": _spot_meta,
    "spotClearinghouseState": _spot_state,
}
