"""influencer_position: where each followed address stands, asset by asset: its newest trade and its newest report.

What is held is what the newer of the two says, and nothing where the newest report of the section does not list the
asset any more; queries/influencers.py puts them together. Sizes are signed; prices are those of the trade and of the
entry (NULL where the venue does not tell it). `equity_micros` of a report is the account's worth, where told.
"""

from collections.abc import Iterator

from domain.events import AccountSeeded, PositionState, SignalRecorded
from domain.influencer_account import section_of
from projections.engine.projection import Projection
from projections.engine.table import Change, Table, Upsert, timestamp
from streams.envelope import Recorded
from streams.topology import SIGNALS

INFLUENCER_POSITION = Table(
    "influencer_position",
    key=("influencer_id", "address", "venue", "asset"),
    columns={
        "influencer_id": "text",
        "address": "text",
        "venue": "text",
        "asset": "text",
        "section": "text",
        "market": "text",
        "share_micros": "bigint",
        "price_micros": "bigint",
        "leverage": "bigint NULL",
        "position_state": "text",
        "signal_id": "text",
        "sequence": "bigint",
        "event_time": "timestamptz",
        "detect_time": "timestamptz",
    },
)
INFLUENCER_HOLDING = Table(
    "influencer_holding",
    key=("influencer_id", "address", "venue", "asset"),
    columns={
        "influencer_id": "text",
        "address": "text",
        "venue": "text",
        "asset": "text",
        "section": "text",
        "market": "text",
        "share_micros": "bigint",
        "price_micros": "bigint NULL",
        "leverage": "bigint NULL",
        "sequence": "bigint",
        "event_time": "timestamptz",
    },
)
INFLUENCER_REPORT = Table(
    "influencer_report",
    key=("influencer_id", "address", "venue", "section"),
    columns={
        "influencer_id": "text",
        "address": "text",
        "venue": "text",
        "section": "text",
        "equity_micros": "bigint NULL",
        "positions": "bigint",
        "sequence": "bigint",
        "event_time": "timestamptz",
        "detect_time": "timestamptz",
    },
)


class InfluencerPositions(Projection):
    name = "influencer_position"
    reads = (SIGNALS,)
    types = frozenset({"signal.recorded", "account.seeded"})
    tables = (INFLUENCER_POSITION, INFLUENCER_HOLDING, INFLUENCER_REPORT)

    def fold(self, event: Recorded) -> Iterator[Change]:
        match event.data:
            case SignalRecorded() as signal if signal.position_state is not PositionState.HISTORIC:
                yield Upsert(
                    INFLUENCER_POSITION,
                    {
                        "influencer_id": signal.influencer_id,
                        "address": signal.address,
                        "venue": signal.venue.value,
                        "asset": signal.asset,
                        "section": section_of(signal.asset),
                        "market": signal.market,
                        "share_micros": signal.after_micros,
                        "price_micros": signal.price_micros,
                        "leverage": signal.leverage,
                        "position_state": signal.position_state.value,
                        "signal_id": signal.signal_id,
                        "sequence": event.sequence,
                        "event_time": timestamp(signal.event_time),
                        "detect_time": timestamp(signal.detect_time),
                    },
                )
            case AccountSeeded() as report:
                of = {
                    "influencer_id": report.influencer_id,
                    "address": report.address,
                    "venue": report.venue.value,
                    "section": report.section,
                    "sequence": event.sequence,
                    "event_time": timestamp(report.event_time),
                }
                yield Upsert(
                    INFLUENCER_REPORT,
                    {
                        **of,
                        "equity_micros": report.equity_micros,
                        "positions": len(report.positions),
                        "detect_time": timestamp(report.detect_time),
                    },
                )
                for position in report.positions:
                    yield Upsert(
                        INFLUENCER_HOLDING,
                        {
                            **of,
                            "asset": position.asset,
                            "market": position.market,
                            "share_micros": position.share_micros,
                            "price_micros": position.price_micros,
                            "leverage": position.leverage,
                        },
                    )
