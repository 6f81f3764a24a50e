"""`POST /info`: the venue's questions and answers. A body it does not understand is `Unparsable` (HTTP 422)."""

from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any, Final

from gateways.sandbox.hyperliquid.coins import Coin
from gateways.sandbox.hyperliquid.frames import book_wire
from gateways.sandbox.hyperliquid.market import FILLS_PAGE, Account, Market, Position
from gateways.sandbox.hyperliquid.market_data import Fill, text
from gateways.sandbox.hyperliquid.orders import Order, TradingAccount
from gateways.sandbox.hyperliquid.subscriptions import Unparsable, address, book_options
from gateways.sandbox.hyperliquid.traders import address_of

_LEVERAGE: Final = 10
_ZERO: Final = Decimal(0)
_MICRO: Final = Decimal("0.000001")
_AGENT_DAYS: Final = 90
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
    dex, account = _dex(market, body), market.accounts.get(address(body.get("user"))) or Account(_ZERO)
    held = [(market.coins[name], position) for name, position in account.positions.items()]
    rows = [_Row(coin, position, _mark(market, coin, position)) for coin, position in held if coin.dex == dex]
    notional, margin = sum((row.value for row in rows), _ZERO), sum((row.margin for row in rows), _ZERO)
    value = account.deposit + account.earned[dex] + sum((row.profit for row in rows), _ZERO)
    summary = {
        "accountValue": text(value),
        "totalNtlPos": text(notional),
        "totalRawUsd": text(value - sum((row.value.copy_sign(row.position.size) for row in rows), _ZERO)),
        "totalMarginUsed": text(margin),
    }
    return {
        "marginSummary": summary,
        "crossMarginSummary": summary,
        # Maintenance margin is half of the initial margin at the highest leverage.
        "crossMaintenanceMarginUsed": text(
            sum((row.value / (2 * row.coin.max_leverage) for row in rows), _ZERO).quantize(_MICRO)
        ),
        "withdrawable": text(max(_ZERO, value - margin)),
        "assetPositions": [{"type": "oneWay", "position": row.wire()} for row in rows],
        "time": now_ms,
    }


class _Row:
    """An open position valued at `mark` USD."""

    def __init__(self, coin: Coin, position: Position, mark: Decimal) -> None:
        self.coin = coin
        self.position = position
        self.leverage = min(_LEVERAGE, coin.max_leverage)
        self.value = (abs(position.size) * mark).quantize(_MICRO)
        self.margin = (self.value / self.leverage).quantize(_MICRO)
        self.profit = (position.size * (mark - position.entry_px)).quantize(_MICRO)

    def wire(self) -> dict[str, object]:
        return {
            "coin": self.coin.name,
            "szi": text(self.position.size),
            "leverage": {"type": "cross", "value": self.leverage},
            "entryPx": text(_ENTRY.plus(self.position.entry_px)),
            "positionValue": text(self.value),
            "unrealizedPnl": text(self.profit),
            "returnOnEquity": text((self.profit / self.margin).quantize(_RATIO) if self.margin else _ZERO),
            "liquidationPx": None,
            "marginUsed": text(self.margin),
            "maxLeverage": self.coin.max_leverage,
            "cumFunding": {"allTime": "0.0", "sinceOpen": "0.0", "sinceChange": "0.0"},
        }


def _mark(market: Market, coin: Coin, position: Position) -> Decimal:
    mid = market.mid(coin.name)
    return position.entry_px if mid is None else mid


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
    return {"role": "user" if asked in market.accounts else "missing"}


def _user_abstraction(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    address(body.get("user"))
    return "default"


def _extra_agents(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    until = now_ms + _AGENT_DAYS * 86_400_000
    agents = _trading(market, body).agents
    return [{"name": name, "address": agent, "validUntil": until} for agent, name in agents.items()]


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
