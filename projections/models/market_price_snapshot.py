"""market_price_snapshot: every mark (micros) of every asset; and market_price: the newest mark of each asset.

A mark is stored when a price has moved or the last mark is five minutes old. Payouts of resolved markets are in
outcome_payout.
"""

from typing import ClassVar

from domain.events import MarkCaptured
from projections.engine.mapping import SEQUENCE, insert, upsert
from projections.engine.projection import Projection
from projections.engine.table import Table
from streams.topology import GROUPS

MARKET_PRICE_SNAPSHOT = Table(
    "market_price_snapshot",
    key=("mark_id", "marked_at"),
    columns={
        "mark_id": "text",
        "sequence": "bigint",
        "venue": "text",
        "asset": "text",
        "market": "text",
        "price_micros": "bigint",
        "source": "text",
        "venue_time": "timestamptz",
        "marked_at": "timestamptz",
    },
    indexes=("asset, venue, marked_at DESC",),
    append_only=True,
    by_day="marked_at",
)
MARKET_PRICE = Table(
    "market_price",
    key=("venue", "asset"),
    columns={
        "venue": "text",
        "asset": "text",
        "market": "text",
        "price_micros": "bigint",
        "source": "text",
        "sequence": "bigint",
        "venue_time": "timestamptz",
        "marked_at": "timestamptz",
    },
    fillfactor=50,
)


class MarketPriceSnapshots(Projection):
    name = "market_price_snapshot"
    reads = (GROUPS,)
    types = frozenset({"mark.captured"})
    tables = (MARKET_PRICE_SNAPSHOT, MARKET_PRICE)
    maps: ClassVar = {
        "mark.captured": (
            insert(MARKET_PRICE_SNAPSHOT, MarkCaptured, sequence=SEQUENCE),
            upsert(MARKET_PRICE, MarkCaptured, sequence=SEQUENCE),
        ),
    }
