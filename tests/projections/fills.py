"""A small read model of fills, append-only and by day, whose rows are mapped."""

from typing import ClassVar

from domain.events import OrderFilled
from projections.engine.mapping import INDEX, SEQUENCE, insert
from projections.engine.projection import Projection
from projections.engine.table import Table
from streams.topology import EXECUTIONS

FILL = Table(
    "fill",
    key=("fill_id", "filled_at"),
    columns={
        "fill_id": "text",
        "sequence": "bigint",
        "index": "integer",
        "order_id": "text",
        "venue": "text",
        "trade_side": "text",
        "share_micros": "bigint",
        "filled_at": "timestamptz",
    },
    indexes=("order_id",),
    append_only=True,
    by_day="filled_at",
)


class Fills(Projection):
    name = "fill"
    reads = (EXECUTIONS,)
    types = frozenset({"order.filled"})
    tables = (FILL,)
    maps: ClassVar = {"order.filled": (insert(FILL, OrderFilled, sequence=SEQUENCE, index=INDEX),)}
