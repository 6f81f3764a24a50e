"""Marks: what held assets are worth, and what resolved markets pay, as of a sequence of GROUPS (docs/design.md, marks
and resolutions).

A decision names the GROUPS sequence whose marks it used. The live instance keeps the newest mark of each asset; one
that keeps history answers for any earlier sequence too.
"""

from bisect import bisect_right
from typing import NamedTuple

from domain.events import MarkCaptured, MarketResolved

Asset = tuple[str, str]
"""(venue, asset)."""

NEWEST = 1 << 62


class Mark(NamedTuple):
    """A price in micros, when it was taken (ns) and the GROUPS sequence that holds it."""

    sequence: int
    price_micros: int
    at: int


class Resolution(NamedTuple):
    """What one share of an asset pays, in micros, and the event that reported it."""

    sequence: int
    price_micros: int
    market: str
    resolution_id: str
    at: int


class MarkPrices:
    """Every asset's marks in order, and its payout once its market is resolved. The first resolution counts."""

    def __init__(self, *, history: bool = False) -> None:
        self._history = history
        self._marks: dict[Asset, list[Mark]] = {}
        self._resolved: dict[Asset, Resolution] = {}
        self.sequence = 0
        """The last event folded."""

    def evolve(self, event: object, sequence: int) -> tuple[Asset, ...]:
        """Fold one event; returns the assets whose worth changed."""
        self.sequence = max(self.sequence, sequence)
        match event:
            case MarkCaptured():
                asset = (event.venue.value, event.asset)
                mark = Mark(sequence, event.price_micros, event.marked_at)
                if self._history:
                    self._marks.setdefault(asset, []).append(mark)
                else:
                    self._marks[asset] = [mark]
                return (asset,)
            case MarketResolved():
                changed = []
                for payout in event.payouts:
                    asset = (event.venue.value, payout.asset)
                    resolution = Resolution(
                        sequence, payout.price_micros, event.market, event.resolution_id, event.detect_time
                    )
                    if self._resolved.setdefault(asset, resolution) is resolution:
                        changed.append(asset)
                return tuple(changed)
        return ()

    def mark(self, asset: Asset, sequence: int = NEWEST) -> Mark | None:
        """The newest mark as of `sequence`; the payout of a resolved market is its last one."""
        resolution = self.resolution(asset, sequence)
        if resolution is not None:
            return Mark(resolution.sequence, resolution.price_micros, resolution.at)
        marks = self._marks.get(asset)
        if not marks:
            return None
        number = bisect_right(marks, sequence, key=lambda mark: mark.sequence)
        return marks[number - 1] if number else None

    def resolution(self, asset: Asset, sequence: int = NEWEST) -> Resolution | None:
        """The payout of an asset, once its market is resolved."""
        found = self._resolved.get(asset)
        return found if found is not None and found.sequence <= sequence else None
