"""Marks: what held assets are worth, and what resolved markets pay, as of a sequence of GROUPS (docs/design.md, marks
and resolutions).

A decision names the GROUPS sequence whose marks it used. The live instance keeps the newest mark of each asset; one
that keeps history answers for any earlier sequence too.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
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


MarkOf = Callable[[Asset], Mark | None]
"""The newest mark of an asset; None when it has none."""


class Resolution(NamedTuple):
    """What one share of an asset pays, in micros, and the event that reported it."""

    sequence: int
    price_micros: int
    market: str
    resolution_id: str
    at: int
    corrects: bool = False
    """True when it replaces an earlier resolution."""


class MarkPrices:
    """Every asset's marks in order, and its payout once its market is resolved. The newest resolution counts."""

    def __init__(self, *, history: bool = False) -> None:
        self._history = history
        self._marks: dict[Asset, list[Mark]] = {}
        self._resolved: dict[Asset, list[Resolution]] = {}
        """In their order: another follows only when the venue corrects the first."""
        self._moved: dict[Asset, int] = {}
        """The sequence of each asset's newest change, in the order of these sequences."""
        self._changes: list[tuple[int, Asset]] = []
        """Every change, when history is kept."""
        self.forgotten = 0
        """Of the history, what is needed for earlier sequences than this is no longer kept."""
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
                return self._changed((asset,), sequence)
            case MarketResolved():
                changed = []
                for payout in event.payouts:
                    asset = (event.venue.value, payout.asset)
                    known = self._resolved.setdefault(asset, [])
                    if known and event.corrects != known[-1].resolution_id:
                        continue  # stored twice
                    known.append(
                        Resolution(
                            sequence,
                            payout.price_micros,
                            event.market,
                            event.resolution_id,
                            event.detect_time,
                            event.corrects is not None,
                        )
                    )
                    changed.append(asset)
                return self._changed(tuple(changed), sequence)
        return ()

    def _changed(self, assets: tuple[Asset, ...], sequence: int) -> tuple[Asset, ...]:
        for asset in assets:
            if self._history:
                self._changes.append((sequence, asset))
            self._moved.pop(asset, None)
            self._moved[asset] = sequence
        return assets

    @property
    def kept(self) -> int:
        """How many marks are in memory."""
        return sum(map(len, self._marks.values()))

    def keep_changes(self, newest: int, until: int) -> None:
        """Forget history once there is twice as much as the `newest` changes, and none that is needed for `until`."""
        if len(self._changes) <= 2 * newest:
            return
        self.forgotten = max(self.forgotten, min(self._changes[-newest][0], until))
        for marks in self._marks.values():
            passed = bisect_right(marks, self.forgotten, key=lambda mark: mark.sequence)
            del marks[: max(0, passed - 1)]
        del self._changes[: bisect_right(self._changes, self.forgotten, key=lambda change: change[0])]

    def moved(self, after: int, until: int) -> Iterator[Asset]:
        """The assets whose worth changed with the events after one sequence up to another, newest first.

        Without the history since the first, those that changed at all after it.
        """
        if self._history and after >= self.forgotten:
            first = bisect_right(self._changes, after, key=lambda change: change[0])
            end = bisect_right(self._changes, until, key=lambda change: change[0])
            yield from dict.fromkeys(asset for _, asset in reversed(self._changes[first:end]))
            return
        for asset, sequence in reversed(self._moved.items()):
            if sequence <= after:
                return
            yield asset

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
        """The payout of an asset as of `sequence`, once its market is resolved."""
        for found in reversed(self._resolved.get(asset, ())):
            if found.sequence <= sequence:
                return found
        return None
