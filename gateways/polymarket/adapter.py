"""Polymarket behind the port of gateways/venue_adapter.py."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple, Protocol

from domain.events import RawReceived, Venue
from gateways.http_client import HttpClient
from gateways.live_books import LiveBooks
from gateways.polymarket import raw_events
from gateways.polymarket.book_channel import PolymarketBookChannel
from gateways.polymarket.books import PolymarketBooks
from gateways.polymarket.clob import Clob
from gateways.polymarket.data_api import DataApi
from gateways.polymarket.gamma import Gamma
from gateways.polymarket.polygon_rpc import PolygonRpc
from gateways.polymarket.prices import PolymarketPrices
from gateways.rate_limit import RateLimiter
from gateways.venue_adapter import Purpose
from gateways.venue_types import DecodedRaw

REQUEST_SHARES = {
    Purpose.INGEST: (10.0, 20),
    Purpose.QUOTE: (6.0, 12),
    Purpose.MARK: (2.0, 4),
    Purpose.RESOLVE: (2.0, 4),
}
"""Requests a second and requests at once; 20 and 40 in all (docs/venues/polymarket.md, rate limits)."""

BOOK_MESSAGES_PER_SECOND = 2.0
"""To the market channel, after a burst; one message subscribes many tokens."""


class PolymarketSettings(Protocol):
    @property
    def polymarket_data_url(self) -> str: ...
    @property
    def polymarket_gamma_url(self) -> str: ...
    @property
    def polymarket_clob_url(self) -> str: ...
    @property
    def polymarket_market_ws_url(self) -> str: ...
    @property
    def polymarket_book_subscriptions(self) -> int: ...
    @property
    def polygon_http_url(self) -> str: ...
    @property
    def polygon_ws_url(self) -> str: ...


class PolymarketClients(NamedTuple):
    data_api: DataApi
    gamma: Gamma
    clob: Clob
    polygon: PolygonRpc
    polygon_ws_url: str
    order_books: PolymarketBooks
    market_ws_url: str
    book_subscriptions: int

    def books(self) -> PolymarketBooks:
        return self.order_books

    def live_books(self) -> LiveBooks | None:
        if not self.book_subscriptions:
            return None
        channel = partial(PolymarketBookChannel, self.order_books.forget_terms)
        messages = RateLimiter(BOOK_MESSAGES_PER_SECOND, 20)
        return LiveBooks(
            Venue.POLYMARKET.value, self.market_ws_url, channel, messages, capacity=self.book_subscriptions
        )

    def prices(self, clock: Callable[[], int]) -> PolymarketPrices:
        return PolymarketPrices(self.clob, clock)

    def markets(self) -> Gamma:
        return self.gamma


class PolymarketAdapter:
    def decode_raw(self, raw: RawReceived) -> DecodedRaw:
        return raw_events.decode_raw(raw)

    @asynccontextmanager
    async def connect(self, settings: PolymarketSettings, purpose: Purpose) -> AsyncIterator[PolymarketClients]:
        async with HttpClient(RateLimiter(*REQUEST_SHARES[purpose])) as client:
            gamma, clob = Gamma(client, settings.polymarket_gamma_url), Clob(client, settings.polymarket_clob_url)
            yield PolymarketClients(
                DataApi(client, settings.polymarket_data_url),
                gamma,
                clob,
                PolygonRpc(client, settings.polygon_http_url),
                settings.polygon_ws_url,
                PolymarketBooks(clob, gamma),
                settings.polymarket_market_ws_url,
                settings.polymarket_book_subscriptions,
            )
