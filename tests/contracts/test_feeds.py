"""The contract of feeds, kept by both venues' sockets against their sandboxes and against minimal servers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from websockets.asyncio.server import ServerConnection, broadcast, serve

from gateways.hyperliquid.trades_socket import trades
from gateways.polymarket.log_parsing import Log
from gateways.polymarket.log_socket import fills
from gateways.reconnecting_websocket import Backoff, Connected
from gateways.sandbox.hyperliquid import Sandbox
from gateways.sandbox.polymarket import INFLUENCERS, PolymarketSandbox
from tests.contracts.feeds import FeedContract, FeedVenue
from tests.contracts.venues import Clock, hyperliquid, polymarket
from tests.gateways.polygon_node import LocalNode, fill, node
from tests.gateways.test_polymarket_log_parsing import OWNER

NEVER = 60.0


async def fault(url: str, **faults: object) -> None:
    async with aiohttp.ClientSession() as http, http.post(f"{url}/sandbox/faults", json=faults) as response:
        assert response.status == 200, await response.text()


class Trades:
    """What the two Hyperliquids have in common."""

    ws_url: str

    def feed(self, stop: asyncio.Event, backoff: Backoff, silence_seconds: float | None) -> AsyncIterator[Any]:
        return trades(self.ws_url, ["SOL"], stop=stop, backoff=backoff, silence_seconds=silence_seconds or NEVER)

    def bytes_of(self, item: str) -> bytes:
        return item.encode()


class HyperliquidSandbox(Trades):
    def __init__(self, sandbox: Sandbox, clock: Clock) -> None:
        self._sandbox = sandbox
        self._clock = clock
        self.ws_url = sandbox.ws_url

    async def publish(self) -> bytes:
        self._clock.advance(10)
        return b'"channel":"trades"'

    async def drop(self) -> None:
        await fault(self._sandbox.url, drop_connections=True)

    async def vanish(self) -> None:
        await fault(self._sandbox.url, drop_connections=True, refuse_connections_s=60)


class StandIn(Trades):
    """A server that accepts every subscription without a word."""

    def __init__(self) -> None:
        self.sockets: set[ServerConnection] = set()
        self.refuses = False
        self._number = 0

    async def handle(self, socket: ServerConnection) -> None:
        if self.refuses:
            return
        self.sockets.add(socket)
        try:
            async for _ in socket:
                pass
        finally:
            self.sockets.discard(socket)

    async def publish(self) -> bytes:
        self._number += 1
        frame = json.dumps({"channel": "trades", "data": [{"coin": "SOL", "tid": self._number}]})
        broadcast(self.sockets, frame)
        return frame.encode()

    async def drop(self) -> None:
        for socket in list(self.sockets):
            socket.transport.abort()

    async def vanish(self) -> None:
        self.refuses = True
        await self.drop()


class Logs:
    """What the two Polygon nodes have in common."""

    ws_url: str
    wallet: str

    def feed(self, stop: asyncio.Event, backoff: Backoff, silence_seconds: float | None) -> AsyncIterator[Any]:
        return fills(self.ws_url, [self.wallet], stop=stop, backoff=backoff, stale_seconds=silence_seconds or NEVER)

    def bytes_of(self, item: Log | Connected) -> bytes:
        assert isinstance(item, Log)
        return bytes(item.payload)


class PolygonSandbox(Logs):
    wallet = INFLUENCERS[0].address

    def __init__(self, sandbox: PolymarketSandbox, clock: Clock) -> None:
        self._sandbox = sandbox
        self._clock = clock
        self.ws_url = sandbox.polygon_ws_url

    async def publish(self) -> bytes:
        self._clock.advance(10)
        return self.wallet[2:].lower().encode()

    async def drop(self) -> None:
        await fault(self._sandbox.url, drop_connections=True)

    async def vanish(self) -> None:
        await fault(self._sandbox.url, drop_connections=True, refuse_connections_s=60)


class PolygonStandIn(Logs):
    wallet = OWNER

    def __init__(self, local: LocalNode) -> None:
        self._node = local
        self.ws_url = local.ws_url
        self._block = 0

    async def publish(self) -> bytes:
        self._block += 1
        await self._node.send(fill(self._block))
        return f'"blockNumber": "{hex(self._block)}"'.encode()

    async def drop(self) -> None:
        for socket in self._node.sockets:
            await socket.close()

    async def vanish(self) -> None:
        self._node.refuse = "the node is down"
        await self.drop()


class TestTradesOfTheSandbox(FeedContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[FeedVenue]:
        clock = Clock(60)
        async with hyperliquid(clock) as sandbox:
            yield HyperliquidSandbox(sandbox, clock)


class TestTradesOfAStandIn(FeedContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[FeedVenue]:
        venue = StandIn()
        async with serve(venue.handle, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()[:2]
            venue.ws_url = f"ws://{host}:{port}"
            yield venue


class TestLogsOfTheSandbox(FeedContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[FeedVenue]:
        clock = Clock(20)
        async with polymarket(clock) as sandbox:
            yield PolygonSandbox(sandbox, clock)


class TestLogsOfAStandIn(FeedContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[FeedVenue]:
        async with node() as local:
            yield PolygonStandIn(local)
