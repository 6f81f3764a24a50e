"""The contract of live books, kept by both venues against their sandboxes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from gateways.hyperliquid.adapter import HyperliquidAdapter, HyperliquidClients
from gateways.hyperliquid.book_channel import LEVELS
from gateways.live_books import LiveBooks
from gateways.polymarket.adapter import PolymarketAdapter, PolymarketClients
from gateways.rate_limit import RateLimiter
from gateways.reconnecting_websocket import Backoff
from gateways.venue_adapter import Purpose
from tests.contracts.live_books import LiveBooksContract, LiveSubject
from tests.contracts.venues import Clock, hyperliquid, lasting_tokens, polymarket
from vibe.app.settings import Settings, polymarket_settings

CAPACITY = 2


@asynccontextmanager
async def running(live: LiveBooks) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(live.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


def options_of(options: dict[str, Any]) -> dict[str, Any]:
    return {"capacity": CAPACITY, "backoff": Backoff(0.05, 0.2), **options}


async def fault(url: str, **faults: Any) -> None:
    async with aiohttp.ClientSession() as http, http.post(f"{url}/sandbox/faults", json=faults) as response:
        assert response.status == 200, await response.text()


class TestHyperliquid(LiveBooksContract):
    depth = LEVELS

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[LiveSubject]:
        clock = Clock(60)
        async with hyperliquid(clock) as sandbox:
            settings = Settings(_env_file=None, hyperliquid_api_url=sandbox.url, hyperliquid_ws_url=sandbox.ws_url)
            async with HyperliquidAdapter().connect(settings, Purpose.QUOTE) as clients:
                live = self.live(clients, **options)

                async def move() -> None:
                    clock.advance(30)
                    await asyncio.sleep(0.1)

                async def ordered(**faults: Any) -> None:
                    await fault(sandbox.url, **faults)

                async with running(live):
                    yield LiveSubject(live, clients.books(), ["BTC", "SOL", "ETH"], move, ordered)

    def live(self, clients: HyperliquidClients, **options: Any) -> LiveBooks:
        built = clients.live_books()
        assert built is not None
        return LiveBooks("hyperliquid", clients.ws_url, built.channel, RateLimiter(1_000, 1_000), **options_of(options))


class TestPolymarket(LiveBooksContract):
    depth = None

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[LiveSubject]:
        clock = Clock(30)
        async with polymarket(clock) as sandbox:
            urls = {name.removeprefix("VIBE_").lower(): url for name, url in polymarket_settings(sandbox.url).items()}
            settings = Settings(_env_file=None, **urls)  # type: ignore[arg-type]
            async with PolymarketAdapter().connect(settings, Purpose.QUOTE) as clients:
                live = self.live(clients, **options)

                async def move() -> None:
                    clock.advance(10)
                    await asyncio.sleep(0.1)

                async def ordered(**faults: Any) -> None:
                    await fault(sandbox.url, **faults)

                async with running(live):
                    yield LiveSubject(live, clients.books(), list(lasting_tokens()), move, ordered)

    def live(self, clients: PolymarketClients, **options: Any) -> LiveBooks:
        built = clients.live_books()
        assert built is not None
        return LiveBooks(
            "polymarket", clients.market_ws_url, built.channel, RateLimiter(1_000, 1_000), **options_of(options)
        )
