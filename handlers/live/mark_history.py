"""Marks and resolutions as of the sequences that decisions name, read along with the decisions.

Decisions name sequences that rise, though not strictly: the lanes of a stage are not equally far. So only a window of
the history is kept, and what is older than the window is read again from the beginning. Memory is bounded by the window
and the number of assets, however long the log is.
"""

from __future__ import annotations

from domain.mark_prices import MarkPrices
from handlers.live.mark_prices import PATTERN, fold
from streams.connection import Connection
from streams.envelope import Codec
from streams.reader import read_all
from streams.topology import GROUPS

WINDOW = 50_000
"""Changes that are kept, at least; at most twice as many and a batch."""
_BATCH = 2_000
_END = 1 << 62


class MarkHistory:
    """The marks of a log as of any sequence of GROUPS; cheap for those that rise."""

    def __init__(self, connection: Connection, codec: Codec, *, window: int = WINDOW) -> None:
        self._connection = connection
        self._codec = codec
        self._window = window
        self._batches = read_all(connection, GROUPS.name, [PATTERN], batch=_BATCH)
        self._read = 0
        self._marks = MarkPrices(history=True)
        self._again: MarkHistory | None = None
        """Reads again for a sequence that the window has passed."""

    async def at(self, sequence: int) -> MarkPrices:
        """Marks that answer for this sequence, until the next call."""
        if sequence < self._marks.forgotten:
            if self._again is None or sequence < self._again._marks.forgotten:
                self._again = MarkHistory(self._connection, self._codec, window=self._window)
            return await self._again.at(sequence)
        while self._read < sequence:
            batch = await anext(self._batches, None)
            if batch is None:
                self._read = _END
                break
            for stored in batch:
                fold(self._marks, self._codec, stored)
            self._read = batch[-1].sequence
            # Never past the sequence that is asked for.
            self._marks.keep_changes(self._window, sequence)
        return self._marks
