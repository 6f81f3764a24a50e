"""event_count: the number of events of each type in each stream."""

from typing import ClassVar

from projections.engine.mapping import STREAM, TYPE, AnyEvent, add
from projections.engine.projection import ANY, Projection
from projections.engine.table import Table
from streams.topology import DEAD, EXECUTIONS, GROUPS, RAW, REQUESTS, SIGNALS

EVENT_COUNT = Table(
    "event_count",
    key=("stream", "type"),
    columns={"stream": "text", "type": "text", "events": "bigint"},
    fillfactor=50,
)


class EventCounts(Projection):
    name = "event_count"
    version = 2
    reads = (RAW, SIGNALS, GROUPS, REQUESTS, EXECUTIONS, DEAD)
    types = frozenset()
    tables = (EVENT_COUNT,)
    maps: ClassVar = {ANY: (add(EVENT_COUNT, AnyEvent, stream=STREAM, type=TYPE, events=1),)}
