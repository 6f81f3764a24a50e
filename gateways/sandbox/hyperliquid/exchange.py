"""`POST /exchange`: signed actions of accounts that trade, with the venue's own answers and error texts.

Signatures are recovered, nonces are kept per signer, and orders are matched with the book as it is: what they take is
gone until the book is made anew. A local server is not mainnet, so that the official SDK signs with source "b".
"""

from collections.abc import Callable
from decimal import Context, Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any, Final

from gateways.hyperliquid.signing import action_digest, signer_of
from gateways.sandbox.hyperliquid.coins import Coin
from gateways.sandbox.hyperliquid.market import FLAT, Market
from gateways.sandbox.hyperliquid.market_data import Book, Fill, Level, Trade
from gateways.sandbox.hyperliquid.orders import Order, TradingAccount
from gateways.sandbox.hyperliquid.subscriptions import Unparsable, address
from gateways.sandbox.hyperliquid.traders import address_of

LIQUIDITY: Final = address_of("liquidity")
"""The account on the other side of every match."""
_NONCES: Final = 100
_DAY_MS: Final = 86_400_000
_LEAST_USD: Final = Decimal(10)
_LEVERAGE: Final = 10
_AVERAGE: Final = Context(prec=8)
"""An average price is rounded, so that size times price is not the exact notional."""
_FREE_REQUESTS: Final = 10_000
_ZERO: Final = Decimal(0)
_NEVER_PLACED: Final = "Order was never placed, already canceled, or filled."

Traded = Callable[[list[Trade], list[tuple[str, Fill]]], None]


class Refused(Exception):  # noqa: N818 - the venue refuses
    """An action or an order is refused with this text."""


