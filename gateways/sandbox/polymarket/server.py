"""A local Polymarket on one port: `/data`, `/gamma`, `/clob`, `/clob/ws/market`, `/polygon`, and `/sandbox/faults`."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final, Self

from aiohttp import web

from gateways.sandbox.polymarket.faults import Faults
from gateways.sandbox.polymarket.routes import Routes
from gateways.sandbox.polymarket.sources import Source
from gateways.sandbox.polymarket.venue import Venue
from gateways.sandbox.polymarket.websocket_hub import Limits

# How long a closing server waits for clients to read what is queued.
_GRACE_S: Final = 1.0
# Bytes; injected frames may be large on purpose.
_LARGEST_BODY: Final = 1 << 26
# Longer than a client waits between two polls of a wallet that does not trade.
_COLLECTED_WITHIN_S: Final = 20.0
# The clock may be any function, even one that jumps, so it is read again at least this often.
_LOOK_EVERY_S: Final = 0.02


class PolymarketSandbox:
    """A venue that plays `source`: `async with`, or `start` and `stop`.

    `done` is set when the source is exhausted and everything is served; the venue still answers until `stop`.
    `collected` is set when every wallet whose activity a client polls was asked for since then, or when the client
    seems to have stopped. Port 0 takes a free one. `clock` returns ns since the epoch. `pause` stops the venue's time,
    `go` continues it.
    """

    def __init__(
        self,
        source: Source,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], int] = time.time_ns,
        limits: Limits | None = None,
    ) -> None:
        self.done = asyncio.Event()
        self.collected = asyncio.Event()
        self.port = port
        self._host = host
        self._source = source
        self._clock = clock
        self._limits = limits or Limits()
        self._venue: Venue | None = None
        self._runner: web.AppRunner | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def venue(self) -> Venue:
        """The running venue; its state may be read in the same process."""
        assert self._venue is not None, "the sandbox is not started; use: async with PolymarketSandbox(...)"
        return self._venue

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}"

    @property
    def data_url(self) -> str:
        return f"{self.url}/data"

    @property
    def gamma_url(self) -> str:
        return f"{self.url}/gamma"

    @property
    def clob_url(self) -> str:
        return f"{self.url}/clob"

    @property
    def market_ws_url(self) -> str:
        return f"ws://{self._host}:{self.port}/clob/ws/market"

    @property
    def polygon_url(self) -> str:
        return f"{self.url}/polygon"

    @property
    def polygon_ws_url(self) -> str:
        return f"ws://{self._host}:{self.port}/polygon"

    def pause(self) -> None:
        self.venue.pause()

    def go(self) -> None:
        self.venue.go()

    async def start(self) -> None:
        """Bind the port and play. Raises OSError when the port is taken."""
        self._venue = Venue(self._source, Faults(), self._clock, self._limits)
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.add_routes(Routes(self._venue).table())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self.port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        given_up_at = float("inf")
        try:
            while True:
                self.venue.advance()
                if self.venue.exhausted and not self.done.is_set():
                    self.done.set()
                    given_up_at = now() + _COLLECTED_WITHIN_S
                if self.venue.collected or now() > given_up_at:
                    self.collected.set()
                left_s = (self.venue.next_ns() - self.venue.now_ns()) / 1e9
                await asyncio.sleep(max(0.0, min(left_s, _LOOK_EVERY_S)))
        finally:
            # No client may wait for a venue that has ended.
            self.done.set()
            self.collected.set()

    async def stop(self) -> None:
        """Stop, write what is queued, hang up and free the port. Raises what the source raised."""
        if self._runner is None or self._running is None:
            return
        self._running.cancel()
        self.venue.sockets.close_all(1001, None)
        await self._runner.cleanup()
        self._runner = None
        with contextlib.suppress(asyncio.CancelledError):
            await self._running

    async def close(self) -> None:
        """The same as `stop`, under the name that the other sandbox has."""
        await self.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()


async def serve(
    source: Source,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Callable[[], int] = time.time_ns,
    limits: Limits | None = None,
) -> PolymarketSandbox:
    """A started venue; end it with `stop`."""
    sandbox = PolymarketSandbox(source, host=host, port=port, clock=clock, limits=limits)
    await sandbox.start()
    return sandbox
