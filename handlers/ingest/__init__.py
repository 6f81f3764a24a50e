"""Ingest: what the venues report about followed addresses becomes RAW events.

A venue's ingest is the package named like the venue: its module `ingest` has a function `open_ingest`.
"""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import Protocol

from domain.events import Venue
from gateways.venue_adapter import VenueClients
from handlers.live.configuration import LiveConfiguration
from streams.connection import Connection


class Ingest(Protocol):
    """Stores the trades and account snapshots of a venue's followed addresses."""

    @property
    def ready(self) -> asyncio.Event:
        """Set once the venue has answered, or when none of its addresses is followed."""

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; everything received by then is stored before this returns."""


def ingest_of(
    venue: Venue,
    clients: VenueClients,
    connection: Connection,
    configuration: LiveConfiguration,
    clock: Callable[[], int],
) -> Ingest:
    """The ingest of `venue`, from `handlers.ingest.<venue>.ingest.open_ingest`; `clients` are that venue's own."""
    module = import_module(f"{__name__}.{venue.value}.ingest")
    ingest: Ingest = module.open_ingest(clients, connection, configuration, clock)
    return ingest
