"""Hyperliquid behind the port of gateways/venue_adapter.py."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

from domain.events import RawReceived
from gateways.hyperliquid import raw_events
from gateways.hyperliquid.books import VenueBooks
from gateways.hyperliquid.info_client import WEIGHT_PER_MINUTE, InfoClient
from gateways.hyperliquid.prices import VenuePrices
from gateways.rate_limit import RateLimiter
from gateways.venue_adapter import Purpose
from gateways.venue_types import DecodedRaw

WEIGHT_SHARES = {Purpose.INGEST: 560, Purpose.QUOTE: 560, Purpose.MARK: 79, Purpose.RESOLVE: 1}
"""How the venue's request weight per minute is split, in parts of 1,200 (docs/venues/hyperliquid.md, limits). Markets
do not end on this venue: there is nothing to request for RESOLVE."""


class HyperliquidSettings(Protocol):
    @property
    def hyperliquid_api_url(self) -> str: ...
    @property
    def hyperliquid_ws_url(self) -> str: ...
    @property
    def hyperliquid_weight_per_minute(self) -> int: ...


class HyperliquidClients(NamedTuple):
    info: InfoClient
    ws_url: str

    def books(self) -> VenueBooks:
        return VenueBooks(self.info)

    def prices(self, clock: Callable[[], int]) -> VenuePrices:
        return VenuePrices(self.info, clock)

    def markets(self) -> None:
        return None


class HyperliquidAdapter:
    def decode_raw(self, raw: RawReceived) -> DecodedRaw:
        return raw_events.decode_raw(raw)

    @asynccontextmanager
    async def connect(self, settings: HyperliquidSettings, purpose: Purpose) -> AsyncIterator[HyperliquidClients]:
        weight = WEIGHT_SHARES[purpose] * settings.hyperliquid_weight_per_minute // WEIGHT_PER_MINUTE
        limiter = RateLimiter.per_minute(weight)
        async with InfoClient(settings.hyperliquid_api_url, limiter=limiter) as info:
            yield HyperliquidClients(info, settings.hyperliquid_ws_url)
