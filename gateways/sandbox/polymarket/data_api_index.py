"""The rows the Data API serves: those of the blocks it has caught up with, and the accounts folded from just these."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateways.sandbox.polymarket.ledger import Entry, Ledger
from gateways.sandbox.polymarket.rows import Row

LAG_NS: Final = 2_500_000_000
"""A block's rows are served so long after the block was made."""


@dataclass(frozen=True)
class Pending:
    """A row that waits for its time, with the ledger entry behind it (None in a recording)."""

    made_ns: int
    row: Row
    entry: Entry | None


class DataApiIndex:
    """Rows in ascending order of (timestamp, sequence), which is the order in which they are mined."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.rows: list[Row] = []
        self.by_wallet: defaultdict[str, list[Row]] = defaultdict(list)
        self.extra_lag_ns = 0
        self.stalled = False
        self.synced_ns: int | None = None
        self._waiting: list[Pending] = []
        self._next = 0

    def expect(self, made_ns: int, row: Row, entry: Entry | None = None) -> None:
        """Take a row of a block made at `made_ns`; it shows when the feed has caught up with that block."""
        self._waiting.append(Pending(made_ns, row, entry))

    def catch_up(self, now_ns: int) -> None:
        """Show what is due. A longer lag never takes back what was shown."""
        if self.stalled:
            return
        self.synced_ns = max(self.synced_ns or 0, now_ns - LAG_NS - self.extra_lag_ns)
        while self._next < len(self._waiting) and self._waiting[self._next].made_ns <= self.synced_ns:
            self._show(self._waiting[self._next])
            self._next += 1
        if self._next > 4_096:
            del self._waiting[: self._next]
            self._next = 0

    def reveal(self, count: int) -> None:
        """Show the next `count` rows at once, whatever the time."""
        for pending in self._waiting[self._next : self._next + count]:
            self._show(pending)
            self._next += 1

    def _show(self, pending: Pending) -> None:
        self.rows.append(pending.row)
        self.by_wallet[pending.row.wallet].append(pending.row)
        if pending.entry is not None:
            self.ledger.apply(pending.entry, pending.row.timestamp)

    @property
    def waiting(self) -> int:
        """Rows that are mined and not shown."""
        return len(self._waiting) - self._next

    def of(self, wallet: str | None) -> Sequence[Row]:
        """The shown rows of one wallet, or everybody's, oldest first."""
        return self.rows if wallet is None else self.by_wallet.get(wallet, ())
