"""booking: what moved a subscriber's cash or shares, one row for each deposit, fill, settlement and correction of
either; ledger_balance: the sums. On booking: ledger_entry, the append-only ledger; executable_fill, the fills; and
ledger_line, the ledger with the fee of a TRADE as a line of its own, of kind FEE.

A subscriber's cash is the sum of its cash deltas. ledger_balance splits shares, cash and fees by copied influencer and
asset ('' for deposits), so that profit per influencer is cash + shares x mark. Both tables change in one transaction.
"""

from typing import ClassVar

from domain.events import CashDeposited, FillCorrected, OrderFilled, PositionSettled, SettlementCorrected
from projections.engine.mapping import INDEX, SEQUENCE, From, add, insert
from projections.engine.projection import Projection
from projections.engine.table import Table, View
from streams.topology import EXECUTIONS

BOOKING = Table(
    "booking",
    key=("sequence", "index", "booked_at"),
    columns={
        "sequence": "bigint",
        "index": "integer",
        "kind": "text",
        "subscriber_id": "text",
        "subscription_id": "text NULL",
        "influencer_id": "text NULL",
        "attempt_id": "text NULL",
        "order_id": "text NULL",
        "source_event_id": "text",
        "venue": "text NULL",
        "asset": "text NULL",
        "share_delta_micros": "bigint",
        "cash_delta_micros": "bigint",
        "price_micros": "bigint",
        "notional_micros": "bigint",
        "fee_micros": "bigint",
        "booked_at": "timestamptz",
    },
    indexes=("attempt_id", "source_event_id", "subscriber_id, booked_at DESC"),
    append_only=True,
    by_day="booked_at",
)
LEDGER_ENTRY = View(
    "ledger_entry",
    key=("entry_id",),
    columns={
        "entry_id": "text",
        "sequence": "bigint",
        "index": "integer",
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
    # The id as domain/ids makes it: led_abc for fil_abc.
    query="""
        SELECT 'led_' || substring(source_event_id from '[^_]*$') AS entry_id, sequence, index, kind, subscriber_id,
            subscription_id, influencer_id, attempt_id, source_event_id, venue, asset, share_delta_micros,
            cash_delta_micros, price_micros, fee_micros, booked_at
        FROM {schema}.booking
    """,
)
EXECUTABLE_FILL = View(
    "executable_fill",
    key=("fill_id",),
    columns={
        "fill_id": "text",
        "sequence": "bigint",
        "index": "integer",
        "order_id": "text",
        "attempt_id": "text",
        "subscription_id": "text",
        "subscriber_id": "text",
        "influencer_id": "text",
        "venue": "text",
        "asset": "text",
        "trade_side": "text",
        "share_micros": "bigint",
        "price_micros": "bigint",
        "notional_micros": "bigint",
        "fee_micros": "bigint",
        "filled_at": "timestamptz",
    },
    query="""
        SELECT source_event_id AS fill_id, sequence, index, order_id, attempt_id, subscription_id, subscriber_id,
            influencer_id, venue, asset, CASE WHEN share_delta_micros < 0 THEN 'SELL' ELSE 'BUY' END AS trade_side,
            abs(share_delta_micros) AS share_micros, price_micros, notional_micros, fee_micros, booked_at AS filled_at
        FROM {schema}.booking WHERE kind = 'TRADE'
    """,
)
LEDGER_LINE = View(
    "ledger_line",
    key=("entry_id", "kind"),
    columns={
        "entry_id": "text",
        "sequence": "bigint",
        "index": "integer",
        "kind": "text",
        "subscriber_id": "text",
        "influencer_id": "text NULL",
        "attempt_id": "text NULL",
        "venue": "text NULL",
        "asset": "text NULL",
        "share_delta_micros": "bigint",
        "cash_delta_micros": "bigint",
        "booked_at": "timestamptz",
    },
    query="""
        SELECT 'led_' || substring(b.source_event_id from '[^_]*$') AS entry_id, b.sequence, b.index, line.kind,
            b.subscriber_id, b.influencer_id, b.attempt_id, b.venue, b.asset, line.share_delta_micros,
            line.cash_delta_micros, b.booked_at
        FROM {schema}.booking b CROSS JOIN LATERAL (
            SELECT b.kind, b.share_delta_micros, b.cash_delta_micros + b.fee_micros AS cash_delta_micros
            UNION ALL SELECT 'FEE', 0, -b.fee_micros WHERE b.fee_micros <> 0
        ) line
    """,
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


def _corrected(order_id: str) -> str:
    """The id of the event that corrects an order's fills."""
    return f"{order_id}.corrected"


class LedgerEntries(Projection):
    name = "ledger_entry"
    version = 8
    reads = (EXECUTIONS,)
    types = frozenset({"cash.deposited", "order.filled", "fill.corrected", "position.settled", "settlement.corrected"})
    tables = (BOOKING, LEDGER_BALANCE)
    views = (LEDGER_ENTRY, EXECUTABLE_FILL, LEDGER_LINE)
    maps: ClassVar = {
        "cash.deposited": (
            insert(
                BOOKING,
                CashDeposited,
                sequence=SEQUENCE,
                index=INDEX,
                kind=From("cash_delta_micros", _deposit_or_withdrawal),
                source_event_id=From("deposit_id"),
                share_delta_micros=0,
                price_micros=0,
                notional_micros=0,
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
                cash_micros=From("cash_delta_micros"),
            ),
        ),
        "order.filled": (
            insert(
                BOOKING,
                OrderFilled,
                sequence=SEQUENCE,
                index=INDEX,
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
        "fill.corrected": (
            insert(
                BOOKING,
                FillCorrected,
                sequence=SEQUENCE,
                index=INDEX,
                kind="CORRECTION",
                source_event_id=From("order_id", _corrected),
                share_delta_micros=0,
                price_micros=0,
                notional_micros=From("notional_delta_micros"),
                fee_micros=From("fee_delta_micros"),
                booked_at=From("corrected_at"),
            ),
            add(
                LEDGER_BALANCE,
                FillCorrected,
                entries=1,
                share_micros=0,
                cash_micros=From("cash_delta_micros"),
                fee_micros=From("fee_delta_micros"),
            ),
        ),
        "position.settled": (
            insert(
                BOOKING,
                PositionSettled,
                sequence=SEQUENCE,
                index=INDEX,
                kind="SETTLEMENT",
                source_event_id=From("settlement_id"),
                notional_micros=0,
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
        "settlement.corrected": (
            insert(
                BOOKING,
                SettlementCorrected,
                sequence=SEQUENCE,
                index=INDEX,
                kind="CORRECTION",
                source_event_id=From("correction_id"),
                share_delta_micros=0,
                notional_micros=0,
                fee_micros=0,
                booked_at=From("corrected_at"),
            ),
            add(
                LEDGER_BALANCE,
                SettlementCorrected,
                entries=1,
                share_micros=0,
                cash_micros=From("cash_delta_micros"),
                fee_micros=0,
            ),
        ),
    }
