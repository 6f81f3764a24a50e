"""The levels of a book, walked one by one."""

from domain.events import Level
from domain.micros import MICRO, times
from domain.paper_fills import Fees, walk

_FREE = Fees(None, 0)


def depth(levels: tuple[Level, ...]) -> int:
    """Notional in micros that the levels hold."""
    return sum(times(price, size) for price, size in levels)


def beyond(levels: tuple[Level, ...], share_micros: int) -> tuple[Level, ...]:
    """What is left of the levels when `share_micros` were taken from them in order."""
    rest, left = [], share_micros
    for price, size in levels:
        taken = min(left, size)
        left -= taken
        if size > taken:
            rest.append((price, size - taken))
    return tuple(rest)


def worth(levels: tuple[Level, ...], share_micros: int) -> int:
    """Notional in micros of taking `share_micros` from the levels in order; past their end, at the last price."""
    total = sum(taken.notional_micros for taken in walk(levels, share_micros, _FREE))
    missing = share_micros - sum(size for _, size in levels)
    return total + times(levels[-1][0], missing) if missing > 0 and levels else total


def affordable(levels: tuple[Level, ...], notional_micros: int) -> int:
    """The shares that a notional is worth, taken from the levels in order; past their end, at the last price."""
    shares, left = 0, notional_micros
    for price, size in levels:
        if left < times(price, size):
            return shares + left * MICRO // price
        shares += size
        left -= times(price, size)
    return shares + (left * MICRO // levels[-1][0] if levels else 0)


def needed(levels: tuple[Level, ...], share_micros: int, size_step_micros: int = 1) -> tuple[Level, ...]:
    """The levels that an order of this size can reach; of levels that hold less than that, whole lots."""
    reached = []
    left = share_micros
    for level in levels:
        if left <= 0:
            break
        reached.append(level)
        left -= level[1]
    beyond_lots = (share_micros - left) % size_step_micros if left > 0 else 0
    while beyond_lots:
        price, size = reached.pop()
        if size > beyond_lots:
            reached.append((price, size - beyond_lots))
        beyond_lots -= min(size, beyond_lots)
    return tuple(reached)
