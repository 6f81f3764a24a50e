"""What `POST /info` answers about an account: positions, fills, orders, agents, fees, funding."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import ROUND_DOWN, Context, Decimal
from typing import Any, Final, TypeVar

from gateways.sandbox.hyperliquid.coins import Coin
from gateways.sandbox.hyperliquid.exchange import FREE_REQUESTS
from gateways.sandbox.hyperliquid.margin import Holding, Margin, leverage_of, liquidation_price, margin_of
from gateways.sandbox.hyperliquid.market import FILLS_PAGE, MAKER_FEE, TAKER_FEE, Account, Market
from gateways.sandbox.hyperliquid.market_data import ZERO_HASH, Fill, Funding, text
from gateways.sandbox.hyperliquid.market_info import dex_of
from gateways.sandbox.hyperliquid.orders import Order, TradingAccount
from gateways.sandbox.hyperliquid.subscriptions import Unparsable, address

_Row = TypeVar("_Row")
_ZERO: Final = Decimal(0)
_MICRO: Final = Decimal("0.000001")
_ENTRY: Final = Context(prec=6)
_LIQUIDATION: Final = Context(prec=10)
_AVERAGE: Final = Context(prec=8)
_RATIO: Final = Decimal("0.0000000001")


def _clearinghouse_state(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    user, dex = address(body.get("user")), dex_of(market, body)
    margin = margin_of(market, user, dex)
    trading, fills = market.trading.get(user) or TradingAccount(), (market.accounts.get(user) or Account(_ZERO)).fills
    return {
        "marginSummary": _summary(margin.holdings, margin.value),
        "crossMarginSummary": _summary(margin.cross, margin.cross_value),
        "crossMaintenanceMarginUsed": text(sum((held.maintenance for held in margin.cross), _ZERO)),
        "withdrawable": text(max(_ZERO, margin.free)),
        "assetPositions": [
            {"type": "oneWay", "position": _position(held, margin, trading, fills)} for held in margin.holdings
        ],
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


def _position(held: Holding, margin: Margin, trading: TradingAccount, fills: Iterable[Fill]) -> dict[str, object]:
    liquidated = liquidation_price(margin, held)
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
        "liquidationPx": None if liquidated is None else text(_LIQUIDATION.plus(liquidated)),
        "marginUsed": text(held.margin),
        "maxLeverage": held.coin.max_leverage,
        "cumFunding": _cumulated(held, trading, fills),
    }


def _cumulated(held: Holding, trading: TradingAccount, fills: Iterable[Fill]) -> dict[str, str]:
    """The funding that a position paid, which is positive here; `sinceChange` counts from the last fill."""
    own = [one for one in trading.fundings if one.coin == held.coin.name]
    if not own:
        return {"allTime": "0.0", "sinceOpen": "0.0", "sinceChange": "0.0"}
    moves = [fill for fill in fills if fill.coin == held.coin.name]
    opened = max((fill.time for fill in moves if not fill.start_position), default=0)
    changed = max((fill.time for fill in moves), default=0)
    paid = {
        name: -sum((one.usdc for one in own if one.time >= since), _ZERO)
        for name, since in (("allTime", 0), ("sinceOpen", opened), ("sinceChange", changed))
    }
    return {name: text(amount) for name, amount in paid.items()}


def _user_fills(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return [fill.wire() for fill in _shown(body, _account_of(market, body).newest_fills(), newest_first=True)]


def _user_fills_by_time(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    # As on the venue, TWAP slices are left out: they have a question of their own.
    within = _between(body, _account_of(market, body).fills, lambda fill: fill.time)
    newest_first = bool(body.get("reversed"))
    fills = [fill for fill in within if fill.twap_id is None][:: -1 if newest_first else 1]
    return [fill.wire() for fill in _shown(body, fills, newest_first=newest_first)[:FILLS_PAGE]]


def _shown(body: dict[str, Any], fills: list[Fill], *, newest_first: bool) -> list[Fill]:
    """With `aggregateByTime` the fills of one order in one block are one, which begins where the first of them did."""
    if not body.get("aggregateByTime"):
        return fills
    merged: list[Fill] = []
    for fill in fills:
        last = merged[-1] if merged else None
        if last is not None and (last.coin, last.time, last.oid) == (fill.coin, fill.time, fill.oid):
            merged[-1] = _one_fill(last, fill, newest_first=newest_first)
        else:
            merged.append(fill)
    return merged


def _one_fill(one: Fill, other: Fill, *, newest_first: bool) -> Fill:
    earlier = other if newest_first else one
    size = one.sz + other.sz
    return replace(
        earlier,
        sz=size,
        px=_AVERAGE.divide(one.px * one.sz + other.px * other.sz, size),
        fee=one.fee + other.fee,
        closed_pnl=one.closed_pnl + other.closed_pnl,
    )


def _twap_slices_by_time(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return _sliced(_between(body, _account_of(market, body).fills, lambda fill: fill.time))


def _sliced(fills: Iterable[Fill]) -> list[dict[str, object]]:
    slices = [fill for fill in fills if fill.twap_id is not None][:FILLS_PAGE]
    return [{"fill": fill.wire() | {"twapId": None}, "twapId": fill.twap_id} for fill in slices]


def _between(body: dict[str, Any], rows: Iterable[_Row], time_of: Callable[[_Row], int]) -> list[_Row]:
    start, end = body.get("startTime"), body.get("endTime")
    if not isinstance(start, int) or not isinstance(end, int | None):
        raise Unparsable("expected startTime and endTime in ms")
    return [row for row in rows if start <= time_of(row) and (end is None or time_of(row) <= end)]


def _account_of(market: Market, body: dict[str, Any]) -> Account:
    return market.accounts.get(address(body.get("user"))) or Account(_ZERO)


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
    dex = dex_of(market, body)
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
        "nRequestsCap": FREE_REQUESTS + int(known.volume),
        "nRequestsSurplus": 0,
    }


def _spot_state(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    address(body.get("user"))
    return {"balances": []}


def _user_fees(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    address(body.get("user"))
    rates = {"cross": text(TAKER_FEE), "add": text(MAKER_FEE)}
    return {
        "dailyUserVlm": [],
        "feeSchedule": {**rates, "referralDiscount": "0.0", "tiers": {"vip": [], "mm": []}},
        "userCrossRate": rates["cross"],
        "userAddRate": rates["add"],
        "activeReferralDiscount": "0.0",
    }


def _user_funding(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return [
        {"time": one.time, "hash": ZERO_HASH, "delta": {"type": "funding"} | _delta(one)}
        for one in _between(body, _trading(market, body).fundings, lambda one: one.time)
    ]


def _delta(funding: Funding) -> dict[str, object]:
    return {name: value for name, value in funding.wire().items() if name != "time"}


def _ledger(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return _between(body, _trading(market, body).ledger, lambda one: int(one["time"]))


def _twap_slices(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    return _sliced(_account_of(market, body).fills)[::-1]


def _portfolio(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    user = address(body.get("user"))
    account = market.accounts.get(user) or Account(_ZERO)
    worth, dexes = account.deposit, ("", *market.dexes())
    earned = sum((margin_of(market, user, dex).value - account.deposit for dex in dexes), _ZERO)
    volume = sum((fill.px * fill.sz for fill in account.fills), _ZERO)
    row = {
        "accountValueHistory": [[now_ms, text(worth + earned)]],
        "pnlHistory": [[now_ms, text(earned)]],
        "vlm": text(volume),
    }
    spans = ("day", "week", "month", "allTime", "perpDay", "perpWeek", "perpMonth", "perpAllTime")
    return [[span, row] for span in spans]


def _sub_accounts(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    master = address(body.get("user"))
    found = [
        {
            "name": user[:10],
            "subAccountUser": user,
            "master": master,
            "clearinghouseState": _clearinghouse_state(market, now_ms, {"user": user}),
            "spotState": {"balances": []},
        }
        for user, known in market.trading.items()
        if known.leader == master
    ]
    return found or None


def _no_vaults(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    address(body.get("user"))
    return []


def _active_asset_data(market: Market, now_ms: int, body: dict[str, Any]) -> object:
    coin = market.coins.get(str(body.get("coin")))
    if coin is None:
        raise Unparsable(f"unknown coin {body.get('coin')!r}")
    return active_asset_data(market, address(body.get("user")), coin)


def active_asset_data(market: Market, user: str, coin: Coin) -> dict[str, object]:
    """Leverage of one coin, and what can still be bought and sold of it: sizes in base units, margin in USD."""
    trading = market.trading.get(user) or TradingAccount()
    leverage, mark = leverage_of(trading, coin), market.mid(coin.name) or coin.opening_px
    held = (market.accounts.get(user) or Account(_ZERO)).positions.get(coin.name)
    free = max(_ZERO, margin_of(market, user, coin.dex).free)
    # Closing a position frees its margin, so that the side against it has twice that more.
    closing = _ZERO if held is None else 2 * abs(held.size) * mark / leverage
    long, short = free, free
    if held is not None and held.size > 0:
        short += closing
    elif held is not None:
        long += closing
    sizes = [(usd * leverage / mark).quantize(coin.lot, ROUND_DOWN) for usd in (long, short)]
    return {
        "user": user,
        "coin": coin.name,
        "leverage": {"type": "isolated" if coin.name in trading.isolated else "cross", "value": leverage},
        "maxTradeSzs": [text(size) for size in sizes],
        "availableToTrade": [text(usd.quantize(_MICRO)) for usd in (long, short)],
        "markPx": text(mark),
    }


QUESTIONS: Final[dict[str, Callable[[Market, int, dict[str, Any]], object]]] = {
    "clearinghouseState": _clearinghouse_state,
    "spotClearinghouseState": _spot_state,
    "activeAssetData": _active_asset_data,
    "userFills": _user_fills,
    "userFillsByTime": _user_fills_by_time,
    "userTwapSliceFills": _twap_slices,
    "userTwapSliceFillsByTime": _twap_slices_by_time,
    "userFunding": _user_funding,
    "userNonFundingLedgerUpdates": _ledger,
    "orderStatus": _order_status,
    "openOrders": _open_orders,
    "frontendOpenOrders": _frontend_open_orders,
    "historicalOrders": _historical_orders,
    "userRole": _user_role,
    "userAbstraction": _user_abstraction,
    "userRateLimit": _user_rate_limit,
    "userFees": _user_fees,
    "extraAgents": _extra_agents,
    "subAccounts": _sub_accounts,
    "userVaultEquities": _no_vaults,
    "portfolio": _portfolio,
}
