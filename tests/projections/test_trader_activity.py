"""Discovered traders: sums over days, the largest first, with the influencer that an address is followed as."""

from domain.events import ObservedTrader, TradersObserved, Venue
from domain.observed_traders import MINUTE
from projections.models.influencer import Influencers
from projections.models.trader_activity import TraderActivity
from projections.queries.discovered import discovered_traders
from tests.domain.facts import at, influencer
from tests.projections.model_tables import recorded, stored, tables

MODELS = (TraderActivity(), Influencers())
DAY = 1_440
FOLLOWED = influencer("ann").addresses[0]


def observed(minute: int, *traders: ObservedTrader) -> TradersObserved:
    return TradersObserved(observed_id=f"o{minute}", venue=Venue.HYPERLIQUID, minute=minute * MINUTE, traders=traders)


def trader(address: str, notional: int, own: int = 0) -> ObservedTrader:
    return ObservedTrader(address=address, trades=2, notional_micros=notional, self_trades=own)


async def test_traders_are_listed_by_what_they_traded(database: str) -> None:
    events = [
        observed(0, trader("0xa", 5), trader(FOLLOWED, 50)),
        observed(1, trader("0xa", 5, own=1)),
        observed(DAY, trader("0xa", 70)),
    ]
    async with tables(database, MODELS) as session:
        await stored(session, [recorded(influencer("ann"), "CONFIG", 1, at=at(0))], MODELS)
        await stored(session, [recorded(one, "DISCOVERY", n) for n, one in enumerate(events, 1)], MODELS)
        first, second = await discovered_traders(session)
        assert (first.address, first.notional_micros, first.trades, first.self_trades) == ("0xa", 80, 6, 1)
        assert (first.active_minutes, (first.last_day - first.first_day).days, first.influencer_id) == (3, 1, None)
        assert (second.address, second.influencer_id) == (FOLLOWED, "ann")
        assert await discovered_traders(session, limit=1) == [first]
        assert await discovered_traders(session, address=FOLLOWED.upper().replace("0X", "0x")) == [second]
        assert await discovered_traders(session, venue="polymarket") == []
