"""Descriptions and resolutions of markets, against the sandbox: each stored once, changes as corrections."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from msgspec import Raw

from domain.events import Event, MarketDescribed, MarketResolved, Venue
from gateways.http_client import HttpClient
from gateways.polymarket.gamma import Gamma
from gateways.rate_limit import RateLimiter
from gateways.sandbox.polymarket import FlowSource, PolymarketSandbox
from gateways.venue_errors import VenueUnavailableError
from handlers.live.event_codec import codec
from handlers.live.mark_prices import LiveMarkPrices
from handlers.live.traded_assets import TradedAssets
from handlers.resolve import Resolve, ResolveSettings
from streams.connection import Connection
from streams.dead_letters import DeadLettered
from streams.reader import read_all
from streams.topology import DEAD
from tests.handlers.traded import stored, traded


async def traded_there(log: Connection, token: str, market: str = "") -> None:
    await traded(log, token, venue=Venue.POLYMARKET, market=market)


@asynccontextmanager
async def resolving(log: Connection, venue: PolymarketSandbox, *, instances: int = 1) -> AsyncIterator[LiveMarkPrices]:
    """So many instances of the stage, each following the log by itself; the resolutions of a reader."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(HttpClient(RateLimiter(200, 200)))
        runs = []
        for _ in range(instances):
            assets, known = TradedAssets(log, codec()), LiveMarkPrices(log, codec())
            for live in (assets, known):
                stack.push_async_callback(live.close)
                await live.start()
            settings = ResolveSettings(first_retry=0.1, checks=(0.2,) * 20)
            gamma = Gamma(client, venue.gamma_url)
            stage = Resolve(log, assets, known, Venue.POLYMARKET, gamma, venue.venue.now_ns, settings)
            runs.append(asyncio.create_task(stage.run()))
        try:
            yield known
        finally:
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)


async def fault(venue: PolymarketSandbox, **what: Any) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{venue.url}/sandbox/faults", json=what) as answer:
        assert answer.status == 200, await answer.text()


async def until(log: Connection, kind: type[Event], count: int) -> list[Any]:
    async with asyncio.timeout(10):
        while len(found := await stored(log, kind)) < count:
            await asyncio.sleep(0.05)
    return found


async def dead_letters(log: Connection) -> list[DeadLettered]:
    decode = codec().decode
    return [
        event.data
        async for batch in read_all(log, DEAD.name)
        for one in batch
        for event in decode(DEAD.name, one.sequence, one.subject, one.payload)
    ]


async def test_a_token_that_cannot_be_looked_up_does_not_delay_other_markets(
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
        async with resolving(log, venue):
            await traded_there(log, "77")
            for listing in lasting:
                await traded_there(log, listing.tokens[0], listing.condition)
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
        await traded_there(log, token)
        async with resolving(log, venue) as known:
            (described,) = await until(log, MarketDescribed, 1)
            assert token in {outcome.asset for outcome in described.outcomes}
            (resolved,) = await until(log, MarketResolved, 1)
            assert sum(payout.price_micros for payout in resolved.payouts) == 1_000_000
            await asyncio.sleep(0.6)  # the resolution is checked again meanwhile
            resolution = known.marks.resolution(("polymarket", token))
            assert resolution is not None
            assert resolution.resolution_id == resolved.resolution_id
    assert len(await stored(log, MarketResolved)) == len(await stored(log, MarketDescribed)) == 1
    assert not await dead_letters(log)


async def test_a_changed_resolution_is_stored_once_as_a_correction(log: Connection) -> None:
    async with PolymarketSandbox(FlowSource(7, horizon_s=0.0, resolves_s=60.0)) as venue:
        name, market = next(iter(venue.venue.markets.items()))
        async with resolving(log, venue, instances=2):
            await fault(venue, resolve={"market": name, "payouts": "first"})
            await traded_there(log, market.listing.tokens[0], market.listing.condition)
            await until(log, MarketResolved, 1)
            await fault(venue, resolve={"market": name, "payouts": "second"})
            await until(log, MarketResolved, 2)
            await asyncio.sleep(0.5)  # time for the other instance, and for further checks
    first, second = await stored(log, MarketResolved)
    assert [payout.price_micros for payout in first.payouts] == [1_000_000, 0]
    assert [payout.price_micros for payout in second.payouts] == [0, 1_000_000]
    assert second.corrects == first.resolution_id
    assert not await dead_letters(log)


async def test_a_change_is_confirmed_before_it_is_stored_and_found_after_a_restart(log: Connection) -> None:
    async with PolymarketSandbox(FlowSource(7, horizon_s=0.0, resolves_s=60.0)) as venue:
        name, market = next(iter(venue.venue.markets.items()))
        await fault(venue, resolve={"market": name, "payouts": "first"})
        await traded_there(log, market.listing.tokens[0], market.listing.condition)
        async with resolving(log, venue):
            await until(log, MarketResolved, 1)
        asked, markets = 0, Gamma.markets

        async def behind(gamma: Gamma, ids: Sequence[str]) -> dict[str, Raw]:
            nonlocal asked
            asked += 1
            await fault(venue, resolve={"market": name, "payouts": "second" if asked == 1 else "first"})
            return await markets(gamma, ids)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Gamma, "markets", behind)
            async with resolving(log, venue), asyncio.timeout(10):
                while asked < 4:
                    await asyncio.sleep(0.05)
        assert len(await stored(log, MarketResolved)) == 1, "one odd answer changes nothing"
        await fault(venue, resolve={"market": name, "payouts": "second"})
        async with resolving(log, venue):
            await until(log, MarketResolved, 2)


async def test_a_token_without_a_market_does_not_hide_other_tokens(log: Connection) -> None:
    async with PolymarketSandbox(FlowSource(7, horizon_s=0.0)) as venue:
        market = next(iter(venue.venue.markets.values()))
        async with resolving(log, venue):
            await traded_there(log, "12345")
            await traded_there(log, market.listing.tokens[0])
            (described,) = await until(log, MarketDescribed, 1)
    assert described.market == market.listing.condition


async def test_two_instances_store_a_description_and_a_resolution_once(log: Connection) -> None:
    async with PolymarketSandbox(FlowSource(7, horizon_s=0.0, resolves_s=60.0)) as venue:
        name, market = next(iter(venue.venue.markets.items()))
        await traded_there(log, market.listing.tokens[0], market.listing.condition)
        await fault(venue, resolve={"market": name, "payouts": "first"})
        async with resolving(log, venue, instances=2):
            await until(log, MarketResolved, 1)
            await asyncio.sleep(0.5)  # time for the other instance to store it too
    assert len(await stored(log, MarketResolved)) == len(await stored(log, MarketDescribed)) == 1
    assert not await dead_letters(log)
