"""`vibe bench quotes`: books for a steady load of groups, with the real limits of Hyperliquid enforced by its sandbox.

The venue runs in a process of its own. Two listeners take the trades of all coins meanwhile, as ingest does. Every
group wants the book of one coin 750 to 1,000 ms after it begins, as the paper latency model has it; the coins take
turns. Nothing is warmed up: the first groups find no live book.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import prometheus_client

from domain.events import Venue
from gateways.hyperliquid.adapter import HyperliquidAdapter
from gateways.hyperliquid.trades_socket import trades
from gateways.sandbox.hyperliquid.load_source import load_coins
from gateways.venue_adapter import Purpose
from gateways.venue_errors import VenueUnavailableError, WireError
from handlers.live.book_requests import ExpiredError, Priority
from handlers.live.quotes import Quoted, VenueQuotes
from vibe.app.settings import Settings
from vibe.bench.venue_process import load_venue

LISTENERS = 2
_LATENCY_NS, _JITTER_NS = 750_000_000, 250_000_000
_SIGNAL_AGE_NS = 60_000_000_000
_SOURCES = ("socket", "request", "shared")


class QuoteLoad(NamedTuple):
    """Groups a second, the coins that they are spread over, and for how long."""

    rate: float
    coins: int
    seconds: float


async def measure(load: QuoteLoad, *, progress: Callable[[str], None]) -> dict[str, Any]:
    """All figures: where the quotes came from, how old they were, and what of the venue's limits they took."""
    async with AsyncExitStack() as stack:
        # It plays a trade for each group, and goes on until it is asked to end.
        venue = await stack.enter_async_context(
            load_venue(rate=load.rate, influencers=load.coins, coins=load.coins, seconds=3600, real_limits=True)
        )
        stop = asyncio.Event()
        settings = Settings(_env_file=None, hyperliquid_api_url=venue.url, hyperliquid_ws_url=venue.ws_url)
        clients = await stack.enter_async_context(HyperliquidAdapter().connect(settings, Purpose.QUOTE))
        quotes = VenueQuotes(Venue.HYPERLIQUID, clients.books(), clients.live_books(), time.time_ns)
        running = [asyncio.create_task(quotes.run(stop))]
        coins = [coin.name for coin in load_coins(load.coins)]
        running += [asyncio.create_task(_listen(venue.ws_url, coins, stop)) for _ in range(LISTENERS)]
        try:
            venue.begin()
            progress(f"{load.rate:g} groups a second on {load.coins} coins for {load.seconds:g} s")
            before, cpu = _sources(), time.process_time()
            outcomes = await _groups(quotes, coins, load)
            cpu = time.process_time() - cpu
            sources = {name: round(count - before[name]) for name, count in _sources().items()}
            venue.end()
            used = (await venue.report())["usage"]
        finally:
            stop.set()
            await asyncio.gather(*running)
            await quotes.close()
    return _figures(load, outcomes, sources, used, cpu)


class _Outcome(NamedTuple):
    quoted: Quoted | None
    failed: str
    late_ns: int


async def _groups(quotes: VenueQuotes, coins: list[str], load: QuoteLoad) -> list[_Outcome]:
    began = time.monotonic()
    tasks = []
    for number in range(round(load.rate * load.seconds)):
        await asyncio.sleep(max(0.0, began + number / load.rate - time.monotonic()))
        # The jitter takes every value in turn, so that each run is the same.
        due_at = time.time_ns() + _LATENCY_NS + number * 7_919_000 % _JITTER_NS
        tasks.append(asyncio.create_task(_group(quotes, coins[number % len(coins)], due_at, number)))
    return await asyncio.gather(*tasks)


async def _group(quotes: VenueQuotes, coin: str, due_at: int, number: int) -> _Outcome:
    opens = number % 2 == 0
    try:
        quoted = await quotes.capture(
            coin,
            due_at,
            priority=Priority.OPENS if opens else Priority.REDUCES,
            expires_at=due_at + _SIGNAL_AGE_NS if opens else None,
        )
    except (ExpiredError, VenueUnavailableError, WireError) as error:
        return _Outcome(None, type(error).__name__, 0)
    return _Outcome(quoted, "", quoted.captured_at - due_at)


async def _listen(url: str, coins: list[str], stop: asyncio.Event) -> None:
    async for _ in trades(url, coins, stop=stop):
        pass


def _sources() -> dict[str, float]:
    registry = prometheus_client.REGISTRY
    return {
        source: registry.get_sample_value("vibe_quotes_total", {"venue": Venue.HYPERLIQUID.value, "source": source})
        or 0.0
        for source in _SOURCES
    }


def _figures(
    load: QuoteLoad, outcomes: list[_Outcome], sources: dict[str, int], used: dict[str, Any], cpu: float
) -> dict[str, Any]:
    quoted = [outcome.quoted for outcome in outcomes if outcome.quoted is not None and outcome.quoted.captured]
    failed = Counter(outcome.failed for outcome in outcomes if outcome.failed)
    ages = sorted(_age_ms(one) for one in quoted)
    late = sorted(outcome.late_ns / 1e6 for outcome in outcomes if outcome.quoted is not None)
    return {
        "rate": load.rate,
        "coins": load.coins,
        "seconds": load.seconds,
        "groups": len(outcomes),
        "quoted": len(quoted),
        "failed": dict(failed),
        **sources,
        "socket_share": round(sources["socket"] / max(1, len(outcomes)), 4),
        "age_p50_ms": _percentile(ages, 0.50),
        "age_p99_ms": _percentile(ages, 0.99),
        "late_p50_ms": _percentile(late, 0.50),
        "late_p99_ms": _percentile(late, 0.99),
        "weight": used["weight"],
        "requests_refused": used["requests_refused"],
        "subscriptions": used["subscriptions"],
        "subscriptions_refused": used["subscriptions_refused"],
        "connections": used["connections"],
        "messages": used["messages"],
        "cpu_ms_per_quote": round(cpu * 1_000 / max(1, len(outcomes)), 3),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _age_ms(quoted: Quoted) -> float:
    """How old a book was when it was taken: by the venue's time, or by when it was last known to be the venue's."""
    assert quoted.captured is not None
    known = quoted.captured_at if quoted.current_at is None else quoted.current_at
    return (quoted.captured_at - min(known, quoted.captured.book.time)) / 1e6


def _percentile(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else 0.0
