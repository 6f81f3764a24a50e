"""On-chain fills and the activity rows that tell of the same fill: which logs still wait for their row.

A row is one order's fill inside one transaction, and so is a log: they pair by (transaction, asset, side) and by a
size that differs by a micro at most, because a row's size went through a float. Equal fills pair one to one.
"""

from collections import OrderedDict

from msgspec import Struct

from domain.events import TradeSide

REMEMBERED = 5_000
"""Fills remembered per wallet; a log that waits longer than that is given up by its time anyway."""

FillKey = tuple[str, str, TradeSide]
"""Transaction, asset, side."""


class _Fills(Struct):
    rows: list[int] = []
    logs: list[tuple[int, float]] = []


class FillMatching:
    """The unpaired fills of one wallet. Sizes in micros, moments in seconds of any one clock."""

    def __init__(self) -> None:
        self._fills: OrderedDict[FillKey, _Fills] = OrderedDict()
        self._waiting: set[FillKey] = set()

    @property
    def waiting(self) -> bool:
        """True while a log has no row."""
        return bool(self._waiting)

    def row(self, key: FillKey, share_micros: int) -> None:
        """An activity row, new to us."""
        fills = self._at(key)
        paired = next((log for log in fills.logs if abs(log[0] - share_micros) <= 1), None)
        if paired is None:
            fills.rows.append(share_micros)
            return
        fills.logs.remove(paired)
        self._settle(key, fills)

    def log(self, key: FillKey, share_micros: int, at: float) -> bool:
        """A log, new to us, that arrived at `at`; True when it has to wait for its row."""
        fills = self._at(key)
        paired = next((row for row in fills.rows if abs(row - share_micros) <= 1), None)
        if paired is not None:
            fills.rows.remove(paired)
            return False
        fills.logs.append((share_micros, at))
        self._waiting.add(key)
        return True

    def removed(self, key: FillKey, share_micros: int) -> None:
        """A log that the chain took back: nothing waits for its row any more, and a new log may find it."""
        fills = self._at(key)
        waiting = next((log for log in fills.logs if log[0] == share_micros), None)
        if waiting is None:
            fills.rows.append(share_micros)
            return
        fills.logs.remove(waiting)
        self._settle(key, fills)

    def overdue(self, before: float) -> list[FillKey]:
        """Give up the logs that arrived before this moment; their keys, one for each log."""
        given_up: list[FillKey] = []
        for key in list(self._waiting):
            fills = self._fills[key]
            late = [log for log in fills.logs if log[1] < before]
            given_up += [key] * len(late)
            fills.logs = [log for log in fills.logs if log[1] >= before]
            self._settle(key, fills)
        return given_up

    def _at(self, key: FillKey) -> _Fills:
        found = self._fills.get(key)
        if found is None:
            found = self._fills[key] = _Fills()
            if len(self._fills) > REMEMBERED:
                oldest, _ = self._fills.popitem(last=False)
                self._waiting.discard(oldest)
        return found

    def _settle(self, key: FillKey, fills: _Fills) -> None:
        if not fills.logs:
            self._waiting.discard(key)
