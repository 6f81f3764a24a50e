"""Venues for the contracts: both sandboxes at rest, a server that answers nonsense, an address where none listens."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from gateways.sandbox import hyperliquid as hyperliquid_sandbox
from gateways.sandbox import polymarket as polymarket_sandbox

ORIGIN_NS = 1_784_683_600_000_000_000
SEED = 7


class Clock:
    """Moves by `advance` only."""

    def __init__(self, seconds: float) -> None:
        self.ns = ORIGIN_NS + round(seconds * 1e9)

    def __call__(self) -> int:
        return self.ns

    def advance(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


@asynccontextmanager
async def hyperliquid(clock: Clock | None = None) -> AsyncIterator[hyperliquid_sandbox.Sandbox]:
    """A Hyperliquid at rest after a minute of its flow; with a clock, it trades on as the clock moves."""
    horizon_s = None if clock else 60.0
    source = hyperliquid_sandbox.FlowSource(SEED, origin_ns=ORIGIN_NS, horizon_s=horizon_s)
    sandbox = await hyperliquid_sandbox.serve(source, clock=clock or Clock(60))
    try:
        if clock is None:
            await asyncio.wait_for(sandbox.done.wait(), 5)
        yield sandbox
    finally:
        await sandbox.close()


@asynccontextmanager
async def polymarket(clock: Clock | None = None) -> AsyncIterator[polymarket_sandbox.PolymarketSandbox]:
    """A Polymarket at rest after fifteen seconds of its flow; with a clock, it trades on as the clock moves."""
    horizon_s = None if clock else 15.0
    source = polymarket_sandbox.FlowSource(SEED, origin_ns=ORIGIN_NS, horizon_s=horizon_s)
    async with polymarket_sandbox.PolymarketSandbox(source, clock=clock or Clock(30)) as sandbox:
        yield sandbox


def lasting_tokens() -> tuple[str, ...]:
    """The tokens of the sandbox's markets that do not end during a test."""
    return tuple(token for listing in polymarket_sandbox.MARKETS if not listing.brief for token in listing.tokens)


@asynccontextmanager
async def junk() -> AsyncIterator[str]:
    """The URL of a server that answers every request with valid JSON of no known form."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"junk": 5})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def nowhere() -> str:
    """A URL at which no server listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"
