"""The health of a process that quotes: a venue whose live books are blind is named, and 503 is answered meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateways.embedded import Addresses
from gateways.hyperliquid.book_channel import HyperliquidBookChannel
from gateways.sandbox.hyperliquid import serve
from gateways.sandbox.hyperliquid.load_source import LoadSource
from streams.connection import Connection
from tests.contracts.venues import nowhere
from tests.handlers.traded import traded
from vibe.app.clock import Clock
from vibe.app.observability import serve_health
from vibe.app.settings import Settings
from vibe.app.wiring import Process
from vibe.app.worker_process import health_of

COIN = "L000"


@asynccontextmanager
async def quoting(running: Addresses, api_url: str, ws_url: str) -> AsyncIterator[str]:
    """A process of the stage quote; the URL of its health."""
    settings = Settings(_env_file=None, hyperliquid_api_url=api_url, hyperliquid_ws_url=ws_url)
    stop = asyncio.Event()
    async with Process(settings, running.nats_url, running.postgres_dsn, ("quote",)) as process:
        served = await serve_health("127.0.0.1", 0, lambda: health_of(process, ("quote",)))
        working = asyncio.create_task(process.run(Clock(), stop))
        try:
            yield f"http://127.0.0.1:{served.addresses[0][1]}/healthz"
        finally:
            stop.set()
            await asyncio.wait_for(working, 10)
            await served.cleanup()


async def answered(url: str, problem: str | None, seconds: float = 20.0) -> int:
    """The status once the only problem is one that begins like this, or once there is none."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(seconds):
        while True:
            async with http.get(url) as response:
                found = await response.json()
            problems = found["problems"]
            if (problem is None and not problems and found["ok"]) or (problem and problems and problem in problems[0]):
                return response.status
            await asyncio.sleep(0.05)


async def status(url: str, path: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(url.replace("healthz", path)) as response:
        return response.status


@pytest.mark.parametrize(("ready", "statuses"), [(False, (200, 503, 503)), (True, (200, 200, 200))])
async def test_a_process_that_still_loads_is_alive_and_not_ready(ready: bool, statuses: tuple[int, ...]) -> None:
    served = await serve_health("127.0.0.1", 0, lambda: {"ok": ready, "ready": ready, "stages": [], "problems": []})
    try:
        url = f"http://127.0.0.1:{served.addresses[0][1]}/healthz"
        assert tuple([await status(url, path) for path in ("livez", "readyz", "healthz")]) == statuses
    finally:
        await served.cleanup()


async def test_blind_live_books_turn_the_health_red(
    running: Addresses, log: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HyperliquidBookChannel, "quiet_seconds", 0.5)
    sandbox = await serve(LoadSource(rate=1, influencers=1, coins=1, seconds=1))
    try:
        async with quoting(running, sandbox.url, nowhere().replace("http", "ws", 1)) as url:
            assert await answered(url, None) == 200, "nothing is wanted yet"
            await traded(log, COIN)
            assert await answered(url, "no live book of hyperliquid comes") == 503
            assert await status(url, "readyz") == await status(url, "livez") == 200, "it works on"
    finally:
        await sandbox.close()


async def test_what_is_traded_is_live_and_the_health_green(running: Addresses, log: Connection) -> None:
    sandbox = await serve(LoadSource(rate=1, influencers=1, coins=1, seconds=1))
    await traded(log, COIN)
    try:
        async with quoting(running, sandbox.url, sandbox.ws_url) as url:
            async with asyncio.timeout(20):
                while sandbox.usage.subscriptions < 2:
                    await asyncio.sleep(0.05)
            assert await answered(url, None) == 200
    finally:
        await sandbox.close()
