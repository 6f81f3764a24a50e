"""SHADOW_USER: the portfolio of an influencer, folded from its signals in the log as of any moment."""

from typing import NamedTuple

from domain import influencer_portfolio
from domain.events import InfluencerConfigured
from domain.influencer_portfolio import Shadow
from handlers.live.event_codec import codec, readable
from streams import subjects
from streams.connection import Connection
from streams.envelope import nanoseconds
from streams.reader import history
from streams.topology import SIGNALS


class Shadows(NamedTuple):
    """One portfolio per address, and the last event of SIGNALS that they hold (0 = none)."""

    of: dict[str, Shadow]
    sequence: int
    events: int


async def shadows(connection: Connection, influencer: InfluencerConfigured, until: int | None = None) -> Shadows:
    """The portfolios of an influencer as of a time (ns; None = now)."""
    of: dict[str, Shadow] = {}
    sequence = events = 0
    decode = codec()
    pattern = subjects.signals(influencer.id, influencer.venue.value, "x").removesuffix("x") + ">"
    async for batch in history(connection, SIGNALS.name, [pattern]):
        for stored in batch:
            event = readable(decode, SIGNALS.name, stored)
            if event is None:
                continue
            if until is not None and nanoseconds(event.time) > until:
                return Shadows(of, sequence, events)
            address = getattr(event.data, "address", None)
            if address is not None:
                of[address] = influencer_portfolio.evolve(of.get(address, influencer_portfolio.initial), event.data)
                sequence, events = stored.sequence, events + 1
    return Shadows(of, sequence, events)
