"""The contract of live books (gateways/live_books.py): what quotes rely on, whichever venue sends them."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from gateways.live_books import Lack, LiveBook, LiveBooks
from gateways.venue_adapter import Books


class LiveSubject(NamedTuple):
    """Running live books, the books that the same venue answers requests with, and assets that have one.

    `move` lets the venue's books change, `fault` switches a fault of its sandbox on.
    """

    live: LiveBooks
    books: Books
    assets: list[str]
    move: Callable[[], Awaitable[None]]
    fault: Callable[..., Awaitable[Any]]


async def live_book(live: LiveBooks, asset: str, seconds: float = 5.0) -> LiveBook:
    """The live book of an asset, once there is one."""
    async with asyncio.timeout(seconds):
        while isinstance(found := live.newest(asset), Lack):
            await asyncio.sleep(0.01)
    return found


async def lacking(live: LiveBooks, asset: str, seconds: float = 5.0) -> Lack:
    """Why an asset has no live book, once it has none."""
    async with asyncio.timeout(seconds):
        while isinstance(found := live.newest(asset), LiveBook):
            await asyncio.sleep(0.01)
    return found


class LiveBooksContract:
    """Subclasses provide live books with room for two assets, of which at least three are traded."""

    depth: int | None
    """The levels a side that the feed sends; None for all."""

    def open(self, **options: Any) -> AbstractAsyncContextManager[LiveSubject]:
        raise NotImplementedError

    async def same(self, subject: LiveSubject, asset: str) -> bool:
        """True when the live book is the one that a request brings now."""
        captured, live = await subject.books.capture(asset), subject.live.newest(asset)
        assert captured is not None
        if not isinstance(live, LiveBook):
            return False
        book, depth = captured.book, self.depth
        return (live.book.bids, live.book.asks) == (book.bids[:depth], book.asks[:depth])

    async def until_same(self, subject: LiveSubject, asset: str) -> None:
        async with asyncio.timeout(5):
            while not await self.same(subject, asset):
                await asyncio.sleep(0.05)

    async def test_without_a_use_there_is_no_subscription(self) -> None:
        async with self.open() as subject:
            assert isinstance(subject.live.newest(subject.assets[0]), Lack)
            assert subject.live.subscribed == 0
            assert not subject.live.blind

    async def test_a_wanted_book_is_the_one_that_a_request_brings(self) -> None:
        async with self.open() as subject:
            asset = subject.assets[0]
            subject.live.want(asset)
            await self.until_same(subject, asset)
            found = await live_book(subject.live, asset)
            assert 0 <= found.age_seconds < 5
            assert found.is_truncated == (self.depth is not None)

    async def test_it_follows_the_venue(self) -> None:
        async with self.open() as subject:
            asset = subject.assets[0]
            subject.live.want(asset)
            before = await live_book(subject.live, asset)
            await subject.move()
            await self.until_same(subject, asset)
            after = await live_book(subject.live, asset)
            assert (after.book.bids, after.book.asks) != (before.book.bids, before.book.asks)

    async def test_frames_that_come_twice_change_nothing(self) -> None:
        async with self.open() as subject:
            await subject.fault(duplicate=True)
            asset = subject.assets[0]
            subject.live.want(asset)
            await live_book(subject.live, asset)
            await subject.move()
            await self.until_same(subject, asset)

    async def test_a_lost_connection_leaves_no_book_and_comes_back_with_one(self) -> None:
        async with self.open() as subject:
            asset = subject.assets[0]
            subject.live.want(asset)
            await live_book(subject.live, asset)
            await subject.fault(drop_connections=True, refuse_connections_s=0.4)
            assert await lacking(subject.live, asset) is Lack.DISCONNECTED
            assert subject.live.subscribed == 0
            await self.until_same(subject, asset)

    async def test_the_asset_used_least_recently_gives_way(self) -> None:
        async with self.open(keep_seconds=0.0) as subject:
            first, second, third, *_ = subject.assets
            for asset in (first, second):
                subject.live.want(asset)
                await live_book(subject.live, asset)
            subject.live.want(first)
            subject.live.want(third)
            await live_book(subject.live, third)
            assert await lacking(subject.live, second) is Lack.UNSUBSCRIBED
            assert subject.live.subscribed == 2
            assert isinstance(subject.live.newest(first), LiveBook)

    async def test_an_asset_in_use_is_not_given_up_for_another(self) -> None:
        async with self.open(keep_seconds=60.0) as subject:
            first, second, third, *_ = subject.assets
            for asset in (first, second):
                subject.live.want(asset)
                await live_book(subject.live, asset)
            subject.live.want(third)
            await asyncio.sleep(0.1)
            assert subject.live.newest(third) is Lack.UNSUBSCRIBED
            assert isinstance(subject.live.newest(first), LiveBook)

    async def test_of_more_assets_than_fit_at_the_start_the_last_ones_are_subscribed(self) -> None:
        async with self.open(keep_seconds=60.0) as subject:
            first, second, third, *_ = subject.assets
            for asset in (first, second, third):
                subject.live.want(asset)
            for asset in (second, third):
                await live_book(subject.live, asset)
            assert subject.live.newest(first) is Lack.UNSUBSCRIBED

    async def test_an_asset_that_is_no_longer_used_is_unsubscribed(self) -> None:
        async with self.open(idle_seconds=0.3) as subject:
            asset = subject.assets[0]
            subject.live.want(asset)
            await live_book(subject.live, asset)
            assert await lacking(subject.live, asset) is Lack.UNSUBSCRIBED
            assert not subject.live.blind

    async def test_a_forgotten_asset_is_unsubscribed(self) -> None:
        async with self.open() as subject:
            asset = subject.assets[0]
            subject.live.want(asset)
            await live_book(subject.live, asset)
            subject.live.forget(asset)
            assert await lacking(subject.live, asset) is Lack.UNSUBSCRIBED

    async def test_malformed_frames_leave_no_wrong_book(self) -> None:
        async with self.open() as subject:
            asset = subject.assets[0]
            subject.live.want(asset)
            await live_book(subject.live, asset)
            await subject.fault(inject_frames=["{not json", '{"channel":"l2Book","data":7}', "[[]]", "{}", "", "[]"])
            await subject.move()
            await self.until_same(subject, asset)
