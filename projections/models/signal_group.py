"""signal_group, quote and group_fan_out: every closed group with its signals, its quote and its matched
subscriptions."""

from typing import ClassVar

from domain.events import GroupClosed, GroupMatched, QuoteCaptured, QuoteFailed
from projections.engine.mapping import CAUSE, SEQUENCE, From, insert, upsert
from projections.engine.projection import Projection
from projections.engine.table import Table
from streams.topology import GROUPS, REQUESTS

SIGNAL_GROUP = Table(
    "signal_group",
    key=("group_id", "closed_at"),
    columns={
        "group_id": "text",
        "closed_sequence": "bigint",
        "influencer_id": "text",
        "venue": "text",
        "asset": "text",
        "action": "text",
        "trade_side": "text",
        "delta_micros": "bigint",
        "notional_micros": "bigint",
        "price_micros": "bigint",
        "signal_ids": "text[]",
        "event_time": "timestamptz",
        "detect_time": "timestamptz",
        "closed_at": "timestamptz",
    },
    indexes=("USING gin (signal_ids)", "influencer_id, event_time DESC"),
    append_only=True,
    by_day="closed_at",
)
QUOTE = Table(
    "quote",
    key=("quote_id",),
    columns={
        "quote_id": "text",
        "group_id": "text",
        "outcome_sequence": "bigint",
        "wanted_sequence": "bigint",
        "outcome": "text",
        "detail": "text",
        "outcome_at": "timestamptz",
    },
    indexes=("group_id",),
    append_only=True,
)
FAN_OUT = Table(
    "group_fan_out",
    key=("group_id",),
    columns={
        "group_id": "text",
        "matched_sequence": "bigint",
        "matched": "bigint",
        "filtered": "jsonb",
    },
)


def _group_id(group: GroupClosed) -> str:
    return group.group_id


class SignalGroups(Projection):
    name = "signal_group"
    version = 2
    reads = (GROUPS, REQUESTS)
    types = frozenset({"group.closed", "quote.captured", "quote.failed", "group.matched"})
    tables = (SIGNAL_GROUP, QUOTE, FAN_OUT)
    maps: ClassVar = {
        "group.closed": (insert(SIGNAL_GROUP, GroupClosed, closed_sequence=SEQUENCE),),
        "quote.captured": (
            insert(
                QUOTE,
                QuoteCaptured,
                group_id=From("group", _group_id),
                outcome_sequence=SEQUENCE,
                wanted_sequence=CAUSE,
                outcome="CAPTURED",
                detail="",
                outcome_at=From("captured_at"),
            ),
        ),
        "quote.failed": (
            insert(
                QUOTE,
                QuoteFailed,
                group_id=From("group", _group_id),
                outcome_sequence=SEQUENCE,
                wanted_sequence=CAUSE,
                outcome=From("reason"),
                outcome_at=From("failed_at"),
            ),
        ),
        "group.matched": (upsert(FAN_OUT, GroupMatched, matched_sequence=SEQUENCE),),
    }
