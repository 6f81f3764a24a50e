"""position: what each subscriber holds, as of its last order in the asset."""

from collections.abc import Iterator
from typing import ClassVar

from domain.events import PositionChanged
from projections.projection import Projection
from projections.table import Change, Table, Upsert, moment
from streams.envelope import Recorded
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
)


class Positions(Projection):
    name = "position"
    reads = (EXECUTIONS,)
    types = frozenset({"position.changed"})
    tables = (POSITION,)
    fields: ClassVar = {
        "position.changed": (
            "subscriber_id", "venue", "asset", "share_micros", "cost_micros", "average_price_micros",
            "realized_micros", "changed_at",
        ),
    }  # fmt: skip

    def fold(self, event: Recorded) -> Iterator[Change]:
        changed: PositionChanged = event.data
        yield Upsert(
            POSITION,
            {
                "subscriber_id": changed.subscriber_id,
                "venue": changed.venue,
                "asset": changed.asset,
                "share_micros": changed.share_micros,
                "cost_micros": changed.cost_micros,
                "average_price_micros": changed.average_price_micros,
                "realized_micros": changed.realized_micros,
                "sequence": event.sequence,
                "changed_at": moment(changed.changed_at),
            },
        )
