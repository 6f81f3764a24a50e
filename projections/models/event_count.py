"""event_count: the number of events of each type in each stream."""

from collections.abc import Iterator

from projections.engine.projection import Projection
from projections.engine.table import Add, Change, Table
from streams.envelope import Recorded
from streams.topology import DEAD, EXECUTIONS, GROUPS, RAW, REQUESTS, SIGNALS

EVENT_COUNT = Table(
    "event_count",
    key=("stream", "type"),
    columns={"stream": "text", "type": "text", "events": "bigint"},
)


class EventCounts(Projection):
    name = "event_count"
    reads = (RAW, SIGNALS, GROUPS, REQUESTS, EXECUTIONS, DEAD)
    types = frozenset()
    tables = (EVENT_COUNT,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        yield Add(EVENT_COUNT, (event.stream, event.type), {"events": 1})
