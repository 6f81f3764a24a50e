"""activity_event: events of followed addresses other than trades.

`kind`: SPLIT, MERGE or REDEEM (a movement, whose signal is in trade_event too), GAP (fills are missing: `before_micros`
is the folded position, `after_micros` the venue's, `detail` how the gap was detected), OBSERVED (a second source of a
fill that has its signal), or the type of a venue row that moves no outcome tokens (REWARD, DEPOSIT, ...; its payload is
in RAW). Amounts are 0 for kinds without an amount.
"""

from collections.abc import Iterator

from domain.events import Action, FillObserved, GapDetected, RawReceived, SignalRecorded
from projections.engine.projection import Projection
from projections.engine.table import Change, Insert, Row, Table, timestamp
from streams.envelope import Recorded
from streams.topology import RAW, SIGNALS

ACTIVITY_EVENT = Table(
    "activity_event",
    key=("activity_id", "detect_time"),
    columns={
        "activity_id": "text",
        "stream": "text",
        "sequence": "bigint",
        "kind": "text",
        "detail": "text",
        "source_event_id": "text",
        "signal_id": "text NULL",
        "influencer_id": "text",
        "venue": "text",
        "address": "text",
        "asset": "text",
        "market": "text",
        "before_micros": "bigint",
        "after_micros": "bigint",
        "cash_micros": "bigint",
        "event_time": "timestamptz",
        "detect_time": "timestamptz",
    },
    indexes=("source_event_id", "influencer_id, event_time DESC"),
    append_only=True,
    by_day="detect_time",
)

_MOVEMENTS = frozenset({Action.SPLIT, Action.MERGE, Action.REDEEM})
_ACTIVITY_CHANNEL = "activity"
_IN_SIGNALS = frozenset({"TRADE", "SPLIT", "MERGE", "REDEEM", "CONVERSION"})
"""Types of venue rows that lead to an event in SIGNALS."""


class ActivityEvents(Projection):
    name = "activity_event"
    reads = (RAW, SIGNALS)
    types = frozenset({"raw.received", "signal.recorded", "gap.detected", "fill.observed"})
    tables = (ACTIVITY_EVENT,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        match event.data:
            case RawReceived() as raw if raw.channel == _ACTIVITY_CHANNEL:
                kind = _kind_of(raw.raw_id)
                if kind not in _IN_SIGNALS:
                    yield Insert(ACTIVITY_EVENT, _of_raw(event, raw, kind))
            case SignalRecorded() as signal if signal.action in _MOVEMENTS:
                row = _row(event, signal, signal.signal_id, signal.action.value)
                row["signal_id"] = signal.signal_id
                row["before_micros"] = signal.before_micros
                row["after_micros"] = signal.after_micros
                row["cash_micros"] = -signal.trade_side.sign * signal.notional_micros
                yield Insert(ACTIVITY_EVENT, row)
            case GapDetected() as gap:
                row = _row(event, gap, gap.gap_id, "GAP", gap.kind.value)
                row["before_micros"] = gap.expected_micros
                row["after_micros"] = gap.found_micros
                yield Insert(ACTIVITY_EVENT, row)
            case FillObserved() as observed:
                row = _row(event, observed, f"{observed.source_event_id}.observed", "OBSERVED", observed.fill_key)
                row["signal_id"] = observed.signal_id
                yield Insert(ACTIVITY_EVENT, row)


def _kind_of(raw_id: str) -> str:
    """'REWARD' of 'pm:REWARD:...'."""
    return raw_id.partition(":")[2].partition(":")[0]


def _row(
    event: Recorded, data: SignalRecorded | GapDetected | FillObserved, activity_id: str, kind: str, detail: str = ""
) -> Row:
    return {
        "activity_id": activity_id,
        "stream": event.stream,
        "sequence": event.sequence,
        "kind": kind,
        "detail": detail,
        "source_event_id": data.source_event_id,
        "influencer_id": data.influencer_id,
        "venue": data.venue.value,
        "address": data.address,
        "asset": data.asset,
        "market": "" if isinstance(data, GapDetected) else data.market,
        "before_micros": 0,
        "after_micros": 0,
        "cash_micros": 0,
        "event_time": timestamp(data.event_time),
        "detect_time": timestamp(data.detect_time),
    }


def _of_raw(event: Recorded, raw: RawReceived, kind: str) -> Row:
    return {
        "activity_id": raw.raw_id,
        "stream": event.stream,
        "sequence": event.sequence,
        "kind": kind,
        "detail": "",
        "source_event_id": raw.raw_id,
        "influencer_id": raw.influencer_id,
        "venue": raw.venue.value,
        "address": raw.address,
        "asset": "",
        "market": "",
        "before_micros": 0,
        "after_micros": 0,
        "cash_micros": 0,
        "event_time": timestamp(raw.venue_time if raw.venue_time is not None else raw.detect_time),
        "detect_time": timestamp(raw.detect_time),
    }
