"""Matches on-chain fills with activity rows of the same fill: which logs still wait for their row.

A row is one order's fill inside one transaction, and so is a log. They match by (transaction, asset, side) and by a
size that differs by a micro at most, because a row's size went through a float. Equal fills match one to one.
"""

from collections import OrderedDict

from msgspec import Struct

from domain.events import TradeSide

REMEMBERED = 5_000
"""Keys remembered per wallet; a log that waits for longer than that is overdue anyway."""

FillKey = tuple[str, str, TradeSide]
"""Transaction, asset, side."""


class _Fills(Struct):
    rows: list[int] = []
    logs: list[tuple[int, float]] = []


class FillMatching:
    """The unmatched fills of one wallet. Sizes in micros, times in seconds of any one clock."""

    def __init__(self) -> None:
        self._fills: OrderedDict[FillKey, _Fills] = OrderedDict()
        self._waiting: set[FillKey] = set()

    @property
    def waiting(self) -> bool:
        """True while a log has no row."""
        return bool(self._waiting)

    def row(self, key: FillKey, share_micros: int) -> None:
        """A new activity row."""
        fills = self._at(key)
        matched = next((log for log in fills.logs if abs(log[0] - share_micros) <= 1), None)
        if matched is None:
            fills.rows.append(share_micros)
            return
        fills.logs.remove(matched)
        self._update_waiting(key, fills)

    def log(self, key: FillKey, share_micros: int, at: float) -> bool:
        """A new log that arrived at `at`; True when it has to wait for its row."""
        fills = self._at(key)
        matched = next((row for row in fills.rows if abs(row - share_micros) <= 1), None)
        if matched is not None:
            fills.rows.remove(matched)
            return False
        fills.logs.append((share_micros, at))
        self._waiting.add(key)
        return True

    def removed(self, key: FillKey, share_micros: int) -> None:
        """A log that the chain removed: it waits for its row no longer, and a new log may match that row."""
        fills = self._at(key)
        waiting = next((log for log in fills.logs if log[0] == share_micros), None)
        if waiting is None:
            fills.rows.append(share_micros)
            return
        fills.logs.remove(waiting)
        self._update_waiting(key, fills)

    def overdue(self, before: float) -> list[FillKey]:
        """Stop waiting for the rows of logs that arrived before a time; their keys, one for each log."""
        overdue: list[FillKey] = []
        for key in list(self._waiting):
            fills = self._fills[key]
            overdue += [key for _, at in fills.logs if at < before]
            fills.logs = [log for log in fills.logs if log[1] >= before]
            self._update_waiting(key, fills)
        return overdue

    def _at(self, key: FillKey) -> _Fills:
        found = self._fills.get(key)
        if found is None:
            found = self._fills[key] = _Fills()
            if len(self._fills) > REMEMBERED:
                oldest, _ = self._fills.popitem(last=False)
                self._waiting.discard(oldest)
        return found

    def _update_waiting(self, key: FillKey, fills: _Fills) -> None:
        if not fills.logs:
            self._waiting.discard(key)
