"""The matching engine: orders of the accounts that trade, against the book as it is.

What an order takes is gone until the source makes the book anew. An order that rests is filled at its own price as soon
as a new book crosses it. The account on the other side of every match is `LIQUIDITY`: no trader of the source is moved.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final, Protocol

from gateways.sandbox.hyperliquid import refusals
from gateways.sandbox.hyperliquid.coins import Coin
from gateways.sandbox.hyperliquid.margin import Holding, leverage_of, margin_of, mark_of
from gateways.sandbox.hyperliquid.market import FLAT, Market
from gateways.sandbox.hyperliquid.market_data import Book, Fill, Level, Liquidation, Trade
from gateways.sandbox.hyperliquid.orders import Order
from gateways.sandbox.hyperliquid.refusals import InvalidPayload, Refused
from gateways.sandbox.hyperliquid.traders import address_of

LIQUIDITY: Final = address_of("liquidity")
"""The account on the other side of every match."""
_LEAST_USD: Final = Decimal(10)
_FARTHEST: Final = Decimal("0.8")
_ZERO: Final = Decimal(0)
_MOST: Final = Decimal(10**15)
_FIRST_OID: Final = 77_000_000_000


class Feeds(Protocol):
    """What the engine reports to; each becomes frames for those who subscribed."""

    def traded(self, trades: Sequence[Trade], fills: Iterable[tuple[str, Fill]]) -> None: ...

    def filled(self, fills: Iterable[tuple[str, Fill]]) -> None: ...

    def order_changed(self, account: str, order: Order) -> None: ...

    def user_event(self, account: str, event: dict[str, Any]) -> None: ...

    def book_taken(self, coin: str) -> None: ...


class MatchingEngine:
    """Places, fills and cancels orders. `now_ms` is the venue's time."""

    def __init__(self, market: Market, feeds: Feeds, now_ms: Callable[[], int]) -> None:
        self._market = market
        self._feeds = feeds
        self._now_ms = now_ms
        self._last_oid = _FIRST_OID
        self._resting: defaultdict[str, dict[int, tuple[str, Order]]] = defaultdict(dict)

    def next_oid(self) -> int:
        self._last_oid += 1
        return self._last_oid

    def place(self, account: str, coin: Coin, order: Order, forced: tuple[str, str] | None = None) -> None:
        """Match a new order and let what is left of it rest, as its `tif` wants. Raises Refused; then it is over.

        `forced` is a refusal that was ordered: its text and the order's status.
        """
        trading = self._market.trading[account]
        try:
            if forced is not None:
                raise Refused(*forced)
            self._check(account, coin, order)
            self._match(account, coin, order)
        except Refused as refused:
            order.status, order.status_at = refused.status, self._now_ms()
            trading.add(order)
            self._feeds.order_changed(account, order)
            raise
        if order.status == "open":
            trading.add(order)
            trading.resting[order.oid] = order
            self._resting[coin.name][order.oid] = (account, order)
        self._feeds.order_changed(account, order)

    def cancel(self, account: str, order: Order, status: str = "canceled") -> None:
        """End an order that rests; `status` names the reason."""
        order.status, order.status_at = status, self._now_ms()
        self._forget(account, order)
        self._feeds.order_changed(account, order)
        if status != "canceled":
            self._feeds.user_event(account, {"nonUserCancel": [{"coin": order.coin, "oid": order.oid}]})

    def cancel_all(self, account: str, status: str = "canceled") -> int:
        """End every resting order of an account; returns how many there were."""
        resting = self._market.trading[account].open_orders()
        for order in resting:
            self.cancel(account, order, status)
        return len(resting)

    def book_changed(self, coin: str) -> None:
        """Fill what rests inside the book as it is now, oldest order first, and liquidate what lost its margin."""
        for account, order in tuple(self._resting.get(coin, {}).values()):
            self._fill_resting(account, self._market.coins[coin], order)
        for account in tuple(self._market.trading):
            if coin in self._market.accounts[account].positions:
                self.liquidate(account, self._market.coins[coin].dex)

    def liquidate(self, account: str, dex: str) -> None:
        """Close at the market what no margin carries: orders are cancelled first, and the account is informed."""
        margin = margin_of(self._market, account, dex)
        lost = margin.liquidated()
        if not lost:
            return
        self.cancel_all(account, "liquidatedCanceled")
        notional = sum((held.value for held in lost), _ZERO)
        for held in lost:
            self._close(account, held)
        event = {
            "lid": self.next_oid(),
            "liquidator": LIQUIDITY,
            "liquidated_user": account,
            "liquidated_ntl_pos": str(notional.normalize()),
            "liquidated_account_value": str(margin.value.normalize()),
        }
        self._feeds.user_event(account, {"liquidation": event})

    def auto_deleverage(self, account: str) -> None:
        """Close every position of an account at its mark, as the venue does when no other margin is left.

        Such a fill is not printed as a trade, pays no fee and is no liquidation of this account.
        """
        for name in tuple(self._market.accounts[account].positions):
            self._settle_at_mark(account, self._market.coins[name], "Auto-Deleveraging")

    def delist(self, coin: Coin) -> None:
        """End trading in a coin: orders are cancelled, positions of accounts that trade are settled at the mark."""
        self._market.delisted.add(coin.name)
        for account, order in tuple(self._resting[coin.name].values()):
            self.cancel(account, order, "delistedCanceled")
        for account in self._market.trading:
            if coin.name in self._market.accounts[account].positions:
                self._settle_at_mark(account, coin, "Settlement")

    def _settle_at_mark(self, account: str, coin: Coin, why: str) -> None:
        position = self._market.accounts[account].positions[coin.name]
        px, sells = mark_of(self._market, coin.name, position), position.size > 0
        oids = (self.next_oid(), self.next_oid())
        trade = self._trade(coin, px, abs(position.size), oids, account, self._now_ms(), buys=not sells, crossed=False)
        fills = self._market.settle(trade, *(oids[::-1] if sells else oids), forced=why)
        self._feeds.filled(fills)

    # --- checks ----------------------------------------------------------------------------------------------

    def _check(self, account: str, coin: Coin, order: Order) -> None:
        if coin.name in self._market.delisted:
            raise Refused("Asset is delisted.")
        held = self._market.accounts[account].positions.get(coin.name, FLAT).size
        closes = held * (1 if order.buys else -1) < 0
        if order.reduce_only:
            if not closes:
                raise _refused("reduce_only")
            order.left = order.size = min(order.size, abs(held))
        whole = order.reduce_only and order.size == abs(held)
        if order.limit * order.size < _LEAST_USD and not whole:
            raise _refused("minimum")
        mid = self._market.mid(coin.name)
        if mid is not None and abs(order.limit / mid - 1) > _FARTHEST:
            raise _refused("far_price")
        adds = order.size - (min(order.size, abs(held)) if closes else _ZERO)
        if adds and mid is not None:
            margin = margin_of(self._market, account, coin.dex)
            if adds * mid / leverage_of(self._market.trading[account], coin) > margin.free:
                raise _refused("margin")

    # --- matching --------------------------------------------------------------------------------------------

    def _match(self, account: str, coin: Coin, order: Order) -> None:
        book = self._market.books.get(coin.name) or Book((), ())
        reached = _reached(book, order)
        if order.tif == "Alo" and reached:
            raise Refused(
                f"Post only order would have immediately matched, bbo was {_bbo(book)}.", status="badAloPxRejected"
            )
        at_once = order.tif in ("Ioc", "FrontendMarket")
        if at_once and not reached:
            raise _refused("no_match")
        self._market.trading[account].add(order)
        block_ms = self._now_ms()
        for level in reached:
            if order.left:
                self._take(account, coin, order, level, level.px, block_ms, crossed=True)
        if reached:
            self._feeds.book_taken(coin.name)
        order.status_at = block_ms
        if not order.left:
            order.status = "filled"
        elif at_once:
            order.status = "canceled"

    def _fill_resting(self, account: str, coin: Coin, order: Order) -> None:
        before, block_ms = order.left, self._now_ms()
        for level in _reached(self._market.books[coin.name], order):
            if order.reduce_only:
                held = self._market.accounts[account].positions.get(coin.name, FLAT).size
                if held * (1 if order.buys else -1) >= 0:
                    self.cancel(account, order, "reduceOnlyCanceled")
                    return
                order.left = min(order.left, abs(held))
            self._take(account, coin, order, level, order.limit, block_ms, crossed=False)
            if not order.left:
                break
        if order.left != before:
            order.status_at = block_ms
            if not order.left:
                order.status = "filled"
                self._forget(account, order)
            self._feeds.order_changed(account, order)

    def _forget(self, account: str, order: Order) -> None:
        self._market.trading[account].resting.pop(order.oid, None)
        self._resting[order.coin].pop(order.oid, None)

    def _close(self, account: str, held: Holding) -> None:
        buys, coin, size = held.position.size < 0, held.coin, abs(held.position.size)
        now = self._now_ms()
        order = Order(
            self.next_oid(), coin.name, buys, held.mark, size, size, True, "FrontendMarket", None, now, status_at=now
        )
        self._market.trading[account].add(order)
        book = self._market.books.get(coin.name) or Book((), ())
        for level in book.asks if buys else book.bids:
            if order.left:
                mark = Liquidation(account, held.mark, "market")
                self._take(account, coin, order, level, level.px, now, crossed=True, liquidation=mark)
        if order.left:  # What the book does not hold is taken over at the mark.
            level, mark = Level(held.mark, order.left, 1), Liquidation(account, held.mark, "backstop")
            self._take(account, coin, order, level, held.mark, now, crossed=True, liquidation=mark)
        order.status = "filled"
        self._feeds.order_changed(account, order)

    def _take(
        self,
        account: str,
        coin: Coin,
        order: Order,
        level: Level,
        px: Decimal,
        time_ms: int,
        *,
        crossed: bool,
        liquidation: Liquidation | None = None,
    ) -> None:
        size = min(order.left, level.sz)
        order.left -= size
        order.spent += size * px
        self._market.trading[account].volume += size * px
        oids = (order.oid, self.next_oid())
        trade = self._trade(coin, px, size, oids, account, time_ms, buys=order.buys, crossed=crossed)
        fills = self._market.settle(
            trade,
            *(oids if order.buys else oids[::-1]),
            cloids={account: order.cloid} if order.cloid else {},
            liquidation=liquidation,
        )
        if coin.name in self._market.books:
            self._market.books[coin.name] = _without(self._market.books[coin.name], level, size)
        self._feeds.traded([trade], fills)

    def _trade(
        self,
        coin: Coin,
        px: Decimal,
        size: Decimal,
        oids: tuple[int, int],
        account: str,
        time_ms: int,
        *,
        buys: bool,
        crossed: bool,
    ) -> Trade:
        digest = blake2b(repr(oids).encode(), digest_size=32).hexdigest()
        return Trade(
            coin=coin.name,
            side="B" if buys == crossed else "A",
            px=px,
            sz=size,
            time=time_ms,
            hash=f"0x{digest}",
            tid=int(digest, 16) >> 206,
            users=(account, LIQUIDITY) if buys else (LIQUIDITY, account),
        )


