"""ledger_entry: the append-only account book, and ledger_balance: what it adds up to.

A subscriber's cash is the sum of its cash deltas. The balance splits shares, cash and fees by the influencer that was
copied and by asset ('' for deposits), so that profit per influencer is cash + shares x mark; both tables move together.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from domain.events import CashDeposited, OrderFilled, PositionSettled
from domain.ids import derived
from projections.projection import Projection
from projections.table import Add, Change, Insert, Table, moment
from streams.envelope import Recorded
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
    # By what it was booked for it is found by its own id, which is derived from that.
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
)


class LedgerEntries(Projection):
    name = "ledger_entry"
    version = 4
    reads = (EXECUTIONS,)
    types = frozenset({"cash.deposited", "order.filled", "position.settled"})
    tables = (LEDGER_ENTRY, LEDGER_BALANCE)
    fields: ClassVar = {
        "order.filled": (
            "fill_id", "attempt_id", "subscription_id", "subscriber_id", "influencer_id", "venue", "asset",
            "share_delta_micros", "cash_delta_micros", "price_micros", "fee_micros", "filled_at",
        ),
    }  # fmt: skip

    def fold(self, event: Recorded) -> Iterator[Change]:
        match event.type:
            case "cash.deposited":
                deposit: CashDeposited = event.data
                yield from _booked(
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
                    }
                )
            case "order.filled":
                fill: OrderFilled = event.data
                yield from _booked(
                    {
                        "entry_id": derived("led", fill.fill_id),
                        "sequence": event.sequence,
                        "kind": "TRADE",
                        "subscriber_id": fill.subscriber_id,
                        "subscription_id": fill.subscription_id,
                        "influencer_id": fill.influencer_id,
                        "attempt_id": fill.attempt_id,
                        "source_event_id": fill.fill_id,
                        "venue": fill.venue,
                        "asset": fill.asset,
                        "share_delta_micros": fill.share_delta_micros,
                        "cash_delta_micros": fill.cash_delta_micros,
                        "price_micros": fill.price_micros,
                        "fee_micros": fill.fee_micros,
                        "booked_at": moment(fill.filled_at),
                    }
                )
            case "position.settled":
                settled: PositionSettled = event.data
                yield from _booked(
                    {
                        "entry_id": derived("led", settled.settlement_id),
                        "sequence": event.sequence,
                        "kind": "SETTLEMENT",
                        "subscriber_id": settled.subscriber_id,
                        "subscription_id": settled.subscription_id,
                        "influencer_id": settled.influencer_id,
                        "source_event_id": settled.settlement_id,
                        "venue": settled.venue.value,
                        "asset": settled.asset,
                        "share_delta_micros": settled.share_delta_micros,
                        "cash_delta_micros": settled.cash_delta_micros,
                        "price_micros": settled.price_micros,
                        "fee_micros": 0,
                        "booked_at": moment(settled.settled_at),
                    }
                )


def _booked(entry: dict[str, Any]) -> tuple[Change, Change]:
    place = (entry["subscriber_id"], entry.get("influencer_id", ""), entry.get("venue", ""), entry.get("asset", ""))
    amounts = {
        "entries": 1,
        "share_micros": entry["share_delta_micros"],
        "cash_micros": entry["cash_delta_micros"],
        "fee_micros": entry["fee_micros"],
    }
    return Insert(LEDGER_ENTRY, entry), Add(LEDGER_BALANCE, place, amounts)
