"""ledger_entry: the append-only ledger; and ledger_balance: its sums.

A subscriber's cash is the sum of its cash deltas. ledger_balance splits shares, cash and fees by copied influencer and
asset ('' for deposits), so that profit per influencer is cash + shares x mark. Both tables change in one transaction.
"""

from typing import ClassVar

from domain.events import CashDeposited, OrderFilled, PositionSettled
from domain.ids import ledger_entry_id
from projections.engine.mapping import SEQUENCE, From, add, insert
from projections.engine.projection import Projection
from projections.engine.table import Table
from streams.topology import EXECUTIONS

LEDGER_ENTRY = Table(
    "ledger_entry",
    key=("entry_id", "booked_at"),
    columns={
        "entry_id": "text",
        "sequence": "bigint",
        "kind": "text",
        "subscriber_id": "text",
        "subscription_id": "text NULL",
        "influencer_id": "text NULL",
        "attempt_id": "text NULL",
        "source_event_id": "text",
        "venue": "text NULL",
        "asset": "text NULL",
        "share_delta_micros": "bigint",
        "cash_delta_micros": "bigint",
        "price_micros": "bigint",
        "fee_micros": "bigint",
        "booked_at": "timestamptz",
    },
    # Queries by source event use entry_id, which is derived from that event's id.
    indexes=("attempt_id", "subscriber_id, booked_at DESC"),
    append_only=True,
    by_day="booked_at",
)
LEDGER_BALANCE = Table(
    "ledger_balance",
    key=("subscriber_id", "influencer_id", "venue", "asset"),
    columns={
        "subscriber_id": "text",
        "influencer_id": "text",
        "venue": "text",
        "asset": "text",
        "entries": "bigint",
        "share_micros": "numeric",
        "cash_micros": "numeric",
        "fee_micros": "numeric",
    },
    fillfactor=50,
)


def _deposit_or_withdrawal(cash_delta_micros: int) -> str:
    return "DEPOSIT" if cash_delta_micros >= 0 else "WITHDRAWAL"


class LedgerEntries(Projection):
    name = "ledger_entry"
    version = 5
    reads = (EXECUTIONS,)
    types = frozenset({"cash.deposited", "order.filled", "position.settled"})
    tables = (LEDGER_ENTRY, LEDGER_BALANCE)
    maps: ClassVar = {
        "cash.deposited": (
            insert(
                LEDGER_ENTRY,
                CashDeposited,
                entry_id=From("deposit_id", ledger_entry_id),
                sequence=SEQUENCE,
                kind=From("cash_delta_micros", _deposit_or_withdrawal),
                source_event_id=From("deposit_id"),
                share_delta_micros=0,
                price_micros=0,
                fee_micros=0,
                booked_at=From("deposited_at"),
            ),
            add(
                LEDGER_BALANCE,
                CashDeposited,
                influencer_id="",
                venue="",
                asset="",
                entries=1,
                share_micros=0,
                cash_micros=From("cash_delta_micros"),
                fee_micros=0,
            ),
        ),
        "order.filled": (
            insert(
                LEDGER_ENTRY,
                OrderFilled,
                entry_id=From("fill_id", ledger_entry_id),
                sequence=SEQUENCE,
                kind="TRADE",
                source_event_id=From("fill_id"),
                booked_at=From("filled_at"),
            ),
            add(
                LEDGER_BALANCE,
                OrderFilled,
                entries=1,
                share_micros=From("share_delta_micros"),
                cash_micros=From("cash_delta_micros"),
            ),
        ),
        "position.settled": (
            insert(
                LEDGER_ENTRY,
                PositionSettled,
                entry_id=From("settlement_id", ledger_entry_id),
                sequence=SEQUENCE,
                kind="SETTLEMENT",
                source_event_id=From("settlement_id"),
                fee_micros=0,
                booked_at=From("settled_at"),
            ),
            add(
                LEDGER_BALANCE,
                PositionSettled,
                entries=1,
                share_micros=From("share_delta_micros"),
                cash_micros=From("cash_delta_micros"),
                fee_micros=0,
            ),
        ),
    }
