"""executable_fill: one row per fill."""

from typing import ClassVar

from domain.events import OrderFilled
from projections.engine.mapping import SEQUENCE, insert
from projections.engine.projection import Projection
from projections.engine.table import Table
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
    maps: ClassVar = {"order.filled": (insert(EXECUTABLE_FILL, OrderFilled, sequence=SEQUENCE),)}
