"""A trader's record in a time span, and what is measured of it: t-value, drawdown, consistency, copyability."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from math import isqrt

from msgspec import Struct

from domain.micros import MICRO, fraction

SECOND = 1_000_000_000
DAY = 86_400 * SECOND


class Trip(Struct, frozen=True, kw_only=True):
    """A completed round trip. Times in ns; `net_micros` after fees and funding; `capital_micros` > 0 is the largest
    capital at risk. `averaged_down`: it added to the position at a worse price than the first one."""

    asset: str
    opened: int
    ended: int
    net_micros: int
    capital_micros: int
    averaged_down: bool = False

    @property
    def return_micros(self) -> int:
        return fraction(self.net_micros, MICRO, self.capital_micros)


class EquityPoint(Struct, frozen=True):
    """Equity (micros, with unrealized profit) after `flow_micros` was deposited (negative: withdrawn)."""

    equity_micros: int
    flow_micros: int = 0


class Record(Struct, frozen=True, kw_only=True):
    """What is known of one trader in a time span. None is unknown, and raises no flag.

    `unrealized_micros` is of the open positions, `first_seen` in ns, `self_traded_micros` the share of volume traded
    with itself or with one counterparty, `copies_micros` and `shadow_micros` the net profits of the paper copies and of
    the trader's own trading over the same time.
    """

    trader: str
    trips: Sequence[Trip]
    equity: Sequence[EquityPoint] = ()
    equity_micros: int | None = None
    unrealized_micros: int | None = None
    first_seen: int | None = None
    gaps: int = 0
    self_traded_micros: int | None = None
    copies_micros: int | None = None
    shadow_micros: int | None = None


def t_value(returns: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """(t-value, standard error of the mean), both in micros, of (day, return in micros) pairs.

    With n returns of sum T, and day d holding n_d of them with sum X_d: variance of the mean = D / (D - 1) * sum over
    the D days of (X_d - n_d * T / n)^2 / n^2. One return a day gives Student's t. None for fewer than two days, and
    where nothing varies.
    """
    sums: defaultdict[int, int] = defaultdict(int)
    counts = Counter(day for day, _ in returns)
    for day, value in returns:
        sums[day] += value
    number, days, total = len(returns), len(counts), sum(sums.values())
    squares = sum((number * sums[day] - counts[day] * total) ** 2 for day in counts)
    if days < 2 or not squares:
        return None
    size = isqrt((total * number * MICRO) ** 2 * (days - 1) // (days * squares))
    return (size if total >= 0 else -size), isqrt(days * squares // (days - 1)) // number**2


def drawdown(points: Sequence[EquityPoint]) -> int:
    """The deepest fall of time-weighted equity from its peak, as a fraction in micros (1_000_000: all was lost).

    The return of a step is equity without its flow, over the equity before; flows neither hide nor cause a fall.
    """
    scale = MICRO * MICRO
    index = peak = scale
    deepest = 0
    for before, after in pairwise(points):
        if before.equity_micros > 0:
            index = max(0, index * (after.equity_micros - after.flow_micros) // before.equity_micros)
        peak = max(peak, index)
        deepest = max(deepest, (peak - index) * MICRO // peak)
    return deepest


def drawdown_of_trips(trips: Sequence[Trip]) -> int:
    """The same of the trips' returns, compounded in the order of their ends: losses of open positions are not in it."""
    scale = MICRO * MICRO
    index = peak = scale
    deepest = 0
    for trip in sorted(trips, key=lambda one: one.ended):
        index = max(0, index * (MICRO + trip.return_micros) // MICRO)
        peak = max(peak, index)
        deepest = max(deepest, (peak - index) * MICRO // peak)
    return deepest


def consistency(trips: Sequence[Trip]) -> int:
    """The lower t-value (micros) of the two halves of the time between the first and the last end; an undefined one
    counts as 0."""
    if not trips:
        return 0
    middle = (min(trip.ended for trip in trips) + max(trip.ended for trip in trips)) // 2
    halves = [trip for trip in trips if trip.ended <= middle], [trip for trip in trips if trip.ended > middle]
    found = [t_value([(trip.ended // DAY, trip.return_micros) for trip in half]) for half in halves]
    return min(one[0] if one else 0 for one in found)


def copyability(record: Record) -> int | None:
    """Profit of the paper copies / profit of the trader, micros; None while either is unknown or the trader lost,
    where the quotient would change its sign."""
    if record.copies_micros is None or record.shadow_micros is None or record.shadow_micros <= 0:
        return None
    return fraction(record.copies_micros, MICRO, record.shadow_micros)
