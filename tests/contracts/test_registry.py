"""Every venue has rules, an adapter for every purpose, and an ingest."""

import asyncio
from typing import cast

import pytest

from domain.events import Venue
from domain.venues import VENUES
from gateways.registry import ADAPTERS, LIVE_VENUES
from gateways.venue_adapter import Purpose
from handlers.ingest import ingest_of
from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from streams.connection import Connection
from vibe.app.settings import Settings

UNUSED = cast(Connection, None)
"""Nothing is sent before an ingest runs."""


def test_every_venue_has_rules_and_an_adapter() -> None:
    assert set(Venue) == set(VENUES) == set(ADAPTERS)


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("venue", Venue)
async def test_an_adapter_connects_for_every_purpose(venue: Venue, purpose: Purpose) -> None:
    if purpose is Purpose.EXECUTE and venue not in LIVE_VENUES:
        return
    async with ADAPTERS[venue].connect(Settings(_env_file=None), purpose) as clients:
        assert callable(clients.books().capture)
        assert callable(clients.prices(lambda: 0).prices)
        markets = clients.markets()
        assert (markets is not None) == VENUES[venue].book_ends_with_market
        assert (clients.live_orders(lambda: 0) is not None) == (venue in LIVE_VENUES)


@pytest.mark.parametrize("venue", Venue)
async def test_every_venue_has_an_ingest(venue: Venue) -> None:
    async with ADAPTERS[venue].connect(Settings(_env_file=None), Purpose.INGEST) as clients:
        ingest = ingest_of(venue, clients, UNUSED, LiveConfiguration(UNUSED, codec()), lambda: 0)
        assert isinstance(ingest.ready, asyncio.Event)
        assert not ingest.ready.is_set()
        assert asyncio.iscoroutinefunction(ingest.run)
