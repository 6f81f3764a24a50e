"""The levels of a captured book that an order may take, with their prefix sums (docs/design.md, paper fills).

What an order costs and how much a notional buys is a bisection instead of a walk.
"""

from bisect import bisect_left, bisect_right
from itertools import accumulate

from domain.events import Level
from domain.micros import MICRO, times
from domain.paper_fills import Fees


class Book:
    """At least one level, best first, each but a single one with a size; all amounts in micros.

    Past the last level there is more at its price: what an order is worth is known before it is known to fill. Methods
    take `after`, the shares that are taken before; when those are the whole book, its last level counts as untouched.
    """

    __slots__ = ("_costs", "_fees", "_notionals", "_prices", "_shares", "levels")

    def __init__(self, levels: tuple[Level, ...], fees: Fees) -> None:
        self.levels = levels
        self._fees = fees
        # One price more than there are levels: the last one's holds past the end.
        self._prices = [*(price for price, _ in levels), levels[-1][0]]
        notionals = [times(price, size) for price, size in levels]
        # Each list begins with a zero: item n is the sum of the first n levels.
        self._shares = list(accumulate((size for _, size in levels), initial=0))
        self._notionals = list(accumulate(notionals, initial=0))
        paid = (
            notional + fees.of(price, size, notional) for (price, size), notional in zip(levels, notionals, strict=True)
        )
        self._costs = list(accumulate(paid, initial=0))

    @property
    def depth_micros(self) -> int:
        """Notional that the levels hold."""
        return self._notionals[-1]

    @property
    def share_micros(self) -> int:
        """Shares that the levels hold."""
        return self._shares[-1]

    def worth(self, share_micros: int, after: int = 0) -> int:
        """Notional of taking shares level by level; past the last one, at its price."""
        level, start = self._start(after)
        shares, notionals, prices = self._shares, self._notionals, self._prices
        first = shares[level + 1] - start
        if share_micros <= first:
            return prices[level] * share_micros // MICRO
        end = start + share_micros
        last = bisect_right(shares, end, level + 2) - 1
        between = notionals[last] - notionals[level + 1]
        return prices[level] * first // MICRO + between + prices[last] * (end - shares[last]) // MICRO

    def affordable(self, notional_micros: int, after: int = 0) -> int:
        """The shares that a notional buys level by level; past the last one, at its price."""
        level, start = self._start(after)
        shares, notionals, prices = self._shares, self._notionals, self._prices
        first = prices[level] * (shares[level + 1] - start) // MICRO
        if notional_micros < first:
            return notional_micros * MICRO // prices[level]
        end = notionals[level + 1] + notional_micros - first
        last = bisect_right(notionals, end, level + 2) - 1
        return shares[last] - start + (end - notionals[last]) * MICRO // prices[last]

    def cost(self, share_micros: int) -> int:
        """What the levels give of these shares, notional and fees together."""
        last = bisect_right(self._shares, share_micros, 1) - 1
        if last == len(self.levels):
            return self._costs[last]
        price, rest = self._prices[last], share_micros - self._shares[last]
        notional = times(price, rest)
        return self._costs[last] + notional + self._fees.of(price, rest, notional)

    def reached(self, share_micros: int, step_micros: int = 1) -> tuple[Level, ...]:
        """The levels that an order of this size can reach; of a book that holds less, whole lots of `step_micros`: a
        position that is no whole number of lots could never be closed."""
        held = self._shares[-1]
        if share_micros <= held or not held % step_micros:
            return self.levels[: bisect_left(self._shares, share_micros)]
        lots = held - held % step_micros
        last = bisect_left(self._shares, lots)
        if not last:
            return ()
        price, _ = self.levels[last - 1]
        return *self.levels[: last - 1], (price, lots - self._shares[last - 1])

    def _start(self, after: int) -> tuple[int, int]:
        """The first level that is left after so many shares, and the shares before it and what is taken of it."""
        if after <= 0:
            return 0, 0
        level = bisect_right(self._shares, after, 1) - 1
        if level == len(self.levels):
            return level - 1, self._shares[level - 1]
        return level, after
