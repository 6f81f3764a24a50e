"""ledger_entry: the append-only account book; a subscriber's cash is the sum of its cash deltas."""

from collections.abc import Iterator

from domain.events import CashDeposited, OrderFilled
from domain.ids import derived
from projections.projection import Projection
from projections.table import Change, Insert, Table, moment
from streams.envelope import Recorded
from streams.topology import EXECUTIONS

LEDGER_ENTRY = Table(
    "ledger_entry",
    key=("entry_id",),
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
    indexes=("attempt_id", "source_event_id", "subscriber_id, booked_at DESC"),
)


class LedgerEntries(Projection):
    name = "ledger_entry"
    reads = (EXECUTIONS,)
    types = frozenset({"cash.deposited", "order.filled"})
    tables = (LEDGER_ENTRY,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        match event.data:
            case CashDeposited() as deposit:
                yield Insert(
                    LEDGER_ENTRY,
                    {
                        "entry_id": derived("led", deposit.deposit_id),
                        "sequence": event.sequence,
                        "kind": "DEPOSIT" if deposit.cash_delta_micros >= 0 else "WITHDRAWAL",
                        "subscriber_id": deposit.subscriber_id,
                        "source_event_id": deposit.deposit_id,
                        "share_delta_micros": 0,
                        "cash_delta_micros": deposit.cash_delta_micros,
                        "price_micros": 0,
                        "fee_micros": 0,
                        "booked_at": moment(deposit.deposited_at),
                    },
                )
            case OrderFilled() as fill:
                yield Insert(
                    LEDGER_ENTRY,
                    {
                        "entry_id": derived("led", fill.fill_id),
                        "sequence": event.sequence,
                        "kind": "TRADE",
                        "subscriber_id": fill.subscriber_id,
                        "subscription_id": fill.subscription_id,
                        "influencer_id": fill.influencer_id,
                        "attempt_id": fill.attempt_id,
                        "source_event_id": fill.fill_id,
                        "venue": fill.venue.value,
                        "asset": fill.asset,
                        "share_delta_micros": fill.share_delta_micros,
                        "cash_delta_micros": fill.cash_delta_micros,
                        "price_micros": fill.price_micros,
                        "fee_micros": fill.fee_micros,
                        "booked_at": moment(fill.filled_at),
                    },
                )
