"""The contract of the venues' sockets: announced connections, data as it came, reconnects, watchdogs, a prompt stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest

from gateways.reconnecting_websocket import Backoff, Connected


class FeedVenue(Protocol):
    """A venue behind a socket, as a test controls it."""

    def feed(self, stop: asyncio.Event, backoff: Backoff, silence_seconds: float | None) -> AsyncIterator[Any]:
        """The feed under test; after `silence_seconds` without data it must replace the connection (None = never)."""

    async def publish(self) -> bytes:
        """Make the venue send data to every connection; returns a part of what arrives."""

    def bytes_of(self, item: Any) -> bytes:
        """What an item of the feed carries, as it came."""

    async def drop(self) -> None:
        """Break every connection."""

    async def vanish(self) -> None:
        """Break every connection and refuse new ones for the rest of the test."""


class Reader:
    """Reads a feed in the background, so that a test may control the venue meanwhile."""

    def __init__(self, venue: FeedVenue, silence_seconds: float | None) -> None:
        self._venue = venue
        self.stop = asyncio.Event()
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        feed = venue.feed(self.stop, Backoff(0.02, 0.1), silence_seconds)
        self.task = asyncio.create_task(self._read(feed))

    async def _read(self, feed: AsyncIterator[Any]) -> None:
        async for item in feed:
            self._items.put_nowait(item)

    async def connected(self, within: float = 5.0) -> int:
        """The attempt of the next connection."""
        async with asyncio.timeout(within):
            while not isinstance(item := await self._items.get(), Connected):
                pass
        return item.attempt

    async def first(self) -> Any:
        return await asyncio.wait_for(self._items.get(), 5)

    async def data(self, part: bytes) -> None:
        """Wait for an item that holds `part`; the connection must last until then."""
        async with asyncio.timeout(5):
            while True:
                item = await self._items.get()
                assert not isinstance(item, Connected), "the connection was lost"
                if part in self._venue.bytes_of(item):
                    return


@asynccontextmanager
async def reading(venue: FeedVenue, silence_seconds: float | None = None) -> AsyncIterator[Reader]:
    reader = Reader(venue, silence_seconds)
    try:
        yield reader
    finally:
        reader.stop.set()
        await asyncio.wait_for(reader.task, 3)


class FeedContract:
    def open(self) -> AbstractAsyncContextManager[FeedVenue]:
        raise NotImplementedError

    async def test_a_feed_begins_with_its_first_connection_and_then_its_data(self) -> None:
        async with self.open() as venue, reading(venue) as reader:
            assert await reader.first() == Connected(1)
            await reader.data(await venue.publish())

    async def test_a_lost_connection_is_replaced_and_the_data_goes_on(self) -> None:
        async with self.open() as venue, reading(venue) as reader:
            for attempt in (1, 2, 3):
                assert await reader.connected() == attempt
                await reader.data(await venue.publish())
                await venue.drop()

    async def test_a_silent_connection_is_replaced(self) -> None:
        async with self.open() as venue, reading(venue, silence_seconds=0.2) as reader:
            assert await reader.connected() == 1
            assert await reader.connected() > 1

    async def test_a_connection_without_a_watchdog_that_fires_lasts(self) -> None:
        async with self.open() as venue, reading(venue) as reader:
            assert await reader.connected() == 1
            with pytest.raises(TimeoutError):
                await reader.connected(within=0.4)

    async def test_stop_ends_a_quiet_feed_at_once(self) -> None:
        async with self.open() as venue, reading(venue) as reader:
            await reader.connected()
            reader.stop.set()
            await asyncio.wait_for(reader.task, 1)

    async def test_stop_ends_a_feed_whose_venue_is_gone(self) -> None:
        async with self.open() as venue, reading(venue) as reader:
            await reader.connected()
            await venue.vanish()
            await asyncio.sleep(0.3)
            assert not reader.task.done(), "it goes on trying"
            reader.stop.set()
            await asyncio.wait_for(reader.task, 1)
