"""influencer_metrics: counts and sums of each influencer's activity and of its copies, by UTC day.

Volumes and fees are micros. Metrics that depend on the order of events (profit, win rate, drawdown) are computed from
shadow_entry (queries/round_trips.py). The day is that of the trade (`event_time`), of the group's close, of the
decision, or of the fill. Trades older than an account snapshot (HISTORIC) are counted separately.
"""

from collections.abc import Callable, Iterator
from datetime import date
from typing import ClassVar

from domain.events import CopyDecided, Decision, GapDetected, GroupClosed, OrderFilled, PositionState, SignalRecorded
from projections.engine.mapping import From, add
from projections.engine.projection import Projection
from projections.engine.table import Add, Change, Table, timestamp
from streams.envelope import Recorded
from streams.topology import EXECUTIONS, GROUPS, SIGNALS

INFLUENCER_METRICS = Table(
    "influencer_metrics",
    key=("influencer_id", "day"),
    columns={
        "influencer_id": "text",
        "day": "date",
        "signals": "bigint",
        "historic_signals": "bigint",
        "volume_micros": "numeric",
        "fee_micros": "numeric",
        "gaps": "bigint",
        "groups": "bigint",
        "executed": "bigint",
        "skipped": "bigint",
        "copied_fills": "bigint",
        "copied_volume_micros": "numeric",
        "copied_fee_micros": "numeric",
    },
    fillfactor=50,
)


def _day(at: int) -> date:
    return timestamp(at).date()


def _is(decision: Decision) -> Callable[[str], int]:
    return lambda decided: int(decided == decision)


class InfluencerMetrics(Projection):
    name = "influencer_metrics"
    version = 2
    reads = (SIGNALS, GROUPS, EXECUTIONS)
    types = frozenset({"signal.recorded", "gap.detected", "group.closed", "copy.decided", "order.filled"})
    tables = (INFLUENCER_METRICS,)
    maps: ClassVar = {
        "gap.detected": (add(INFLUENCER_METRICS, GapDetected, day=From("event_time", _day), gaps=1),),
        "group.closed": (add(INFLUENCER_METRICS, GroupClosed, day=From("closed_at", _day), groups=1),),
        "copy.decided": (
            add(
                INFLUENCER_METRICS,
                CopyDecided,
                day=From("decided_at", _day),
                executed=From("decision", _is(Decision.EXECUTE)),
                skipped=From("decision", _is(Decision.SKIP)),
            ),
        ),
        "order.filled": (
            add(
                INFLUENCER_METRICS,
                OrderFilled,
                day=From("filled_at", _day),
                copied_fills=1,
                copied_volume_micros=From("notional_micros"),
                copied_fee_micros=From("fee_micros"),
                fee_micros=0,
            ),
        ),
    }

    def fold(self, event: Recorded) -> Iterator[Change]:
        signal: SignalRecorded = event.data
        amounts = {"historic_signals": 1}
        if signal.position_state is not PositionState.HISTORIC:
            fee = signal.fee_micros or 0
            amounts = {"signals": 1, "volume_micros": signal.notional_micros, "fee_micros": fee}
        yield Add(INFLUENCER_METRICS, (signal.influencer_id, _day(signal.event_time)), amounts)
