"""influencer_position, influencer_holding and influencer_report: the positions of each followed address.

influencer_position holds the newest trade of each asset, influencer_report the newest account snapshot of each section
and influencer_holding the positions in it. The newer of trade and snapshot counts, and an asset that the newest
snapshot of its section does not list is flat; queries/influencers.py combines them. Sizes are signed; prices are the
trade's and the entry price, NULL where the venue does not report it. `equity_micros` is the account's value, if
reported.
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
    fillfactor=50,
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
            case AccountSeeded() as snapshot:
                of = {
                    "influencer_id": snapshot.influencer_id,
                    "address": snapshot.address,
                    "venue": snapshot.venue.value,
                    "section": snapshot.section,
                    "sequence": event.sequence,
                    "event_time": timestamp(snapshot.event_time),
                }
                yield Upsert(
                    INFLUENCER_REPORT,
                    {
                        **of,
                        "equity_micros": snapshot.equity_micros,
                        "positions": len(snapshot.positions),
                        "detect_time": timestamp(snapshot.detect_time),
                    },
                )
                for position in snapshot.positions:
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
