"""system_metrics: counts of events per minute (UTC, by recording time); and system_latency: durations of hops.

system_latency counts durations in buckets: `up_to_us` is a bucket's upper end in microseconds (1, 2, 5 x 10^n), so any
percentile of any time span is known to within its bucket; `total_us` gives the exact mean. Hops: detect (venue's time
-> detected), group (detected -> window closed), quote (window closed -> book captured), decide (detected -> decided,
including the paper latency model), record (detected -> in the log).
"""

from bisect import bisect_left
from collections.abc import Iterator

from domain.events import (
    CopyDecided,
    Decision,
    GroupClosed,
    PositionState,
    QuoteCaptured,
    RawReceived,
    SignalRecorded,
)
from projections.engine.projection import Projection
from projections.engine.recorded_at import recorded_minute
from projections.engine.table import Add, Change, Table
from streams.dead_letters import DEAD_TYPE
from streams.envelope import Recorded, nanoseconds
from streams.topology import DEAD, EXECUTIONS, GROUPS, RAW, REQUESTS, SIGNALS

SYSTEM_METRICS = Table(
    "system_metrics",
    key=("minute",),
    columns={
        "minute": "timestamptz",
        "raw_events": "bigint",
        "signals": "bigint",
        "observations": "bigint",
        "gaps": "bigint",
        "groups": "bigint",
        "quotes": "bigint",
        "quotes_failed": "bigint",
        "requests": "bigint",
        "executed": "bigint",
        "skipped": "bigint",
        "orders": "bigint",
        "fills": "bigint",
        "results": "bigint",
        "settlements": "bigint",
        "breakers_tripped": "bigint",
        "dead_letters": "bigint",
    },
)
SYSTEM_LATENCY = Table(
    "system_latency",
    key=("minute", "hop", "up_to_us"),
    columns={
        "minute": "timestamptz",
        "hop": "text",
        "up_to_us": "bigint",
        "events": "bigint",
        "total_us": "bigint",
    },
)

BUCKETS = tuple(step * 10**power for power in range(2, 10) for step in (1, 2, 5))[:-2]
"""Upper ends in microseconds, 100 us to 1,000 s."""
BEYOND = 10**15
"""The upper end of the bucket above all of them."""

_COLUMN = {
    "raw.received": "raw_events",
    "signal.recorded": "signals",
    "fill.observed": "observations",
    "gap.detected": "gaps",
    "group.closed": "groups",
    "quote.captured": "quotes",
    "quote.failed": "quotes_failed",
    "execution.requested": "requests",
    "order.submitted": "orders",
    "order.filled": "fills",
    "execution.completed": "results",
    "position.settled": "settlements",
    "breaker.tripped": "breakers_tripped",
    DEAD_TYPE: "dead_letters",
}


class SystemMetrics(Projection):
    name = "system_metrics"
    reads = (RAW, SIGNALS, GROUPS, REQUESTS, EXECUTIONS, DEAD)
    types = frozenset(_COLUMN) | {"copy.decided"}
    tables = (SYSTEM_METRICS, SYSTEM_LATENCY)

    def fold(self, event: Recorded) -> Iterator[Change]:
        minute = recorded_minute(event)
        column = _COLUMN.get(event.type)
        hop, began, ended = "", 0, 0
        match event.data:
            case CopyDecided() as decided:
                column = "executed" if decided.decision is Decision.EXECUTE else "skipped"
                hop, began, ended = "decide", decided.detect_time, decided.decided_at
            case SignalRecorded() as signal if signal.position_state is not PositionState.HISTORIC:
                hop, began, ended = "detect", signal.event_time, signal.detect_time
            case GroupClosed() as group:
                hop, began, ended = "group", group.detect_time, group.closed_at
            case QuoteCaptured() as quote:
                hop, began, ended = "quote", quote.group.closed_at, quote.captured_at
            case RawReceived() as raw:
                hop, began, ended = "record", raw.detect_time, nanoseconds(event.time)
        assert column is not None, f"{event.type} is not counted"
        yield Add(SYSTEM_METRICS, (minute,), {column: 1})
        if hop:
            took = max(0, ended - began) // 1000
            yield Add(SYSTEM_LATENCY, (minute, hop, bucket(took)), {"events": 1, "total_us": took})


def bucket(microseconds: int) -> int:
    """The upper end of the bucket of a duration."""
    found = bisect_left(BUCKETS, microseconds)
    return BUCKETS[found] if found < len(BUCKETS) else BEYOND
