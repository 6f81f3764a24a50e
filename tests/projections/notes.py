"""A projection for tests of events that cannot be folded or stored."""

from collections.abc import Iterator
from typing import Any

from domain.events import CashDeposited
from projections.engine.projection import Projection
from projections.engine.table import Add, Change, Insert, Table
from streams.envelope import Recorded
from streams.topology import EXECUTIONS, GROUPS
from tests.streams.examples import example

NOTE = Table("note", ("note_id",), {"note_id": "text", "amount": "bigint"}, append_only=True)
TOTALS = Table("totals", ("kind",), {"kind": "text", "amount": "bigint"})


class Notes(Projection):
    """Writes the amount of each deposit, whether it fits the table or not."""

    name = "note"
    reads = (EXECUTIONS, GROUPS)
    types = frozenset({"cash.deposited"})
    tables = (NOTE, TOTALS)

    def fold(self, event: Recorded) -> Iterator[Change]:
        deposit: CashDeposited = event.data
        if deposit.deposit_id == "bug":
            raise RuntimeError("a fold with a bug")
        yield Insert(NOTE, {"note_id": deposit.deposit_id, "amount": deposit.cash_delta_micros})
        yield Add(TOTALS, ("deposits",), {"amount": deposit.config_sequence})


def deposit(deposit_id: str, **fields: Any) -> tuple[str, str, CashDeposited]:
    return "EXECUTIONS", "executions.1.ann", example(CashDeposited, deposit_id=deposit_id, **fields)
