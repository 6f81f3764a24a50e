"""trade_event: every signal, which is a trade or a movement (SPLIT, MERGE, REDEEM), with what it did to the position.

`fee_micros`, `leverage` and `influencer_equity_micros` are NULL where the venue does not tell them; a fee below zero is
a rebate. What is no signal (gaps, second reports) is in activity_event.
"""

from collections.abc import Iterator

from domain.events import SignalRecorded
from projections.projection import Projection
from projections.table import Change, Insert, Table, moment
from streams.envelope import Recorded
from streams.topology import SIGNALS

TRADE_EVENT = Table(
    "trade_event",
    key=("source_event_id", "detect_time"),
    columns={
        "source_event_id": "text",
        "raw_sequence": "bigint",
        "signal_id": "text",
        "signal_sequence": "bigint",
        "influencer_id": "text",
        "venue": "text",
        "address": "text",
        "asset": "text",
        "market": "text",
        "action": "text",
        "side": "text",
        "trade_side": "text",
        "before_micros": "bigint",
        "after_micros": "bigint",
        "delta_micros": "bigint",
        "price_micros": "bigint",
        "notional_micros": "bigint",
        "fee_micros": "bigint NULL",
        "leverage": "bigint NULL",
        "order_type": "text NULL",
        "influencer_equity_micros": "bigint NULL",
        "position_state": "text",
        "risk_bucket": "text",
        "taker": "boolean",
        "venue_trade_id": "text",
        "venue_hash": "text",
        "event_time": "timestamptz",
        "detect_time": "timestamptz",
    },
    indexes=("signal_id", "venue_trade_id", "venue_hash", "influencer_id, event_time DESC"),
    append_only=True,
    by_day="detect_time",
)


class TradeEvents(Projection):
    name = "trade_event"
    version = 3
    reads = (SIGNALS,)
    types = frozenset({"signal.recorded"})
    tables = (TRADE_EVENT,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        signal: SignalRecorded = event.data
        yield Insert(
            TRADE_EVENT,
            {
                "source_event_id": signal.source_event_id,
                "raw_sequence": sequence_of(event.causation),
                "signal_id": signal.signal_id,
                "signal_sequence": event.sequence,
                "influencer_id": signal.influencer_id,
                "venue": signal.venue.value,
                "address": signal.address,
                "asset": signal.asset,
                "market": signal.market,
                "action": signal.action.value,
                "side": signal.side.value,
                "trade_side": signal.trade_side.value,
                "before_micros": signal.before_micros,
                "after_micros": signal.after_micros,
                "delta_micros": signal.delta_micros,
                "price_micros": signal.price_micros,
                "notional_micros": signal.notional_micros,
                "fee_micros": signal.fee_micros,
                "leverage": signal.leverage,
                "order_type": signal.order_type,
                "influencer_equity_micros": signal.influencer_equity_micros,
                "position_state": signal.position_state.value,
                "risk_bucket": signal.risk_bucket,
                "taker": signal.taker,
                "venue_trade_id": signal.metadata.get("tid", ""),
                "venue_hash": signal.metadata.get("hash", ""),
                "event_time": moment(signal.event_time),
                "detect_time": moment(signal.detect_time),
            },
        )


def sequence_of(place: str | None) -> int:
    """The sequence in a 'STREAM:sequence'; 0 when there is none."""
    return int(place.rpartition(":")[2]) if place else 0
