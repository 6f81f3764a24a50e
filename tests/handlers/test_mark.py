"""Marks of traded assets: stored once, on the log's clock."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from domain.events import MarkCaptured, MarkSource, Venue
from gateways.venue_errors import VenueUnavailableError
from gateways.venue_types import Price
from handlers.live.event_codec import codec
from handlers.live.mark_prices import LiveMarkPrices
from handlers.live.traded_assets import TradedAssets
from handlers.mark import Mark
from streams.connection import Connection
from tests.handlers.traded import stored, traded

SLOT_SECONDS = 0.2
DAY_ONE = 1_767_225_600 * 1_000_000_000


class FakePrices:
    """The prices of one venue; `fails` is the number of requests that it does not answer."""

    def __init__(self, **prices: int) -> None:
        self.prices_of: dict[str, int] = dict(prices)
        self.fails = 0
        self.asked: list[set[str]] = []

    async def prices(self, assets: Iterable[str]) -> dict[str, Price]:
        self.asked.append(set(assets))
        if self.fails:
            self.fails -= 1
            raise VenueUnavailableError("no answer")
        return {
            asset: Price(self.prices_of[asset], MarkSource.MIDPOINT, 5)
            for asset in self.asked[-1] & self.prices_of.keys()
        }


class Time:
    """A clock that runs as fast as the real one, from a whole day on, and can be put forward."""

    def __init__(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self.ahead = 0

    def __call__(self) -> int:
        return DAY_ONE + self.ahead + int((asyncio.get_running_loop().time() - self._began) * 1e9)


@asynccontextmanager
async def marking(
    log: Connection, prices: Mapping[Venue, FakePrices], clock: Time, *, instances: int = 1
) -> AsyncIterator[LiveMarkPrices]:
    """So many instances of the stage, each following the log by itself; the mark prices of a reader."""
    async with AsyncExitStack() as stack:
        runs = []
        for _ in range(instances):
            assets, known = TradedAssets(log, codec()), LiveMarkPrices(log, codec())
            for live in (assets, known):
                stack.push_async_callback(live.close)
                await live.start()
            mark = Mark(log, assets, known, prices, clock, every_seconds=SLOT_SECONDS)
            runs.append(asyncio.create_task(mark.run()))
        try:
            yield known
        finally:
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)


async def rounds(prices: FakePrices, count: int) -> None:
    """Wait for so many more requests."""
    until = len(prices.asked) + count
    async with asyncio.timeout(10):
        while len(prices.asked) < until:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)


async def test_traded_assets_are_marked_and_only_moved_prices_are_stored_again(log: Connection) -> None:
    prices, clock = FakePrices(BTC=100, ETH=50, unseen=1), Time()
    await traded(log, "BTC", "ETH")
    async with marking(log, {Venue.HYPERLIQUID: prices}, clock) as valuation:
        await rounds(prices, 2)
        prices.prices_of["BTC"] = 101
        await rounds(prices, 2)
        assert valuation.marks.mark(("hyperliquid", "BTC")).price_micros == 101  # type: ignore[union-attr]
        await traded(log, "SOL")
        prices.prices_of["SOL"] = 7
        await rounds(prices, 2)
    marks = await stored(log, MarkCaptured)
    assert sorted((mark.asset, mark.price_micros) for mark in marks) == [
        ("BTC", 100),
        ("BTC", 101),
        ("ETH", 50),
        ("SOL", 7),
    ]
    assert {mark.source for mark in marks} == {MarkSource.MIDPOINT}
    assert all(mark.marked_at >= DAY_ONE for mark in marks)


async def test_an_unchanged_mark_is_stored_again_after_five_minutes(log: Connection) -> None:
    prices, clock = FakePrices(BTC=100), Time()
    await traded(log, "BTC")
    async with marking(log, {Venue.HYPERLIQUID: prices}, clock):
        await rounds(prices, 2)
        clock.ahead = 300 * 1_000_000_000
        await rounds(prices, 2)
    assert [mark.price_micros for mark in await stored(log, MarkCaptured)] == [100, 100]


async def test_two_instances_store_a_mark_once(log: Connection) -> None:
    prices, clock = FakePrices(BTC=100), Time()
    await traded(log, "BTC")
    async with marking(log, {Venue.HYPERLIQUID: prices}, clock, instances=2):
        await rounds(prices, 4)
    assert len(await stored(log, MarkCaptured)) == 1


async def test_a_venue_that_does_not_answer_is_asked_in_the_next_slot_and_delays_no_other(log: Connection) -> None:
    silent, fine, clock = FakePrices(token=1), FakePrices(BTC=100), Time()
    silent.fails = 2
    await traded(log, "BTC")
    await traded(log, "token", venue=Venue.POLYMARKET)
    async with marking(log, {Venue.POLYMARKET: silent, Venue.HYPERLIQUID: fine}, clock):
        await rounds(silent, 4)
    assert sorted(mark.asset for mark in await stored(log, MarkCaptured)) == ["BTC", "token"]


async def test_live_mark_prices_start_with_the_newest_marks(log: Connection) -> None:
    prices, clock = FakePrices(BTC=100), Time()
    await traded(log, "BTC")
    async with marking(log, {Venue.HYPERLIQUID: prices}, clock):
        await rounds(prices, 2)
        prices.prices_of["BTC"] = 103
        await rounds(prices, 2)
    again = LiveMarkPrices(log, codec())
    await again.start()
    try:
        mark = again.marks.mark(("hyperliquid", "BTC"))
        assert mark is not None
        assert (mark.price_micros, mark.sequence) == (103, again.marks.sequence)
    finally:
        await again.close()
