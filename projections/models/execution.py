"""execution: one row per order, with its result.

`status` is SUBMITTED until there is a result, then FILLED, PARTIAL or UNFILLED; `reasons` (a JSON array) are the reason
codes of an order that was not filled completely.
"""

from collections.abc import Iterator

import msgspec

from domain.events import ExecutionCompleted, OrderSubmitted
from projections.engine.projection import Projection
from projections.engine.table import Change, Insert, Table, Update, timestamp
from streams.envelope import Recorded
from streams.topology import EXECUTIONS

EXECUTION = Table(
    "execution",
    key=("order_id",),
    columns={
        "order_id": "text",
        "submitted_sequence": "bigint",
        "completed_sequence": "bigint NULL",
        "attempt_id": "text",
        "cloid": "text",
        "subscription_id": "text",
        "subscriber_id": "text",
        "mode": "text",
        "venue": "text",
        "asset": "text",
        "trade_side": "text",
        "status": "text",
        "share_micros": "bigint",
        "limit_price_micros": "bigint",
        "filled_micros": "bigint",
        "notional_micros": "bigint",
        "fee_micros": "bigint",
        "average_price_micros": "bigint",
        "reasons": "jsonb NULL",
        "submitted_at": "timestamptz",
        "completed_at": "timestamptz NULL",
    },
    indexes=("attempt_id", "cloid", "subscriber_id, submitted_at DESC"),
    fillfactor=90,
)


class Executions(Projection):
    name = "execution"
    version = 2
    reads = (EXECUTIONS,)
    types = frozenset({"order.submitted", "execution.completed"})
    tables = (EXECUTION,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        match event.data:
            case OrderSubmitted() as order:
                yield Insert(
                    EXECUTION,
                    {
                        "order_id": order.order_id,
                        "submitted_sequence": event.sequence,
                        "attempt_id": order.attempt_id,
                        "cloid": order.cloid,
                        "subscription_id": order.subscription_id,
                        "subscriber_id": order.subscriber_id,
                        "mode": order.mode.value,
                        "venue": order.venue.value,
                        "asset": order.asset,
                        "trade_side": order.trade_side.value,
                        "status": "SUBMITTED",
                        "share_micros": order.share_micros,
                        "limit_price_micros": order.limit_price_micros,
                        "filled_micros": 0,
                        "notional_micros": 0,
                        "fee_micros": 0,
                        "average_price_micros": 0,
                        "submitted_at": timestamp(order.submitted_at),
                    },
                )
            case ExecutionCompleted() as result:
                yield Update(
                    EXECUTION,
                    (result.order_id,),
                    {
                        "completed_sequence": event.sequence,
                        "status": _status(result),
                        "filled_micros": result.filled_micros,
                        "notional_micros": result.notional_micros,
                        "fee_micros": result.fee_micros,
                        "average_price_micros": result.average_price_micros,
                        "reasons": msgspec.json.encode(result.reasons).decode(),
                        "completed_at": timestamp(result.completed_at),
                    },
                )


def _status(result: ExecutionCompleted) -> str:
    if not result.filled_micros:
        return "UNFILLED"
    return "FILLED" if result.filled_micros >= result.requested_micros else "PARTIAL"
