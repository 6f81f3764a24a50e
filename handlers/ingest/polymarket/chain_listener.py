"""On-chain fills of the followed wallets: subscribed to, and fetched for the blocks in which nobody listened.

Live logs come as they are mined; after every (re)connection, and once a minute anyway, the blocks since the last
completed fetch are asked for again, with a margin for a node that lags behind its neighbours. Ids sort out the rest.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateways.polymarket.log_parsing import Log
from gateways.polymarket.log_socket import fills
from gateways.polymarket.polygon_rpc import PolygonRpc
from gateways.reconnecting_websocket import Connected
from gateways.venue_errors import VenueUnavailableError
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.dead_letters import UNREADABLE

log = structlog.get_logger()

BLOCKS_BACK = 150
"""Five minutes of blocks: as far as a fetch reaches back. What is older, the activity tells."""
MARGIN_BLOCKS = 20
_GATHERED_SECONDS = 0.2
"""Wallets come many at a time; one new subscription serves them all."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class ChainListener:
    """Keeps one subscription for the wallets it was told of last."""

    def __init__(
        self,
        chain: PolygonRpc,
        ws_url: str,
        take: Callable[[Log], Awaitable[None]],
        *,
        connected: Callable[[], None],
        again: Callable[[], None],
    ) -> None:
        self._chain = chain
        self._ws_url = ws_url
        self._take = take
        self._on_connected = connected
        self._on_connected_again = again
        self._wallets: tuple[str, ...] = ()
        self._reached: int | None = None
        self._changed = asyncio.Event()
        self._gathering = False
        self._fetch = asyncio.Event()

    def follow(self, wallets: tuple[str, ...]) -> None:
        """Listen for these wallets from now on."""
        if wallets != self._wallets:
            if not self._gathering:
                self._gathering = True
                asyncio.get_running_loop().call_later(_GATHERED_SECONDS, self._subscribe_anew)
            self._wallets = wallets

    def _subscribe_anew(self) -> None:
        self._gathering = False
        self._changed.set()

    def catch_up(self) -> None:
        """Fetch the blocks since the last completed fetch, if there is anybody to fetch them for."""
        if self._wallets:
            self._fetch.set()

    async def run(self) -> None:
        """Until cancelled."""
        fetcher = asyncio.create_task(self._keep_fetching())
        try:
            while True:
                self._changed.clear()
                try:
                    await (self._listen(self._wallets) if self._wallets else self._changed.wait())
                except UNREADABLE as error:
                    log.error("polymarket.listening_failed", error=str(error))
                    await asyncio.sleep(_FIRST_PAUSE)
        finally:
            fetcher.cancel()
            await asyncio.gather(fetcher, return_exceptions=True)

    async def _listen(self, wallets: tuple[str, ...]) -> None:
        log.info("polymarket.listening", wallets=len(wallets))
        connections = 0
        async for message in fills(self._ws_url, wallets, stop=self._changed):
            if not isinstance(message, Connected):
                await self._take(message)
                continue
            connections += 1
            self._on_connected()
            self.catch_up()
            if connections > 1:
                metrics.RECONNECTS.inc()
                self._on_connected_again()

    async def _keep_fetching(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await self._fetch.wait()
            self._fetch.clear()
            try:
                await self._fetch_once()
                pause = _FIRST_PAUSE
            except (VenueUnavailableError, *UNREADABLE) as error:
                log.warning("polymarket.logs_not_fetched", error=str(error), again_in_seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                self._fetch.set()

    async def _fetch_once(self) -> None:
        head = await self._chain.head()
        earliest = head - BLOCKS_BACK
        if self._reached is not None and self._reached < earliest:
            log.warning("polymarket.logs_too_old", reached=self._reached, earliest=earliest)
        start = earliest if self._reached is None else max(earliest, self._reached - MARGIN_BLOCKS)
        if start <= head:
            for message in await self._chain.logs(max(0, start), head, self._wallets):
                await self._take(message)
        self._reached = max(head, self._reached or 0)
