"""position: the position of each subscriber in each asset, as of its last order in the asset."""

from typing import ClassVar

from domain.events import PositionChanged
from projections.engine.mapping import SEQUENCE, upsert
from projections.engine.projection import Projection
from projections.engine.table import Table
from streams.topology import EXECUTIONS

POSITION = Table(
    "position",
    key=("subscriber_id", "venue", "asset"),
    columns={
        "subscriber_id": "text",
        "venue": "text",
        "asset": "text",
        "share_micros": "bigint",
        "cost_micros": "bigint",
        "average_price_micros": "bigint",
        "realized_micros": "bigint",
        "sequence": "bigint",
        "changed_at": "timestamptz",
    },
    fillfactor=50,
)


class Positions(Projection):
    name = "position"
    reads = (EXECUTIONS,)
    types = frozenset({"position.changed"})
    tables = (POSITION,)
    maps: ClassVar = {"position.changed": (upsert(POSITION, PositionChanged, sequence=SEQUENCE),)}