class Exchange:
    """The trading side of the market. `traded` reports trades and fills; `now_ms` is the venue's time."""

    def __init__(self, market: Market, traded: Traded, now_ms: Callable[[], int]) -> None:
        self._market = market
        self._traded = traded
        self._now_ms = now_ms
        self._nonces: dict[str, list[int]] = {}
        self._next_oid = 77_000_000_000

    def open_account(self, account: str, deposit: Decimal, agents: dict[str, str]) -> None:
        """An account with a deposit in USD and agents by address that may trade for it."""
        self._market.open_account(account, deposit)
        self._market.trading.setdefault(account, TradingAccount()).agents.update(agents)

    def act(self, body: Any) -> dict[str, Any]:
        """The answer to one signed action. Raises `Unparsable` for what is no such request."""
        try:
            action, nonce, signature = body["action"], body["nonce"], body["signature"]
            vault, expires_after = body.get("vaultAddress"), body.get("expiresAfter")
            r, s, v, kind = signature["r"], signature["s"], signature["v"], action["type"]
        except (TypeError, KeyError, AttributeError) as error:
            raise Unparsable(f"expected an action, a nonce and a signature: {error}") from error
        if not isinstance(nonce, int) or not isinstance(expires_after, int | None) or not isinstance(v, int):
            raise Unparsable("expected whole numbers of milliseconds")
        vault = None if vault is None else address(vault)
        handler = _ACTIONS.get(kind) if isinstance(kind, str) else None
        if handler is None:
            raise Unparsable(f"unknown action {kind!r}")
        digest = action_digest(action, nonce=nonce, expires_after=expires_after, vault=vault, mainnet=False)
        signer = signer_of(digest, str(r), str(s), v)
        try:
            if signer is None:
                raise Refused("Unable to recover signer.")
            account = self._account_of(signer, vault)
            self._check_time(signer, nonce, expires_after)
            return {"status": "ok", "response": handler(self, account, action)}
        except Refused as refused:
            return {"status": "err", "response": str(refused)}

    def _account_of(self, signer: str, vault: str | None) -> str:
        """The account that a signer trades for."""
        for account, known in self._market.trading.items():
            if signer == account or signer in known.agents:
                if vault is not None and vault not in self._market.trading:
                    raise Refused(f"Vault not registered: {vault}")
                return vault or account
        raise Refused(f"User or API Wallet {signer} does not exist.")

    def _check_time(self, signer: str, nonce: int, expires_after: int | None) -> None:
        now, seen = self._now_ms(), self._nonces.setdefault(signer, [])
        if nonce in seen:
            raise Refused(f"Invalid nonce: duplicate nonce {nonce}")
        if not now - 2 * _DAY_MS < nonce < now + _DAY_MS:
            raise Refused(f"Invalid nonce: {nonce} is not within two days before and one day after {now}")
        if len(seen) >= _NONCES and nonce < seen[0]:
            raise Refused(f"Invalid nonce: {nonce} is below the lowest of the last {_NONCES}, {seen[0]}")
        if expires_after is not None and expires_after < now:
            raise Refused(f"Action expired: expiresAfter {expires_after} is before {now}")
        seen.append(nonce)
        seen.sort()
        del seen[:-_NONCES]

    # --- actions ---------------------------------------------------------------------------------------------

    def _order(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        orders = action.get("orders")
        if not isinstance(orders, list) or not orders:
            raise Unparsable("expected orders")
        if len(orders) > 200:
            raise Refused("Signed action over weight limit of 200.")
        return {"type": "order", "data": {"statuses": [self._placed(account, order) for order in orders]}}

    def _placed(self, account: str, wire: Any) -> dict[str, Any]:
        try:
            asset, coin = wire["a"], self._market.asset_ids()[wire["a"]]
            buys, reduce_only, tif = bool(wire["b"]), bool(wire["r"]), wire["t"]["limit"]["tif"]
            limit, size, cloid = Decimal(wire["p"]), Decimal(wire["s"]), wire.get("c")
        except (TypeError, KeyError, InvalidOperation, AttributeError) as error:
            raise Unparsable(f"not an order: {error}") from error
        trading = self._market.trading[account]
        self._count(trading)
        self._next_oid += 1
        now = self._now_ms()
        order = Order(self._next_oid, coin.name, buys, limit, size, size, reduce_only, tif, cloid, now, status_at=now)
        try:
            self._check(account, coin, order)
            self._match(account, coin, order)
        except Refused as refused:
            order.status = "rejected"
            trading.add(order)
            return {"error": f"{refused} asset={asset}"}
        trading.add(order)
        named = {} if cloid is None else {"cloid": cloid}
        if order.status == "open":
            return {"resting": {"oid": order.oid, **named}}
        filled = order.size - order.left
        spent = sum((fill.px * fill.sz for fill in self._fills_of(account, order)), _ZERO)
        average = f"{_AVERAGE.divide(spent, filled).normalize():f}"
        return {"filled": {"totalSz": f"{filled.normalize():f}", "avgPx": average, "oid": order.oid, **named}}

    def _fills_of(self, account: str, order: Order) -> list[Fill]:
        return [fill for fill in self._market.accounts[account].fills if fill.oid == order.oid]

    def _check(self, account: str, coin: Coin, order: Order) -> None:
        """Raises Refused for what the venue refuses before it matches; a reduce-only order shrinks to the position."""
        if order.limit <= 0 or not order.limit.is_finite():
            raise Refused("Order has invalid price.")
        if coin.snap(order.limit, "ROUND_FLOOR") != order.limit:
            raise Refused("Price must be divisible by tick size.")
        if not order.size:
            raise Refused("Order has zero size.")
        if order.size < 0 or not order.size.is_finite() or order.size % coin.lot:
            raise Refused("Order has invalid size.")
        held = self._market.accounts[account].positions.get(coin.name, FLAT).size
        closes = held * (1 if order.buys else -1) < 0
        if order.reduce_only:
            if not closes:
                raise Refused("Reduce only order would increase position.")
            order.left = order.size = min(order.size, abs(held))
        whole = order.reduce_only and order.size == abs(held)
        if order.limit * order.size < _LEAST_USD and not whole:
            raise Refused("Order must have minimum value of $10.")
        mid = self._market.mid(coin.name)
        if mid is not None and abs(order.limit / mid - 1) > Decimal("0.8"):
            raise Refused("Order price cannot be more than 80% away from the reference price")
        adds = order.size - (min(order.size, abs(held)) if closes else _ZERO)
        if adds and mid is not None and adds * mid / self._leverage(account, coin) > self._free(account):
            raise Refused("Insufficient margin to place order.")

    def _leverage(self, account: str, coin: Coin) -> int:
        return self._market.trading[account].leverage.get(coin.name, min(_LEVERAGE, coin.max_leverage))

    def _free(self, account: str) -> Decimal:
        """What is not used as margin of the account's value over all dexes, USD."""
        known = self._market.accounts[account]
        value, used = known.deposit + sum(known.earned.values(), _ZERO), _ZERO
        for name, position in known.positions.items():
            mark = self._market.mid(name) or position.entry_px
            value += position.size * (mark - position.entry_px)
            used += abs(position.size) * mark / self._leverage(account, self._market.coins[name])
        return value - used

    def _match(self, account: str, coin: Coin, order: Order) -> None:
        book = self._market.books.get(coin.name) or Book((), ())
        reached = [
            level
            for level in (book.asks if order.buys else book.bids)
            if (level.px <= order.limit if order.buys else level.px >= order.limit)
        ]
        if order.tif == "Alo" and reached:
            raise Refused(f"Post only order would have immediately matched, bbo was {_bbo(book)}.")
        if order.tif == "Ioc" and not reached:
            order.status = "iocCancelRejected"
            raise Refused("Order could not immediately match against any resting orders.")
        for level in reached:
            if order.left:
                self._take(account, coin, order, level)
        if not order.left:
            order.status = "filled"
        elif order.tif == "Ioc":
            order.status = "canceled"

    def _take(self, account: str, coin: Coin, order: Order, level: Level) -> None:
        size = min(order.left, level.sz)
        order.left -= size
        self._market.trading[account].volume += size * level.px
        maker_oid = self._next_oid = self._next_oid + 1
        users = (account, LIQUIDITY) if order.buys else (LIQUIDITY, account)
        oids = (order.oid, maker_oid) if order.buys else (maker_oid, order.oid)
        digest = blake2b(repr(oids).encode(), digest_size=32).hexdigest()
        trade = Trade(
            coin=coin.name,
            side="B" if order.buys else "A",
            px=level.px,
            sz=size,
            time=self._now_ms(),
            hash=f"0x{digest}",
            tid=int(digest, 16) >> 206,
            users=users,
        )
        fills = self._market.settle(trade, *oids, cloid=order.cloid)
        self._market.books[coin.name] = _without(self._market.books[coin.name], level, size)
        self._traded([trade], list(fills))

    def _count(self, trading: TradingAccount) -> None:
        trading.requests += 1
        allowed = _FREE_REQUESTS + int(trading.volume)
        if trading.requests > allowed:
            raise Refused(
                f"Too many cumulative requests sent ({trading.requests} > {allowed}) for cumulative volume traded "
                f"${trading.volume:.2f}. Place taker orders to free up 1 request per USDC traded."
            )

    def _cancel(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        names = [(one.get("a"), one.get("o")) for one in _list(action, "cancels")]
        return self._cancelled(account, names)

    def _cancel_by_cloid(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        names = [(one.get("asset"), one.get("cloid")) for one in _list(action, "cancels")]
        return self._cancelled(account, names)

    def _cancelled(self, account: str, names: list[tuple[Any, Any]]) -> dict[str, Any]:
        statuses: list[Any] = []
        for asset, name in names:
            self._count(self._market.trading[account])
            order = self._market.trading[account].find(name)
            if order is None or order.status != "open":
                statuses.append({"error": f"{_NEVER_PLACED} asset={asset}"})
            else:
                order.status, order.status_at = "canceled", self._now_ms()
                statuses.append("success")
        return {"type": "cancel", "data": {"statuses": statuses}}

    def _update_leverage(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        coin, wanted = self._market.asset_ids().get(action.get("asset", -1)), action.get("leverage")
        if coin is None or not isinstance(wanted, int):
            raise Unparsable("expected an asset and a leverage")
        if not 1 <= wanted <= coin.max_leverage:
            raise Refused("Invalid leverage value.")
        self._market.trading[account].leverage[coin.name] = wanted
        return {"type": "default"}

    def _nothing(self, account: str, action: dict[str, Any]) -> dict[str, Any]:
        return {"type": "default"}


_ACTIONS: Final[dict[str, Callable[[Exchange, str, dict[str, Any]], dict[str, Any]]]] = {
    "order": Exchange._order,
    "cancel": Exchange._cancel,
    "cancelByCloid": Exchange._cancel_by_cloid,
    "updateLeverage": Exchange._update_leverage,
    "noop": Exchange._nothing,
}


def weight(body: object) -> int:
    """The request weight of an action: 1, and 1 more for every 40 orders or cancels in it."""
    action = body.get("action") if isinstance(body, dict) else None
    batch = (action.get("orders") or action.get("cancels") or []) if isinstance(action, dict) else []
    return 1 + (len(batch) if isinstance(batch, list) else 0) // 40


def _list(action: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = action.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Unparsable(f"expected {name}")
    return found


def _without(book: Book, taken: Level, size: Decimal) -> Book:
    """The book after `size` of a level was taken."""

    def side(levels: tuple[Level, ...]) -> tuple[Level, ...]:
        left = (Level(one.px, one.sz - size, one.n) if one is taken else one for one in levels)
        return tuple(level for level in left if level.sz > 0)

    return Book(side(book.bids), side(book.asks))


def _bbo(book: Book) -> str:
    bid, ask = book.top
    return f"{bid.px if bid else '-'}@{ask.px if ask else '-'}"
