"""system_metrics: counts of events per minute (UTC, by recording time); and system_latency: durations of hops.

system_latency counts durations in buckets: `up_to_us` is a bucket's upper end in microseconds (1, 2, 5 x 10^n), so any
percentile of any time span is known to within its bucket; `total_us` gives the exact mean. Hops: detect (venue's time
-> detected), group (detected -> window closed), quote (window closed -> book captured), decide (detected -> decided,
including the paper latency model), record (detected -> in the log).
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import ClassVar

from domain.events import (
    CopyDecided,
    Decision,
    GroupClosed,
    PositionState,
    QuoteCaptured,
    RawReceived,
    SignalRecorded,
)
from projections.engine.mapping import MINUTE, AnyEvent, From, FromEach, add
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
        "grouped_signals": "bigint",
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
    fillfactor=50,
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
    fillfactor=50,
)

BUCKETS = tuple(step * 10**power for power in range(2, 10) for step in (1, 2, 5))[:-2]
"""Upper ends in microseconds, 100 us to 1,000 s."""
BEYOND = 10**15
"""The upper end of the bucket above all of them."""

_COUNTED: dict[str, str] = {
    "fill.observed": "observations",
    "gap.detected": "gaps",
    "quote.failed": "quotes_failed",
    "execution.requested": "requests",
    "order.submitted": "orders",
    "order.filled": "fills",
    "execution.completed": "results",
    "position.settled": "settlements",
    "breaker.tripped": "breakers_tripped",
    DEAD_TYPE: "dead_letters",
}
"""The columns that count the events of one type."""


def bucket(microseconds: int) -> int:
    """The upper end of the bucket of a duration."""
    found = bisect_left(BUCKETS, microseconds)
    return BUCKETS[found] if found < len(BUCKETS) else BEYOND


def _took(began: int, ended: int) -> int:
    return max(0, ended - began) // 1000


def _bucket(began: int, ended: int) -> int:
    return bucket(_took(began, ended))


def _took_from_close(group: GroupClosed, ended: int) -> int:
    return _took(group.closed_at, ended)


def _bucket_from_close(group: GroupClosed, ended: int) -> int:
    return _bucket(group.closed_at, ended)


def _is(decision: Decision) -> Callable[[str], int]:
    return lambda decided: int(decided == decision)


class SystemMetrics(Projection):
    name = "system_metrics"
    version = 2
    reads = (RAW, SIGNALS, GROUPS, REQUESTS, EXECUTIONS, DEAD)
    types = frozenset(_COUNTED) | {"raw.received", "signal.recorded", "group.closed", "quote.captured", "copy.decided"}
    tables = (SYSTEM_METRICS, SYSTEM_LATENCY)
    maps: ClassVar = {
        **{name: (add(SYSTEM_METRICS, AnyEvent, minute=MINUTE, **{column: 1}),) for name, column in _COUNTED.items()},
        "group.closed": (
            add(SYSTEM_METRICS, GroupClosed, minute=MINUTE, groups=1, grouped_signals=From("signal_ids", len)),
            add(
                SYSTEM_LATENCY,
                GroupClosed,
                minute=MINUTE,
                hop="group",
                up_to_us=FromEach(("detect_time", "closed_at"), _bucket),
                events=1,
                total_us=FromEach(("detect_time", "closed_at"), _took),
            ),
        ),
        "quote.captured": (
            add(SYSTEM_METRICS, QuoteCaptured, minute=MINUTE, quotes=1),
            add(
                SYSTEM_LATENCY,
                QuoteCaptured,
                minute=MINUTE,
                hop="quote",
                up_to_us=FromEach(("group", "captured_at"), _bucket_from_close),
                events=1,
                total_us=FromEach(("group", "captured_at"), _took_from_close),
            ),
        ),
        "copy.decided": (
            add(
                SYSTEM_METRICS,
                CopyDecided,
                minute=MINUTE,
                executed=From("decision", _is(Decision.EXECUTE)),
                skipped=From("decision", _is(Decision.SKIP)),
            ),
            add(
                SYSTEM_LATENCY,
                CopyDecided,
                minute=MINUTE,
                hop="decide",
                up_to_us=FromEach(("detect_time", "decided_at"), _bucket),
                events=1,
                total_us=FromEach(("detect_time", "decided_at"), _took),
            ),
        ),
    }

    def fold(self, event: Recorded) -> Iterator[Change]:
        minute = recorded_minute(event)
        match event.data:
            case SignalRecorded() as signal:
                yield Add(SYSTEM_METRICS, (minute,), {"signals": 1})
                if signal.position_state is not PositionState.HISTORIC:
                    yield _latency(minute, "detect", _took(signal.event_time, signal.detect_time))
            case RawReceived() as raw:
                yield Add(SYSTEM_METRICS, (minute,), {"raw_events": 1})
                yield _latency(minute, "record", _took(raw.detect_time, nanoseconds(event.time)))


def _latency(minute: datetime, hop: str, took: int) -> Change:
    return Add(SYSTEM_LATENCY, (minute, hop, bucket(took)), {"events": 1, "total_us": took})
