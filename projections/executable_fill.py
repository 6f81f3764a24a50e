"""executable_fill: one row per fill."""

from collections.abc import Iterator
from typing import ClassVar

from domain.events import OrderFilled
from projections.projection import Projection
from projections.table import Change, Insert, Table, moment
from streams.envelope import Recorded
from streams.topology import EXECUTIONS

EXECUTABLE_FILL = Table(
    "executable_fill",
    key=("fill_id", "filled_at"),
    columns={
        "fill_id": "text",
        "sequence": "bigint",
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
    indexes=("attempt_id", "subscriber_id, filled_at DESC"),
    append_only=True,
    by_day="filled_at",
)


class ExecutableFills(Projection):
    name = "executable_fill"
    version = 2
    reads = (EXECUTIONS,)
    types = frozenset({"order.filled"})
    tables = (EXECUTABLE_FILL,)
    fields: ClassVar = {
        "order.filled": (
            "fill_id", "order_id", "attempt_id", "subscription_id", "subscriber_id", "influencer_id", "venue",
            "asset", "trade_side", "share_micros", "price_micros", "notional_micros", "fee_micros", "filled_at",
        ),
    }  # fmt: skip

    def fold(self, event: Recorded) -> Iterator[Change]:
        fill: OrderFilled = event.data
        yield Insert(
            EXECUTABLE_FILL,
            {
                "fill_id": fill.fill_id,
                "sequence": event.sequence,
                "order_id": fill.order_id,
                "attempt_id": fill.attempt_id,
                "subscription_id": fill.subscription_id,
                "subscriber_id": fill.subscriber_id,
                "influencer_id": fill.influencer_id,
                "venue": fill.venue,
                "asset": fill.asset,
                "trade_side": fill.trade_side,
                "share_micros": fill.share_micros,
                "price_micros": fill.price_micros,
                "notional_micros": fill.notional_micros,
                "fee_micros": fill.fee_micros,
                "filled_at": moment(fill.filled_at),
            },
        )
