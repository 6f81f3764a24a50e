"""Quotes of a venue: from the socket where it has a current book, by request where it has not."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import prometheus_client
import stamina

from domain.events import Venue
from gateways.hyperliquid.adapter import HyperliquidAdapter
from gateways.hyperliquid.book_channel import LEVELS, HyperliquidBookChannel
from gateways.hyperliquid.books import VenueBooks
from gateways.hyperliquid.info_client import InfoClient
from gateways.live_books import LiveBook, LiveBooks
from gateways.polymarket.adapter import PolymarketAdapter
from gateways.rate_limit import RateLimiter
from gateways.reconnecting_websocket import Backoff
from gateways.sandbox.hyperliquid import Sandbox, serve
from gateways.sandbox.hyperliquid.load_source import LoadSource
from gateways.sandbox.polymarket.markets import BRIEF
from gateways.venue_adapter import Purpose
from gateways.venue_types import Book
from handlers.live.book_requests import Priority
from handlers.live.quotes import Quoted, VenueQuotes
from tests.contracts.live_books import live_book
from tests.contracts.test_live_books import fault
from tests.contracts.venues import Clock as SandboxClock
from tests.contracts.venues import nowhere, polymarket
from vibe.app.settings import Settings, polymarket_settings

COIN, OTHER = "L000", "L001"


class Subject(NamedTuple):
    """Quotes of a sandbox whose prices never move, and the live books that they use."""

    quotes: VenueQuotes
    live: Any
    sandbox: Sandbox

    async def capture(self, asset: str = COIN, *, in_ms: int = 0, **options: Any) -> Quoted:
        due_at = time.time_ns() + in_ms * 1_000_000
        return await self.quotes.capture(asset, due_at, priority=Priority.OPENS, **options)

    async def is_live(self, asset: str = COIN) -> None:
        self.quotes.want(asset)
        await live_book(self.live, asset)


@asynccontextmanager
async def quoting(**settings: Any) -> AsyncIterator[Subject]:
    sandbox = await serve(LoadSource(rate=1, influencers=3, coins=3, seconds=1))
    options = Settings(_env_file=None, hyperliquid_api_url=sandbox.url, hyperliquid_ws_url=sandbox.ws_url, **settings)
    stop = asyncio.Event()
    try:
        async with HyperliquidAdapter().connect(options, Purpose.QUOTE) as clients:
            live = clients.live_books()
            quotes = VenueQuotes(Venue.HYPERLIQUID, clients.books(), live, time.time_ns)
            running = asyncio.create_task(quotes.run(stop))
            yield Subject(quotes, live, sandbox)
            stop.set()
            await asyncio.wait_for(running, 5)
            await quotes.close()
    finally:
        await sandbox.close()


def counted(name: str, **labels: str) -> float:
    value = prometheus_client.REGISTRY.get_sample_value(name, {"venue": "hyperliquid", **labels})
    return value or 0.0


async def test_a_live_book_is_quoted_without_a_request() -> None:
    async with quoting() as subject:
        await subject.is_live()
        before = counted("vibe_quotes_total", source="socket")
        quoted = await subject.capture()
        assert quoted.captured is not None
        assert (len(quoted.captured.book.bids), len(quoted.captured.book.asks)) == (LEVELS, LEVELS)
        assert quoted.captured.terms.size_step_micros == 10_000
        assert quoted.current_at is not None
        assert 0 <= quoted.captured_at - quoted.current_at < 2_000_000_000
        assert 0 <= time.time_ns() - quoted.captured_at < 2_000_000_000
        assert subject.sandbox.usage.requests == {"meta": 1}
        assert counted("vibe_quotes_total", source="socket") == before + 1


async def test_what_is_about_to_be_quoted_is_live_when_it_is_due() -> None:
    async with quoting() as subject:
        began = time.monotonic()
        await subject.capture(in_ms=1_500)
        assert time.monotonic() - began >= 1.5, "not before it is due"
        assert subject.sandbox.usage.requests == {"meta": 1}


async def test_an_asset_that_was_never_subscribed_is_requested() -> None:
    async with quoting() as subject:
        before = counted("vibe_quote_fallbacks_total", why="disconnected")
        quoted = await subject.capture()
        assert quoted.captured is not None
        assert len(quoted.captured.book.bids) == 20
        assert quoted.current_at is None
        assert subject.sandbox.usage.requests["l2Book"] == 1
        assert counted("vibe_quote_fallbacks_total", why="disconnected") == before + 1
        await live_book(subject.live, COIN)  # from then on


async def test_without_live_books_everything_is_requested() -> None:
    async with quoting(hyperliquid_book_subscriptions=0) as subject:
        assert subject.live is None
        assert subject.quotes.problem is None
        for _ in range(2):
            assert (await subject.capture()).captured is not None
        assert subject.sandbox.usage.requests["l2Book"] == 2
        assert subject.sandbox.usage.connections == 0


async def test_a_silent_feed_is_not_quoted_from() -> None:
    async with quoting() as subject:
        await subject.is_live()
        await fault(subject.sandbox.url, silence_s=60)
        await asyncio.sleep(2.2)
        before = counted("vibe_quote_fallbacks_total", why="stale")
        await subject.capture()
        assert subject.sandbox.usage.requests["l2Book"] == 1
        assert counted("vibe_quote_fallbacks_total", why="stale") == before + 1


async def test_a_truncated_book_that_shows_too_little_is_requested() -> None:
    async with quoting() as subject:
        await subject.is_live()
        seen: list[Book] = []

        def enough(book: Book) -> bool:
            seen.append(book)
            return False

        quoted = await subject.capture(enough=enough)
        assert quoted.captured is not None
        assert len(quoted.captured.book.bids) == 20
        assert [len(book.bids) for book in seen] == [LEVELS]


async def test_a_coin_that_the_venue_does_not_list_is_never_subscribed_and_looked_up_once() -> None:
    async with quoting() as subject:
        await subject.is_live()
        for _ in range(3):
            quoted = await subject.capture("NOPE", in_ms=50)
            assert quoted.captured is None
        assert subject.sandbox.usage.requests["meta"] == 2
        assert subject.sandbox.usage.connections == 1, "the venue would have hung up"
        await live_book(subject.live, COIN)


async def test_a_market_past_its_listed_end_is_requested_and_given_up_once_it_has_no_book() -> None:
    clock = SandboxClock(9.5)
    async with polymarket(clock) as sandbox:
        urls = {name.removeprefix("VIBE_").lower(): url for name, url in polymarket_settings(sandbox.url).items()}
        settings = Settings(_env_file=None, **urls)  # type: ignore[arg-type]
        async with PolymarketAdapter().connect(settings, Purpose.QUOTE) as clients:
            live, stop = clients.live_books(), asyncio.Event()
            assert live is not None
            quotes = VenueQuotes(Venue.POLYMARKET, clients.books(), live, clock)
            running = asyncio.create_task(quotes.run(stop))
            token = BRIEF.tokens[0]
            quotes.want(token)
            await live_book(live, token)
            before = await quotes.capture(token, clock(), priority=Priority.REDUCES)
            assert before.current_at is not None
            clock.advance(0.6)
            assert isinstance(live.newest(token), LiveBook), "the socket says nothing about the end"
            after = await quotes.capture(token, clock(), priority=Priority.REDUCES)
            assert after.captured is None
            await until(lambda: live.subscribed == 0)
            stop.set()
            await asyncio.wait_for(running, 5)
            await quotes.close()


class HastyChannel(HyperliquidBookChannel):
    """Takes a connection for silent after moments."""

    ping_seconds = 0.1
    fresh_seconds = 0.6
    quiet_seconds = 0.6


async def test_blind_live_books_are_a_problem_with_a_name_until_they_see_again() -> None:
    sandbox = await serve(LoadSource(rate=1, influencers=3, coins=3, seconds=1))
    live = LiveBooks(
        "hyperliquid", sandbox.ws_url, HastyChannel, RateLimiter(100, 100), capacity=5, backoff=Backoff(0.1, 0.1)
    )
    stop = asyncio.Event()
    try:
        async with InfoClient(sandbox.url) as info:
            quotes = VenueQuotes(Venue.HYPERLIQUID, VenueBooks(info), live, time.time_ns)
            running = asyncio.create_task(quotes.run(stop))
            quotes.want(COIN)
            await live_book(live, COIN)
            assert quotes.problem is None
            await fault(sandbox.url, silence_s=2.5)
            await until(lambda: quotes.problem is not None)
            assert quotes.problem == "no live book of hyperliquid comes: every quote is requested"
            assert sandbox.usage.connections > 1, "a silent connection is replaced"
            await until(lambda: quotes.problem is None)
            await live_book(live, COIN)
            stop.set()
            await asyncio.wait_for(running, 5)
    finally:
        await sandbox.close()


class UnlistedChannel(HastyChannel):
    """The assets of its venue may have ended."""

    only_listed = False


async def test_without_a_use_a_silent_feed_is_missed_by_none() -> None:
    """The tokens of markets that are over, for example, which were traded before a restart."""
    sandbox = await serve(LoadSource(rate=1, influencers=3, coins=3, seconds=1))
    live = LiveBooks("hyperliquid", sandbox.ws_url, UnlistedChannel, RateLimiter(100, 100), capacity=5)
    stop = asyncio.Event()
    try:
        await fault(sandbox.url, silence_s=30)
        running = asyncio.create_task(live.run(stop))
        live.want(COIN)
        await until(lambda: live.subscribed == 1)
        for _ in range(20):
            await asyncio.sleep(0.1)
            assert not live.blind

        def used_and_blind() -> bool:
            live.want(COIN)
            return live.blind

        await until(used_and_blind)
        stop.set()
        await asyncio.wait_for(running, 5)
    finally:
        await sandbox.close()


async def test_a_venue_that_does_not_list_what_is_traded_is_a_problem_with_a_name() -> None:
    live = LiveBooks("hyperliquid", "ws://127.0.0.1:9", HastyChannel, RateLimiter(100, 100), capacity=5)
    with stamina.set_testing(True, attempts=1):
        async with InfoClient(nowhere()) as info:
            quotes = VenueQuotes(Venue.HYPERLIQUID, VenueBooks(info), live, time.time_ns)
            quotes.want(COIN)
            await until(lambda: quotes.problem is not None)
            assert quotes.problem is not None
            assert quotes.problem.startswith(
                f"no asset of hyperliquid can be looked up: the lot of {COIN} is not known"
            )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)
