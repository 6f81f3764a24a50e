"""SHADOW_USER: the portfolio of an influencer, folded from its signals in the log as of any time."""

from typing import NamedTuple

from domain import influencer_portfolio
from domain.events import InfluencerConfigured
from domain.influencer_portfolio import InfluencerPortfolio
from handlers.live.event_codec import codec, readable
from streams import subjects
from streams.connection import Connection
from streams.envelope import nanoseconds
from streams.reader import read_all
from streams.topology import SIGNALS


class InfluencerPortfolios(NamedTuple):
    """One portfolio per address, the sequence of the last event of SIGNALS in them (0 = none), and how many there
    were."""

    of: dict[str, InfluencerPortfolio]
    sequence: int
    events: int


async def load_influencer_portfolios(
    connection: Connection, influencer: InfluencerConfigured, until: int | None = None
) -> InfluencerPortfolios:
    """The portfolios of an influencer as of a time (ns; None = now)."""
    of: dict[str, InfluencerPortfolio] = {}
    sequence = events = 0
    decode = codec()
    pattern = subjects.signals(influencer.id, influencer.venue.value, "x").removesuffix("x") + ">"
    async for batch in read_all(connection, SIGNALS.name, [pattern]):
        for event in (event for stored in batch for event in readable(decode, SIGNALS.name, stored)):
            if until is not None and nanoseconds(event.time) > until:
                return InfluencerPortfolios(of, sequence, events)
            address = getattr(event.data, "address", None)
            if address is not None:
                of[address] = influencer_portfolio.evolve(of.get(address, influencer_portfolio.initial), event.data)
                sequence, events = event.sequence, events + 1
    return InfluencerPortfolios(of, sequence, events)
