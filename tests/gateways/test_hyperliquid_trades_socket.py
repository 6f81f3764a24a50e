"""The public trades feed against the sandbox: it subscribes, reconnects, and ends at `stop`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateways.hyperliquid.trades_socket import trades
from gateways.reconnecting_websocket import Backoff, Connected
from gateways.sandbox.hyperliquid import FlowSource, Sandbox
from gateways.sandbox.hyperliquid.coins import COINS
from tests.gateways.test_sandbox_hyperliquid_faults import order
from tests.gateways.test_sandbox_hyperliquid_ws import ORIGIN_NS, SEED, Clock, played, serving, until, wire_trades

COIN_NAMES = [coin.name for coin in COINS]


class Listener:
    """Reads the feed in the background, so that a test may do something meanwhile."""

    def __init__(self, url: str, coins: list[str], **options: Any) -> None:
        self.stop = asyncio.Event()
        self._received: asyncio.Queue[str | Connected] = asyncio.Queue()
        self.task = asyncio.create_task(self._listen(trades(url, coins, stop=self.stop, **options)))

    async def _listen(self, feed: AsyncIterator[str | Connected]) -> None:
        async for frame in feed:
            self._received.put_nowait(frame)

    async def connected(self) -> int:
        """The attempt of the next connection; frames before it are dropped."""
        while True:
            received = await asyncio.wait_for(self._received.get(), 3)
            if isinstance(received, Connected):
                return received.attempt

    async def data(self) -> list[dict[str, Any]]:
        """The trades of the next frame that has some."""
        while True:
            received = await asyncio.wait_for(self._received.get(), 3)
            assert isinstance(received, str), "the connection was lost"
            frame = json.loads(received)
            if frame["channel"] == "trades":
                found: list[dict[str, Any]] = frame["data"]
                return found


@asynccontextmanager
async def listening(sandbox: Sandbox, *coins: str, **options: Any) -> AsyncIterator[Listener]:
    listener = Listener(sandbox.ws_url, list(coins), **options)
    try:
        yield listener
    finally:
        listener.stop.set()
        await asyncio.wait_for(listener.task, 3)


async def test_the_feed_begins_with_connected_and_the_replay_of_every_coin() -> None:
    async with played(90) as sandbox, listening(sandbox, "BTC", "SOL") as listener:
        assert await listener.connected() == 1
        for coin in ("BTC", "SOL"):
            assert await listener.data() == wire_trades(until(90), coin)[-30:]


async def test_live_trades_follow_in_their_order() -> None:
    clock = Clock()
    async with (
        serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as sandbox,
        listening(sandbox, *COIN_NAMES) as listener,
    ):
        assert await listener.connected() == 1
        await asyncio.sleep(0.1)
        clock.advance(4)
        played_by_then = until(4.001)
        assert [await listener.data() for _ in played_by_then] == [wire_trades([one]) for one in played_by_then]


async def test_a_dropped_feed_comes_back_with_the_replay() -> None:
    async with played(90) as sandbox, listening(sandbox, "BTC") as listener:
        replay = wire_trades(until(90), "BTC")[-30:]
        for attempt in (1, 2, 3):
            assert await listener.connected() == attempt
            assert await listener.data() == replay
            await order(sandbox, drop_connections=True)


async def test_a_venue_that_refuses_connections_is_tried_until_it_accepts_one() -> None:
    async with played(90) as sandbox, listening(sandbox, "BTC", backoff=Backoff(0.1, 0.1)) as listener:
        assert await listener.connected() == 1
        await order(sandbox, refuse_connections_s=0.4, drop_connections=True)
        assert await listener.connected() == 2, "only connections that were made are counted"
        assert await listener.data()


async def test_stop_ends_a_feed_that_has_just_lost_its_connection() -> None:
    async with played(0.1) as sandbox:
        listener = Listener(sandbox.ws_url, ["BTC"])
        assert await listener.connected() == 1
        await order(sandbox, drop_connections=True)
        await asyncio.sleep(0.05)
        listener.stop.set()
        await asyncio.wait_for(listener.task, 2)


async def test_a_feed_that_answers_pings_and_brings_no_trades_is_replaced() -> None:
    async with (
        played(90) as sandbox,
        listening(sandbox, "BTC", ping_seconds=0.1, trades_silence_seconds=0.5, backoff=Backoff(0.1, 0.1)) as listener,
    ):
        assert await listener.connected() == 1
        await order(sandbox, silence_s=30)
        assert await asyncio.wait_for(listener.connected(), 10) == 2


async def test_pings_keep_a_quiet_feed_alive() -> None:
    async with played(0.1) as sandbox, listening(sandbox, "BTC", silence_seconds=0.5, ping_seconds=0.1) as listener:
        assert await listener.connected() == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(listener.connected(), 1.0)
