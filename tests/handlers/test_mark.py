"""Marks of held assets and resolutions of markets: stored once, on the log's clock, never guessed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from msgspec import Raw

from domain.events import Event, MarkCaptured, MarketDescribed, MarketResolved, MarkSource, Venue
from gateways.http_client import HttpClient
from gateways.polymarket.gamma import Gamma
from gateways.rate_limit import RateLimiter
from gateways.sandbox.polymarket import FlowSource, PolymarketSandbox
from gateways.venue_errors import VenueUnavailableError
from gateways.venue_types import Price
from handlers.live.event_codec import codec
from handlers.live.mark_prices import LiveMarkPrices
from handlers.mark import Mark
from handlers.resolve import Resolver
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.reader import read_all
from streams.topology import DEAD, GROUPS
from tests.domain.facts import signal

SLOT_SECONDS = 0.2
DAY_ONE = 1_767_225_600 * 1_000_000_000


class FakePrices:
    """The prices of one venue; `fails` makes it silent for so many rounds."""

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


async def traded(log: Connection, *assets: str, venue: Venue = Venue.HYPERLIQUID, market: str = "") -> None:
    for asset in assets:
        event = signal(f"s-{asset}", venue=venue, asset=asset, market=market)
        await store(log, event, subjects.signals("ann", venue.value, asset))


async def store(log: Connection, event: Event, subject: str) -> None:
    payload = codec().encode(event, id=f"{subject}", source="tests", time_ns=DAY_ONE, correlation="c")
    await append(log, [Record(subject, payload)])


async def stored(log: Connection, kind: type[Event]) -> list[Any]:
    decode = codec().decode
    return [
        event.data
        async for batch in read_all(log, GROUPS.name)
        for one in batch
        if isinstance((event := decode(GROUPS.name, one.sequence, one.subject, one.payload)).data, kind)
    ]


@asynccontextmanager
async def marking(
    log: Connection, prices: Mapping[Venue, FakePrices], clock: Time, *, instances: int = 1
) -> AsyncIterator[LiveMarkPrices]:
    valuation = LiveMarkPrices(log, codec())
    await valuation.start()
    stop = asyncio.Event()
    marks = [Mark(log, valuation, prices, {}, clock, every_seconds=SLOT_SECONDS) for _ in range(instances)]
    runs = [asyncio.create_task(mark.run(stop)) for mark in marks]
    try:
        for mark in marks:
            await mark.ready.wait()
        yield valuation
    finally:
        stop.set()
        await asyncio.gather(*runs)
        await valuation.close()


async def rounds(prices: FakePrices, count: int) -> None:
    """Wait for so many more questions."""
    until = len(prices.asked) + count
    async with asyncio.timeout(10):
        while len(prices.asked) < until:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)


async def test_what_was_traded_is_marked_and_only_what_moves_is_stored_again(log: Connection) -> None:
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


async def test_a_mark_that_does_not_move_is_stored_again_after_five_minutes(log: Connection) -> None:
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


async def test_a_venue_that_does_not_answer_is_asked_in_the_next_slot_and_disturbs_no_other(log: Connection) -> None:
    silent, fine, clock = FakePrices(token=1), FakePrices(BTC=100), Time()
    silent.fails = 2
    await traded(log, "BTC")
    await traded(log, "token", venue=Venue.POLYMARKET)
    async with marking(log, {Venue.POLYMARKET: silent, Venue.HYPERLIQUID: fine}, clock):
        await rounds(silent, 4)
    assert sorted(mark.asset for mark in await stored(log, MarkCaptured)) == ["BTC", "token"]


async def test_a_new_valuation_begins_with_the_newest_marks(log: Connection) -> None:
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


# --- resolutions, against the sandbox ----------------------------------------------------------------------


@asynccontextmanager
async def resolving(log: Connection, venue: PolymarketSandbox) -> AsyncIterator[tuple[LiveMarkPrices, Resolver]]:
    valuation = LiveMarkPrices(log, codec())
    await valuation.start()
    async with HttpClient(RateLimiter(200, 200)) as client:
        resolver = Resolver(
            log,
            valuation,
            Venue.POLYMARKET,
            Gamma(client, venue.gamma_url),
            venue.venue.now_ns,
            soon_seconds=0.1,
            proof_seconds=(0.2,) * 20,
        )
        run = asyncio.create_task(resolver.run())
        try:
            yield valuation, resolver
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            await valuation.close()


async def fault(venue: PolymarketSandbox, **what: Any) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{venue.url}/sandbox/faults", json=what) as answer:
        assert answer.status == 200, await answer.text()


async def until(log: Connection, kind: type[Event], count: int) -> list[Any]:
    async with asyncio.timeout(10):
        while len(found := await stored(log, kind)) < count:
            await asyncio.sleep(0.05)
    return found


async def letters(log: Connection) -> list[str]:
    return [one.payload.decode() async for batch in read_all(log, DEAD.name) for one in batch]


async def test_a_token_that_cannot_be_looked_up_is_nothing_to_the_markets_beside_it(
    log: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    markets = Gamma.markets

    async def counted(gamma: Gamma, ids: Sequence[str]) -> dict[str, Raw]:
        asked.update(ids)
        return await markets(gamma, ids)

    async def failing(gamma: Gamma, token: str) -> Raw | None:
        asked[token] += 1
        raise VenueUnavailableError("no")

    monkeypatch.setattr(Gamma, "markets", counted)
    monkeypatch.setattr(Gamma, "market_of", failing)
    async with PolymarketSandbox(FlowSource(7)) as venue:
        lasting = [market.listing for market in venue.venue.markets.values() if not market.listing.brief]
        async with resolving(log, venue) as (_, resolver):
            resolver.watch("77", "")
            for listing in lasting:
                resolver.watch(listing.tokens[0], listing.condition)
            await until(log, MarketDescribed, len(lasting))
            before = asked["77"]
            async with asyncio.timeout(10):
                while asked["77"] < before + 5:
                    await asyncio.sleep(0.05)
    assert {asked[listing.condition] for listing in lasting} == {1}


async def test_a_market_is_described_and_resolved_once(log: Connection) -> None:
    async with PolymarketSandbox(FlowSource(7, resolves_s=2.5)) as venue:
        brief = next(market for market in venue.venue.markets.values() if market.listing.brief)
        token = brief.listing.tokens[0]
        async with resolving(log, venue) as (valuation, resolver):
            resolver.watch(token, "")
            (described,) = await until(log, MarketDescribed, 1)
            assert token in {outcome.asset for outcome in described.outcomes}
            (resolved,) = await until(log, MarketResolved, 1)
            assert sum(payout.price_micros for payout in resolved.payouts) == 1_000_000
            await asyncio.sleep(0.6)  # it is looked at again meanwhile
            resolution = valuation.marks.resolution(("polymarket", token))
            assert resolution is not None
            assert resolution.resolution_id == resolved.resolution_id
    assert len(await stored(log, MarketResolved)) == len(await stored(log, MarketDescribed)) == 1
    assert not await letters(log)


async def test_a_resolution_that_changes_is_never_followed_and_goes_to_dead_once(log: Connection) -> None:
    async with PolymarketSandbox(FlowSource(7, horizon_s=0.0, resolves_s=60.0)) as venue:
        name, market = next(iter(venue.venue.markets.items()))
        async with resolving(log, venue) as (_, resolver):
            await fault(venue, resolve={"market": name, "payouts": "first"})
            resolver.watch(market.listing.tokens[0], market.listing.condition)
            (resolved,) = await until(log, MarketResolved, 1)
            await fault(venue, resolve={"market": name, "payouts": "second"})
            async with asyncio.timeout(10):
                while not await letters(log):
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
    (letter,) = await letters(log)
    assert "was resolved and paid already, and now pays otherwise" in letter
    assert len(await stored(log, MarketResolved)) == 1
    assert resolved.payouts[0].price_micros == 1_000_000


async def test_a_token_that_no_market_has_hides_nobody(log: Connection) -> None:
    async with PolymarketSandbox(FlowSource(7, horizon_s=0.0)) as venue:
        market = next(iter(venue.venue.markets.values()))
        async with resolving(log, venue) as (_, resolver):
            resolver.watch("12345", "")
            resolver.watch(market.listing.tokens[0], "")
            (described,) = await until(log, MarketDescribed, 1)
    assert described.market == market.listing.condition
