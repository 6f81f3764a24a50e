"""trade_event: every signal (a trade, or a SPLIT, MERGE or REDEEM), with the position before and after it.

`fee_micros`, `leverage` and `influencer_equity_micros` are NULL where the venue does not report them; a negative fee is
a rebate. Other events of followed addresses (gaps, second observations) are in activity_event.
"""

from typing import ClassVar

from domain.events import SignalRecorded
from projections.engine.mapping import CAUSE, SEQUENCE, From, insert
from projections.engine.projection import Projection
from projections.engine.table import Table
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
    maps: ClassVar = {
        "signal.recorded": (
            insert(
                TRADE_EVENT,
                SignalRecorded,
                raw_sequence=CAUSE,
                signal_sequence=SEQUENCE,
                venue_trade_id=From("metadata", lambda metadata: metadata.get("tid", "")),
                venue_hash=From("metadata", lambda metadata: metadata.get("hash", "")),
            ),
        ),
    }
