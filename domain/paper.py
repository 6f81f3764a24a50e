"""Paper fills: walk the captured book level by level inside the price band (DESIGN 6.6).

The same walk estimates before the decision and fills after it, so what was promised is what is booked.
"""

from typing import NamedTuple

from domain.events import Level, TradeSide
from domain.micros import MICRO, times


class Taken(NamedTuple):
    """What is taken from one level: its price, the size, the cash and the fee, all in micros."""

    price_micros: int
    share_micros: int
    notional_micros: int
    fee_micros: int


def inside(levels: tuple[Level, ...], trade_side: TradeSide, limit_micros: int) -> tuple[Level, ...]:
    """The levels whose price is not worse than the limit."""
    if trade_side is TradeSide.BUY:
        return tuple(level for level in levels if level[0] <= limit_micros)
    return tuple(level for level in levels if level[0] >= limit_micros)


def depth(levels: tuple[Level, ...]) -> int:
    """Notional in micros that the levels hold."""
    return sum(times(price, size) for price, size in levels)


def walk(levels: tuple[Level, ...], share_micros: int, taker_fee_micros: int) -> tuple[Taken, ...]:
    """Take `share_micros` from the levels in order, one fill per level; ends when filled or when the levels end."""
    taken = []
    left = share_micros
    for price, size in levels:
        if left <= 0:
            break
        share = min(left, size)
        notional = times(price, share)
        taken.append(Taken(price, share, notional, notional * taker_fee_micros // MICRO))
        left -= share
    return tuple(taken)
