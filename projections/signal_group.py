"""signal_group: every closed group, its signals, the quote captured for it and how far it fanned out."""

from collections.abc import Iterator

import msgspec

from domain.events import GroupClosed, GroupMatched, QuoteCaptured, QuoteFailed
from projections.projection import Projection
from projections.table import Change, Insert, Table, Upsert, moment
from streams.envelope import Recorded
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


class SignalGroups(Projection):
    name = "signal_group"
    version = 2
    reads = (GROUPS, REQUESTS)
    types = frozenset({"group.closed", "quote.captured", "quote.failed", "group.matched"})
    tables = (SIGNAL_GROUP, QUOTE, FAN_OUT)

    def fold(self, event: Recorded) -> Iterator[Change]:
        match event.data:
            case GroupClosed() as group:
                yield Insert(
                    SIGNAL_GROUP,
                    {
                        "group_id": group.group_id,
                        "closed_sequence": event.sequence,
                        "influencer_id": group.influencer_id,
                        "venue": group.venue.value,
                        "asset": group.asset,
                        "action": group.action.value,
                        "trade_side": group.trade_side.value,
                        "delta_micros": group.delta_micros,
                        "notional_micros": group.notional_micros,
                        "price_micros": group.price_micros,
                        "signal_ids": list(group.signal_ids),
                        "event_time": moment(group.event_time),
                        "detect_time": moment(group.detect_time),
                        "closed_at": moment(group.closed_at),
                    },
                )
            case QuoteCaptured() as quote:
                yield _quote(event, quote, "CAPTURED", "", quote.captured_at)
            case QuoteFailed() as quote:
                yield _quote(event, quote, quote.reason.value, quote.detail, quote.failed_at)
            case GroupMatched() as fan_out:
                yield Upsert(
                    FAN_OUT,
                    {
                        "group_id": fan_out.group_id,
                        "matched_sequence": event.sequence,
                        "matched": fan_out.matched,
                        "filtered": msgspec.json.encode(fan_out.filtered).decode(),
                    },
                )


def _quote(event: Recorded, quote: QuoteCaptured | QuoteFailed, outcome: str, detail: str, at: int) -> Change:
    return Insert(
        QUOTE,
        {
            "quote_id": quote.quote_id,
            "group_id": quote.group.group_id,
            "outcome_sequence": event.sequence,
            "wanted_sequence": int((event.causation or ":0").rpartition(":")[2]),
            "outcome": outcome,
            "detail": detail,
            "outcome_at": moment(at),
        },
    )
