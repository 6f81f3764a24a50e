"""Paper fills: walk the captured book level by level inside the price band, with the venue's fees (docs/design.md,
paper fills).

A decision estimates with the prefix sums of the same walk (domain/order_book.py), so an order costs what its decision
estimated.
"""

from typing import NamedTuple

from domain.events import Level, Terms, TradeSide
from domain.guardrails import Policy
from domain.micros import MICRO, times

_FEE_STEP = 10
"""Polymarket rounds fees down to five decimals of a dollar (docs/venues/polymarket.md, fees)."""


class Taken(NamedTuple):
    """What is taken from one level: its price, the size, the cash and the fee, all in micros."""

    price_micros: int
    share_micros: int
    notional_micros: int
    fee_micros: int


class Fees(NamedTuple):
    """A taker's fee: r x shares x p x (1 - p) where the venue has a rate (Polymarket), else a part of notional."""

    rate_micros: int | None
    part_micros: int

    def of(self, price_micros: int, share_micros: int, notional_micros: int) -> int:
        """Fee in micros of one fill."""
        if self.rate_micros is None:
            return notional_micros * self.part_micros // MICRO
        exact = self.rate_micros * share_micros * price_micros * (MICRO - price_micros)
        return max(0, exact) // (_FEE_STEP * MICRO**3) * _FEE_STEP

    def most(self, limit_micros: int, share_micros: int) -> int:
        """The most that buying these shares at or below a limit can cost, notional and fee together, in micros."""
        notional = -(-limit_micros * share_micros // MICRO)
        # The fee of an outcome token is highest at a price of one half.
        dearest = limit_micros if self.rate_micros is None else min(limit_micros, MICRO // 2)
        return notional + self.of(dearest, share_micros, notional) + _FEE_STEP


def fees(terms: Terms | None, policy: Policy) -> Fees:
    """The fees of an asset under a policy."""
    return Fees(terms.fee_rate_micros if terms else None, policy.taker_fee_micros)


def inside(levels: tuple[Level, ...], trade_side: TradeSide, limit_micros: int) -> tuple[Level, ...]:
    """The levels whose price is not worse than the limit; one that holds nothing is none."""
    if trade_side is TradeSide.BUY:
        return tuple(level for level in levels if level[0] <= limit_micros and level[1])
    return tuple(level for level in levels if level[0] >= limit_micros and level[1])


def venue_price(limit_micros: int, trade_side: TradeSide, terms: Terms) -> int:
    """The venue's price nearest to a limit that is not worse, in micros: a buy rounds down, a sell up.

    Where prices have a number of significant digits, the step between them is that of the limit's own magnitude; ticks
    are then powers of ten (docs/venues/hyperliquid.md, prices and lots).
    """
    step = terms.tick_micros
    if terms.significant_digits and limit_micros > 0:
        by_digits: int = 10 ** max(0, len(str(limit_micros)) - terms.significant_digits)
        step = max(step, min(by_digits, MICRO))
    down = limit_micros - limit_micros % step
    # A sell that rounds up to the next power of ten has one digit there, so it is a price on both sides of it.
    return down if trade_side is TradeSide.BUY or down == limit_micros else down + step


def walk(levels: tuple[Level, ...], share_micros: int, fees: Fees) -> tuple[Taken, ...]:
    """Take `share_micros` from the levels in order, one fill per level; ends when filled or when the levels end."""
    taken = []
    left = share_micros
    for price, size in levels:
        if left <= 0:
            break
        share = min(left, size)
        notional = times(price, share)
        taken.append(Taken(price, share, notional, fees.of(price, share, notional)))
        left -= share
    return tuple(taken)