def check_payload(coin: Coin, order: Order) -> None:
    """Raises InvalidPayload for a price or a size that no market would take."""
    if not order.limit.is_finite() or not 0 < order.limit < _MOST:
        raise _refused("price", InvalidPayload)
    if not order.size:
        raise _refused("zero_size", InvalidPayload)
    if not order.size.is_finite() or not 0 < order.size < _MOST or order.size % coin.lot:
        raise _refused("size", InvalidPayload)
    if coin.snap(order.limit, "ROUND_FLOOR") != order.limit:
        raise _refused("tick", InvalidPayload)


def _refused(name: str, kind: type[Refused] = Refused) -> Refused:
    return kind(*refusals.TEXTS[name])


def _reached(book: Book, order: Order) -> tuple[Level, ...]:
    """The levels inside the order's limit, best first."""
    if order.buys:
        return tuple(level for level in book.asks if level.px <= order.limit)
    return tuple(level for level in book.bids if level.px >= order.limit)


def _without(book: Book, taken: Level, size: Decimal) -> Book:
    """The book after `size` of a level was taken."""

    def side(levels: tuple[Level, ...]) -> tuple[Level, ...]:
        left = (Level(one.px, one.sz - size, one.n) if one is taken else one for one in levels)
        return tuple(level for level in left if level.sz > 0)

    return Book(side(book.bids), side(book.asks))


def _bbo(book: Book) -> str:
    bid, ask = book.top
    return f"{bid.px if bid else '-'}@{ask.px if ask else '-'}"
