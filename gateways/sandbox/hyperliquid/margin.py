"""Margin of an account in one dex: what its positions are worth, what they bind and when they are liquidated.

Every position is marked at the middle of its book. Maintenance margin is half of the initial margin at the coin's
highest leverage.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateways.sandbox.hyperliquid.coins import Coin
from gateways.sandbox.hyperliquid.market import Account, Market, Position
from gateways.sandbox.hyperliquid.orders import TradingAccount

DEFAULT_LEVERAGE: Final = 10
_ZERO: Final = Decimal(0)
_MICRO: Final = Decimal("0.000001")


@dataclass(frozen=True)
class Holding:
    """An open position at `mark` USD. `added` is what was added to or taken from an isolated margin by request."""

    coin: Coin
    position: Position
    mark: Decimal
    leverage: int
    isolated: bool
    added: Decimal

    @property
    def value(self) -> Decimal:
        """USD, without sign."""
        return (abs(self.position.size) * self.mark).quantize(_MICRO)

    @property
    def profit(self) -> Decimal:
        return (self.position.size * (self.mark - self.position.entry_px)).quantize(_MICRO)

    @property
    def margin(self) -> Decimal:
        """What the position binds; the margin of an isolated one moves with its profit."""
        if not self.isolated:
            return (self.value / self.leverage).quantize(_MICRO)
        posted = abs(self.position.size) * self.position.entry_px / self.leverage + self.added
        return (posted + self.profit).quantize(_MICRO)

    @property
    def maintenance(self) -> Decimal:
        return (self.value / (2 * self.coin.max_leverage)).quantize(_MICRO)


@dataclass(frozen=True)
class Margin:
    """One dex of an account. `value` is its equity, `reserved` what its resting orders bind, all USD."""

    holdings: tuple[Holding, ...]
    value: Decimal
    reserved: Decimal

    @property
    def used(self) -> Decimal:
        return sum((held.margin for held in self.holdings), _ZERO)

    @property
    def free(self) -> Decimal:
        """What a new position may bind; below zero when too much is bound already."""
        return self.value - self.used - self.reserved

    @property
    def cross(self) -> tuple[Holding, ...]:
        return tuple(held for held in self.holdings if not held.isolated)

    @property
    def cross_value(self) -> Decimal:
        """The equity without what isolated positions have for themselves."""
        return self.value - sum((held.margin for held in self.holdings if held.isolated), _ZERO)

    def liquidated(self) -> tuple[Holding, ...]:
        """The positions that no margin carries any more: all cross ones together, an isolated one alone."""
        cross = self.cross
        short = self.cross_value < sum((held.maintenance for held in cross), _ZERO)
        alone = tuple(held for held in self.holdings if held.isolated and held.margin < held.maintenance)
        return alone + (cross if short else ())


def liquidation_price(margin: Margin, held: Holding) -> Decimal | None:
    """The mark at which a position is liquidated while all other marks stay; None when no price above zero does it."""
    if held.isolated:
        spare = held.margin - held.maintenance
    else:
        spare = margin.cross_value - sum((one.maintenance for one in margin.cross), _ZERO)
    side = 1 if held.position.size > 0 else -1
    rate = Decimal(1) / (2 * held.coin.max_leverage)
    px = held.mark - side * spare / abs(held.position.size) / (1 - side * rate)
    return px if px > 0 else None


def leverage_of(trading: TradingAccount, coin: Coin) -> int:
    """What the account set for the coin, the venue's default otherwise."""
    return trading.leverage.get(coin.name, min(DEFAULT_LEVERAGE, coin.max_leverage))


def margin_of(market: Market, address: str, dex: str) -> Margin:
    """The margin of one dex; of an address without an account, an empty one."""
    account = market.accounts.get(address) or Account(_ZERO)
    trading = market.trading.get(address) or TradingAccount()
    holdings = tuple(
        Holding(
            coin := market.coins[name],
            position,
            mark_of(market, name, position),
            leverage_of(trading, coin),
            name in trading.isolated,
            trading.isolated.get(name, _ZERO),
        )
        for name, position in account.positions.items()
        if market.coins[name].dex == dex
    )
    value = account.deposit + account.earned[dex] + sum((held.profit for held in holdings), _ZERO)
    reserved = sum(
        (
            order.left * order.limit / leverage_of(trading, market.coins[order.coin])
            for order in trading.open_orders()
            if not order.reduce_only and market.coins[order.coin].dex == dex
        ),
        _ZERO,
    )
    return Margin(holdings, value, reserved)


def mark_of(market: Market, coin: str, position: Position) -> Decimal:
    """The mark, or the entry price before there is a book."""
    mid = market.mid(coin)
    return position.entry_px if mid is None else mid
