"""influencer_metrics: counts and sums of each influencer's activity and of its copies, by UTC day.

Volumes and fees are micros. Metrics that depend on the order of events (profit, win rate, drawdown) are computed from
shadow_entry (queries/round_trips.py). The day is that of the trade (`event_time`), of the group's close, of the
decision, or of the fill. Trades older than an account snapshot (HISTORIC) are counted separately.
"""

from collections.abc import Iterator
from datetime import date

from domain.events import CopyDecided, Decision, GapDetected, GroupClosed, OrderFilled, PositionState, SignalRecorded
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
)


class InfluencerMetrics(Projection):
    name = "influencer_metrics"
    reads = (SIGNALS, GROUPS, EXECUTIONS)
    types = frozenset({"signal.recorded", "gap.detected", "group.closed", "copy.decided", "order.filled"})
    tables = (INFLUENCER_METRICS,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        match event.data:
            case SignalRecorded() as signal:
                if signal.position_state is PositionState.HISTORIC:
                    amounts = {"historic_signals": 1}
                else:
                    fee = signal.fee_micros or 0
                    amounts = {"signals": 1, "volume_micros": signal.notional_micros, "fee_micros": fee}
                yield _add(signal.influencer_id, signal.event_time, amounts)
            case GapDetected() as gap:
                yield _add(gap.influencer_id, gap.event_time, {"gaps": 1})
            case GroupClosed() as group:
                yield _add(group.influencer_id, group.closed_at, {"groups": 1})
            case CopyDecided() as decided:
                outcome = "executed" if decided.decision is Decision.EXECUTE else "skipped"
                yield _add(decided.influencer_id, decided.decided_at, {outcome: 1})
            case OrderFilled() as fill:
                copied = {"copied_volume_micros": fill.notional_micros, "copied_fee_micros": fill.fee_micros}
                yield _add(fill.influencer_id, fill.filled_at, {"copied_fills": 1, **copied})


def _add(influencer_id: str, at: int, amounts: dict[str, int]) -> Add:
    return Add(INFLUENCER_METRICS, (influencer_id, _day(at)), amounts)


def _day(at: int) -> date:
    return timestamp(at).date()
