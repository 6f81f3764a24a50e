"""shadow_entry: the ledger of influencers' own trading (SHADOW_USER); and shadow_report: the account snapshots.

The row of a signal states the change of shares and cash; cash is the sum of cash deltas, as in ledger_entry. A REPORT
row is a position of an account snapshot: `share_micros` is the position, `before_micros` is unknown (NULL), and so is
`price_micros` where the venue reports no entry price. An asset in the section of a snapshot (shadow_report) without a
row for that snapshot is flat.

A correction of a position (a snapshot, or a trade that does not start at the last known position) counts as a deposit
at its value. That depends on the row before, so queries/shadows.py computes it, with window functions.
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
# Not partitioned by day: queries look up the next snapshot after a row by sequence.
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
        "unread": "text[]",
        "equity_micros": "bigint NULL",
        "event_time": "timestamptz",
        "detect_time": "timestamptz",
    },
    append_only=True,
)


class ShadowEntries(Projection):
    name = "shadow_entry"
    version = 2
    reads = (SIGNALS,)
    types = frozenset({"signal.recorded", "account.seeded"})
    tables = (SHADOW_ENTRY, SHADOW_REPORT)

    def fold(self, event: Recorded) -> Iterator[Change]:
        match event.data:
            case SignalRecorded() as signal if signal.position_state is not PositionState.HISTORIC:
                yield Insert(SHADOW_ENTRY, _signal_row(event, signal))
            case AccountSeeded() as snapshot:
                yield Insert(
                    SHADOW_REPORT,
                    {
                        "address": snapshot.address,
                        "venue": snapshot.venue.value,
                        "section": snapshot.section,
                        "sequence": event.sequence,
                        "seed_id": snapshot.seed_id,
                        "influencer_id": snapshot.influencer_id,
                        "positions": len(snapshot.positions),
                        "unread": list(snapshot.unread),
                        "equity_micros": snapshot.equity_micros,
                        "event_time": timestamp(snapshot.event_time),
                        "detect_time": timestamp(snapshot.detect_time),
                    },
                )
                for row in _snapshot_rows(event, snapshot):
                    yield Insert(SHADOW_ENTRY, row)


def _signal_row(event: Recorded, signal: SignalRecorded) -> Row:
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


def _snapshot_rows(event: Recorded, snapshot: AccountSeeded) -> Iterator[Row]:
    for position in {position.asset: position for position in snapshot.positions}.values():
        yield {
            "entry_id": derived("shd", snapshot.seed_id, position.asset),
            "sequence": event.sequence,
            "kind": "REPORT",
            "influencer_id": snapshot.influencer_id,
            "address": snapshot.address,
            "venue": snapshot.venue.value,
            "section": snapshot.section,
            "asset": position.asset,
            "market": position.market,
            "source_event_id": snapshot.seed_id,
            "before_micros": None,
            "share_micros": position.share_micros,
            "share_delta_micros": 0,
            "cash_delta_micros": 0,
            "price_micros": position.price_micros,
            "fee_micros": 0,
            "event_time": timestamp(snapshot.event_time),
            "detect_time": timestamp(snapshot.detect_time),
        }
