"""Hyperliquid behind the port of gateways/venue_adapter.py."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple, Protocol

from domain.events import RawReceived, Venue
from gateways.hyperliquid import raw_events
from gateways.hyperliquid.book_channel import HyperliquidBookChannel
from gateways.hyperliquid.books import VenueBooks
from gateways.hyperliquid.info_client import WEIGHT_PER_MINUTE, InfoClient
from gateways.hyperliquid.order_client import OrderClient
from gateways.hyperliquid.prices import VenuePrices
from gateways.live_books import LiveBooks
from gateways.rate_limit import MakeLimiter, RateLimiter, alone, per_minute
from gateways.venue_adapter import Purpose
from gateways.venue_clock import VenueClock
from gateways.venue_types import DecodedRaw

WEIGHT_SHARES = {
    Purpose.INGEST: 480,
    Purpose.QUOTE: 340,
    Purpose.EXECUTE: 300,
    Purpose.MARK: 79,
    Purpose.RESOLVE: 1,
}
"""How the venue's request weight per minute is split, in parts of 1,200 (docs/venues/hyperliquid.md, limits). Quotes
come from live books first. Markets do not end on this venue: there is nothing to request for RESOLVE."""
BOOK_MESSAGES_PER_SECOND = 10.0
"""Subscriptions and their ends, after a burst of them; with it, half of the venue's 2,000 messages per minute."""


class HyperliquidSettings(Protocol):
    @property
    def hyperliquid_api_url(self) -> str: ...
    @property
    def hyperliquid_ws_url(self) -> str: ...
    @property
    def hyperliquid_weight_per_minute(self) -> int: ...
    @property
    def hyperliquid_book_subscriptions(self) -> int: ...


class HyperliquidClients(NamedTuple):
    info: InfoClient
    limiter: RateLimiter
    api_url: str
    ws_url: str
    book_subscriptions: int
    clock: VenueClock

    def books(self) -> VenueBooks:
        return VenueBooks(self.info)

    def live_books(self) -> LiveBooks | None:
        subscriptions = self.book_subscriptions
        if not subscriptions:
            return None
        channel = partial(HyperliquidBookChannel, subscriptions)
        messages = RateLimiter(BOOK_MESSAGES_PER_SECOND, 2 * subscriptions)
        return LiveBooks(Venue.HYPERLIQUID.value, self.ws_url, channel, messages, capacity=subscriptions)

    def prices(self, clock: Callable[[], int]) -> VenuePrices:
        return VenuePrices(self.info, clock)

    def markets(self) -> None:
        return None

    def live_orders(self, clock: Callable[[], int]) -> OrderClient:
        return OrderClient(self.api_url, self.info, self.limiter, clock)


class HyperliquidAdapter:
    def decode_raw(self, raw: RawReceived) -> DecodedRaw:
        return raw_events.decode_raw(raw)

    @asynccontextmanager
    async def connect(
        self, settings: HyperliquidSettings, purpose: Purpose, limiter_of: MakeLimiter = alone
    ) -> AsyncIterator[HyperliquidClients]:
        weight = WEIGHT_SHARES[purpose] * settings.hyperliquid_weight_per_minute // WEIGHT_PER_MINUTE
        limiter = limiter_of(f"{Venue.HYPERLIQUID.value}.{purpose.value}", *per_minute(weight))
        clock = VenueClock(Venue.HYPERLIQUID.value)
        async with InfoClient(settings.hyperliquid_api_url, limiter=limiter, clock=clock) as info:
            yield HyperliquidClients(
                info,
                limiter,
                settings.hyperliquid_api_url,
                settings.hyperliquid_ws_url,
                settings.hyperliquid_book_subscriptions,
                clock,
            )
