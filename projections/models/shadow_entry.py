"""shadow_entry: the account book of influencers' own trading (SHADOW_USER), and shadow_report: what venues reported.

A signal's line says how it moved shares and cash: cash is the sum of cash deltas, as in ledger_entry. A REPORT line is
a position that the venue reported: `share_micros` is what is held after it, `before_micros` is not known (NULL), nor is
`price_micros` where the venue tells no price of entry. An asset of the section of a report (shadow_report) that
has no line of it is flat.

What corrects a position (a report, a trade that leads from elsewhere than where the last line led to) comes in as a
deposit at its worth; that needs the line before, so queries/shadows.py adds it up, with window functions.
"""

from collections.abc import Iterator

from domain.events import AccountSeeded, Action, PositionState, SignalRecorded
from domain.ids import derived
from domain.influencer_account import section_of
from domain.position import cash_delta
from projections.engine.projection import Projection
from projections.engine.table import Change, Insert, Row, Table, timestamp
from streams.envelope import Recorded
from streams.topology import SIGNALS

SHADOW_ENTRY = Table(
    "shadow_entry",
    key=("entry_id", "detect_time"),
    columns={
        "entry_id": "text",
        "sequence": "bigint",
        "kind": "text",
        "influencer_id": "text",
        "address": "text",
        "venue": "text",
        "section": "text",
        "asset": "text",
        "market": "text",
        "source_event_id": "text",
        "before_micros": "bigint NULL",
        "share_micros": "bigint",
        "share_delta_micros": "bigint",
        "cash_delta_micros": "bigint",
        "price_micros": "bigint NULL",
        "fee_micros": "bigint",
        "event_time": "timestamptz",
        "detect_time": "timestamptz",
    },
    indexes=("influencer_id, sequence",),
    append_only=True,
    by_day="detect_time",
)
# Not by day: a line's next report is looked up by its place.
SHADOW_REPORT = Table(
    "shadow_report",
    key=("address", "venue", "section", "sequence"),
    columns={
        "address": "text",
        "venue": "text",
        "section": "text",
        "sequence": "bigint",
        "seed_id": "text",
        "influencer_id": "text",
        "positions": "bigint",
        "equity_micros": "bigint NULL",
        "event_time": "timestamptz",
        "detect_time": "timestamptz",
    },
    append_only=True,
)


class ShadowEntries(Projection):
    name = "shadow_entry"
    reads = (SIGNALS,)
    types = frozenset({"signal.recorded", "account.seeded"})
    tables = (SHADOW_ENTRY, SHADOW_REPORT)

    def fold(self, event: Recorded) -> Iterator[Change]:
        match event.data:
            case SignalRecorded() as signal if signal.position_state is not PositionState.HISTORIC:
                yield Insert(SHADOW_ENTRY, _line(event, signal))
            case AccountSeeded() as report:
                yield Insert(
                    SHADOW_REPORT,
                    {
                        "address": report.address,
                        "venue": report.venue.value,
                        "section": report.section,
                        "sequence": event.sequence,
                        "seed_id": report.seed_id,
                        "influencer_id": report.influencer_id,
                        "positions": len(report.positions),
                        "equity_micros": report.equity_micros,
                        "event_time": timestamp(report.event_time),
                        "detect_time": timestamp(report.detect_time),
                    },
                )
                for row in _reported(event, report):
                    yield Insert(SHADOW_ENTRY, row)


def _line(event: Recorded, signal: SignalRecorded) -> Row:
    movement = signal.action in (Action.SPLIT, Action.MERGE, Action.REDEEM)
    fee = signal.fee_micros or 0
    return {
        "entry_id": derived("shd", signal.signal_id),
        "sequence": event.sequence,
        "kind": signal.action.value if movement else "TRADE",
        "influencer_id": signal.influencer_id,
        "address": signal.address,
        "venue": signal.venue.value,
        "section": section_of(signal.asset),
        "asset": signal.asset,
        "market": signal.market,
        "source_event_id": signal.source_event_id,
        "before_micros": signal.before_micros,
        "share_micros": signal.after_micros,
        "share_delta_micros": signal.delta_micros,
        "cash_delta_micros": cash_delta(signal.trade_side, signal.notional_micros, fee),
        "price_micros": signal.price_micros,
        "fee_micros": fee,
        "event_time": timestamp(signal.event_time),
        "detect_time": timestamp(signal.detect_time),
    }


def _reported(event: Recorded, report: AccountSeeded) -> Iterator[Row]:
    for position in {position.asset: position for position in report.positions}.values():
        yield {
            "entry_id": derived("shd", report.seed_id, position.asset),
            "sequence": event.sequence,
            "kind": "REPORT",
            "influencer_id": report.influencer_id,
            "address": report.address,
            "venue": report.venue.value,
            "section": report.section,
            "asset": position.asset,
            "market": position.market,
            "source_event_id": report.seed_id,
            "before_micros": None,
            "share_micros": position.share_micros,
            "share_delta_micros": 0,
            "cash_delta_micros": 0,
            "price_micros": position.price_micros,
            "fee_micros": 0,
            "event_time": timestamp(report.event_time),
            "detect_time": timestamp(report.detect_time),
        }
