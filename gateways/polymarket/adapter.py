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
from gateways.rate_limit import MakeLimiter, RateLimiter, alone
from gateways.venue_adapter import Purpose
from gateways.venue_clock import VenueClock
from gateways.venue_types import DecodedRaw

REQUEST_SHARES = {Purpose.INGEST: 10, Purpose.QUOTE: 6, Purpose.MARK: 2, Purpose.RESOLVE: 2}
"""How requests a second and requests at once are split, in parts of 20 (docs/venues/polymarket.md, rate limits)."""
_PARTS = sum(REQUEST_SHARES.values())

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
    def polymarket_requests_per_second(self) -> float: ...
    @property
    def polymarket_requests_at_once(self) -> int: ...
    @property
    def polymarket_poll_seconds(self) -> float: ...
    @property
    def polymarket_start_backfill_seconds(self) -> int: ...
    @property
    def polymarket_reconnect_backfill_seconds(self) -> int: ...
    @property
    def polymarket_reconcile_backfill_seconds(self) -> int: ...
    @property
    def polygon_http_url(self) -> str: ...
    @property
    def polygon_ws_url(self) -> str: ...


class Polling(NamedTuple):
    """Seconds between polls of a wallet that is not trading; seconds that activity is fetched back at the start, after
    the on-chain subscription was lost, and once a minute."""

    every: float
    start_back: int
    reconnect_back: int
    reconcile_back: int


class PolymarketClients(NamedTuple):
    data_api: DataApi
    gamma: Gamma
    clob: Clob
    polygon: PolygonRpc
    polygon_ws_url: str
    order_books: PolymarketBooks
    market_ws_url: str
    book_subscriptions: int
    polling: Polling
    clock: VenueClock

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

    def live_orders(self, clock: Callable[[], int]) -> None:
        return None


class PolymarketAdapter:
    def decode_raw(self, raw: RawReceived) -> DecodedRaw:
        return raw_events.decode_raw(raw)

    @asynccontextmanager
    async def connect(
        self, settings: PolymarketSettings, purpose: Purpose, limiter_of: MakeLimiter = alone
    ) -> AsyncIterator[PolymarketClients]:
        clock = VenueClock(Venue.POLYMARKET.value)
        async with HttpClient(request_limiter(settings, purpose, limiter_of), clock=clock) as client:
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
                Polling(
                    settings.polymarket_poll_seconds,
                    settings.polymarket_start_backfill_seconds,
                    settings.polymarket_reconnect_backfill_seconds,
                    settings.polymarket_reconcile_backfill_seconds,
                ),
                clock,
            )


def request_limiter(settings: PolymarketSettings, purpose: Purpose, limiter_of: MakeLimiter = alone) -> RateLimiter:
    """The share of the venue's requests that a purpose may send."""
    share = REQUEST_SHARES[purpose] / _PARTS
    return limiter_of(
        f"{Venue.POLYMARKET.value}.{purpose.value}",
        settings.polymarket_requests_per_second * share,
        settings.polymarket_requests_at_once * share,
    )
