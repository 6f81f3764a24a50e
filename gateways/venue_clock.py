"""How far this machine's clock is from a venue's, by the `Date` of the venue's answers.

A date in whole seconds that arrives between two readings of the own clock bounds the difference by a second and the
duration of the request; several answers together bound it more closely.
"""

from collections import deque
from datetime import UTC
from email.utils import parsedate_to_datetime

from gateways import metrics

SECOND = 1_000_000_000
LARGEST_NS = SECOND
"""The largest difference that is no problem: ages of signals and quotes are compared in seconds."""
_REMEMBERED = 50


class VenueClock:
    """The bounds of a venue's clock minus this machine's, ns, over the newest answers of that venue."""

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._bounds: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    def answered(self, date: str | None, sent: int, received: int) -> None:
        """An answer with this `Date` header came to a request; both times are readings of the own clock, ns."""
        try:
            stated = parsedate_to_datetime(date) if date else None
        except ValueError:
            stated = None
        if stated is None:
            return
        aware = stated if stated.tzinfo else stated.replace(tzinfo=UTC)
        at = round(aware.timestamp()) * SECOND
        self._bounds.append((at - received, at + SECOND - sent))
        low, high = self._common()
        if low > high:
            # One of the clocks was set: what was measured before no longer holds.
            newest = self._bounds[-1]
            self._bounds.clear()
            self._bounds.append(newest)
            low, high = newest
        metrics.VENUE_CLOCK_OFFSET.labels(self._venue).set((low + high) / 2 / SECOND)

    @property
    def at_least_ns(self) -> int:
        """The venue's clock minus this machine's, at least: 0 while they may agree; negative when this one is ahead."""
        if not self._bounds:
            return 0
        low, high = self._common()
        return low if low > 0 else min(high, 0)

    @property
    def problem(self) -> str | None:
        """What an operator has to know when the clocks differ by more than `LARGEST_NS`."""
        off = self.at_least_ns
        if abs(off) <= LARGEST_NS:
            return None
        way = "behind" if off > 0 else "ahead of"
        return (
            f"this machine's clock is {abs(off) / SECOND:.1f} s or more {way} {self._venue}'s: ages of signals and "
            "quotes are wrong by as much; synchronize the clock"
        )

    def _common(self) -> tuple[int, int]:
        return max(low for low, _ in self._bounds), min(high for _, high in self._bounds)
