"""The state of the venue, fed by every source: coins, books, recent trades, the positions and fills of accounts."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Final

from gateways.sandbox.hyperliquid.candles import Candles
from gateways.sandbox.hyperliquid.coins import Coin
from gateways.sandbox.hyperliquid.market_data import Book, Fill, Liquidation, Trade
from gateways.sandbox.hyperliquid.orders import TradingAccount
from gateways.sandbox.hyperliquid.traders import DEPOSIT

# Trades the venue replays to a new subscriber, without a flag.
REPLAY: Final = 30
# "Only the 10000 most recent fills are available" (the venue's page on userFillsByTime).
FILLS_KEPT: Final = 10_000
# The most fills in one answer or snapshot.
FILLS_PAGE: Final = 2_000

TAKER_FEE: Final = Decimal("0.00045")
MAKER_FEE: Final = Decimal("0.00015")
_MICRO: Final = Decimal("0.000001")
_ZERO: Final = Decimal(0)


@dataclass(frozen=True)
class Position:
    """`size` is signed, in base units (negative = short); `entry_px` is the average price of what is open."""

    size: Decimal
    entry_px: Decimal


FLAT: Final = Position(_ZERO, _ZERO)


@dataclass
class Account:
    """What one address holds. `deposit` is USD, the same in every dex; `earned` is closed profit less fees by dex."""

    deposit: Decimal
    positions: dict[str, Position] = field(default_factory=dict)
    earned: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    fills: deque[Fill] = field(default_factory=lambda: deque(maxlen=FILLS_KEPT))

    def newest_fills(self) -> list[Fill]:
        """At most a page of fills, newest first, TWAP slices left out as on the venue."""
        return [fill for fill in self.fills if fill.twap_id is None][: -FILLS_PAGE - 1 : -1]


class Market:
    """Folds trades into positions. It reads no clock: block times come in with the trades."""

    def __init__(self) -> None:
        self.coins: dict[str, Coin] = {}
        self.books: dict[str, Book] = {}
        self.recent_trades: dict[str, deque[Trade]] = {}
        self.accounts: dict[str, Account] = {}
        self.trading: dict[str, TradingAccount] = {}
        self.candles: dict[str, Candles] = {}
        self.funding_times: list[int] = []
        self.delisted: set[str] = set()
        self._by_asset: dict[int, Coin] = {}

    def list_coins(self, coins: Iterable[Coin]) -> None:
        """Open trading in `coins`. Their order is the order of the universe."""
        for coin in coins:
            self.coins[coin.name] = coin
            self.recent_trades[coin.name] = deque(maxlen=REPLAY)
            self.candles[coin.name] = Candles()
        self._by_asset = self._numbered()

    def open_account(self, address: str, deposit: Decimal = DEPOSIT) -> Account:
        """The account of `address`, made with `deposit` USD when it is new."""
        return self.accounts.setdefault(address, Account(deposit))

    def asset(self, number: object) -> Coin | None:
        """The coin that orders name with this number: its place in the universe of its dex."""
        return self._by_asset.get(number) if isinstance(number, int) else None

    def _numbered(self) -> dict[int, Coin]:
        found, dexes = dict[int, Coin](), ("", *self.dexes())
        for coin in self.coins.values():
            dex = dexes.index(coin.dex)
            first = 100_000 + 10_000 * dex if dex else 0
            found[first + sum(first <= taken < first + 10_000 for taken in found)] = coin
        return found

    def dexes(self) -> tuple[str, ...]:
        """The names of the builder dexes with a listed coin; the main dex is not among them."""
        return tuple(dict.fromkeys(coin.dex for coin in self.coins.values() if coin.dex))

    def mid(self, coin: str) -> Decimal | None:
        """The middle of the book, the last price where a side is empty, None before anything happened."""
        book = self.books.get(coin)
        if book is not None and book.mid is not None:
            return book.mid
        return self.recent_trades[coin][-1].px if self.recent_trades[coin] else None

    def mids(self, dex: str) -> dict[str, Decimal]:
        """The mids of one dex, by coin; coins without a price are absent."""
        found = ((name, self.mid(name)) for name, coin in self.coins.items() if coin.dex == dex)
        return {name: mid for name, mid in found if mid is not None}

    def settle(
        self,
        trade: Trade,
        buyer_oid: int,
        seller_oid: int,
        twap_id: int | None = None,
        cloids: Mapping[str, str] = {},
        liquidation: Liquidation | None = None,
        forced: str | None = None,
    ) -> tuple[tuple[str, Fill], tuple[str, Fill]]:
        """Record `trade` and move both accounts; returns (address, fill) of the buyer and of the seller.

        `twap_id` belongs to the taker: a maker never knows that it met a TWAP slice. `cloids` are those of the
        orders, by account. `forced` is the display text of what the venue did without an order: it is not printed as a
        trade and costs no fee.
        """
        if forced is None:
            self.recent_trades[trade.coin].append(trade)
            self.candles[trade.coin].add(trade.time, trade.px, trade.sz)
        buyer, seller = trade.users
        return (
            (buyer, self._fill(buyer, "B", trade, buyer_oid, twap_id, cloids.get(buyer), liquidation, forced)),
            (seller, self._fill(seller, "A", trade, seller_oid, twap_id, cloids.get(seller), liquidation, forced)),
        )

    def _fill(
        self,
        address: str,
        side: str,
        trade: Trade,
        oid: int,
        twap_id: int | None,
        cloid: str | None,
        liquidation: Liquidation | None,
        forced: str | None,
    ) -> Fill:
        account = self.open_account(address)
        before = account.positions.get(trade.coin, FLAT)
        after, closed_pnl = moved(before, trade.sz if side == "B" else -trade.sz, trade.px)
        crossed = side == trade.side
        rate = _ZERO if forced else TAKER_FEE if crossed else MAKER_FEE
        fill = Fill(
            coin=trade.coin,
            px=trade.px,
            sz=trade.sz,
            side=side,
            time=trade.time,
            start_position=before.size,
            dir=forced or direction(before.size, after.size),
            closed_pnl=closed_pnl,
            hash=trade.hash,
            oid=oid,
            crossed=crossed,
            fee=(trade.px * trade.sz * rate).quantize(_MICRO, ROUND_DOWN),
            tid=trade.tid,
            twap_id=twap_id if crossed else None,
            cloid=cloid,
            liquidation=liquidation,
        )
        account.fills.append(fill)
        account.earned[self.coins[trade.coin].dex] += fill.closed_pnl - fill.fee
        if after.size:
            account.positions[trade.coin] = after
        else:
            account.positions.pop(trade.coin, None)
        return fill


def moved(position: Position, delta: Decimal, px: Decimal) -> tuple[Position, Decimal]:
    """The position after trading `delta` (signed base units) at `px`, and the profit this closed in USD, fee aside."""
    size = position.size + delta
    if position.size * delta >= 0:
        return Position(size, (position.size * position.entry_px + delta * px) / size), _ZERO
    closed = min(abs(position.size), abs(delta)).copy_sign(position.size)
    closed_pnl = (closed * (px - position.entry_px)).quantize(_MICRO)
    flipped = size * position.size < 0
    return Position(size, px if flipped else position.entry_px), closed_pnl


def direction(before: Decimal, after: Decimal) -> str:
    """The venue's display text for a fill that moved a position from `before` to `after`."""
    if before * after < 0:
        return "Long > Short" if before > 0 else "Short > Long"
    if abs(after) > abs(before):
        return "Open Long" if after > 0 else "Open Short"
    return "Close Long" if before > 0 else "Close Short"
