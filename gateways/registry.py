"""The venues that the system reads: the only list of them outside domain/venues.py."""

from collections.abc import Mapping
from typing import Protocol

from domain.events import Venue
from gateways.hyperliquid.adapter import HyperliquidAdapter, HyperliquidSettings
from gateways.polymarket.adapter import PolymarketAdapter, PolymarketSettings
from gateways.venue_adapter import VenueAdapter


class VenueSettings(HyperliquidSettings, PolymarketSettings, Protocol):
    """The settings that the adapters need; vibe/app/settings.py holds them."""


ADAPTERS: Mapping[Venue, VenueAdapter[VenueSettings]] = {
    Venue.HYPERLIQUID: HyperliquidAdapter(),
    Venue.POLYMARKET: PolymarketAdapter(),
}
LIVE_VENUES = (Venue.HYPERLIQUID,)
"""Those that take live orders."""
