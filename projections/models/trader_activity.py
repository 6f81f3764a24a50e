"""trader_activity: what every trader in public traded by UTC day, followed or not. No trader is ever removed."""

from collections.abc import Iterator

from domain.events import TradersObserved
from projections.engine.projection import Projection
from projections.engine.table import Add, Change, Table, timestamp
from streams.envelope import Recorded
from streams.topology import DISCOVERY

TRADER_ACTIVITY = Table(
    "trader_activity",
    key=("venue", "address", "day"),
    columns={
        "venue": "text",
        "address": "text",
        "day": "date",
        "minutes": "bigint",
        "trades": "bigint",
        "self_trades": "bigint",
        "notional_micros": "numeric",
    },
    fillfactor=50,
)


class TraderActivity(Projection):
    name = "trader_activity"
    reads = (DISCOVERY,)
    types = frozenset({"traders.observed"})
    tables = (TRADER_ACTIVITY,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        observed: TradersObserved = event.data
        day = timestamp(observed.minute).date()
        for trader in observed.traders:
            amounts = {
                "minutes": 1,
                "trades": trader.trades,
                "self_trades": trader.self_trades,
                "notional_micros": trader.notional_micros,
            }
            yield Add(TRADER_ACTIVITY, (observed.venue.value, trader.address, day), amounts)
