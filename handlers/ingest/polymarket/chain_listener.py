"""On-chain fills of the followed wallets: a live subscription, and fetches of the blocks that it may have missed.

Live logs come as they are mined. After every (re)connection, and once a minute anyway, the blocks since the last
completed fetch are fetched again, with a margin for a node that lags behind others. Duplicates are recognised by id.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gateways.polymarket.log_parsing import Log
from gateways.polymarket.log_socket import fills
from gateways.polymarket.polygon_rpc import PolygonRpc
from gateways.reconnecting_websocket import Connected
from gateways.venue_errors import VenueUnavailableError
from handlers.ingest.dead_letters import UNREADABLE
from handlers.ingest.polymarket import metrics as metrics
from streams.retry import RetryPolicy

log = structlog.get_logger()

BLOCKS_BACK = 150
"""Five minutes of blocks: as far as a fetch reaches back. Older fills come with the activity."""
MARGIN_BLOCKS = 20
_GATHER_SECONDS = 0.2
"""Wallets are added many at a time; one new subscription covers them all."""
_RETRIES = RetryPolicy(first_delay=0.5, longest_delay=30.0)


class ChainListener:
    """Keeps one subscription for the followed wallets.

    `received` is called with every log, `connected` after every connection, `reconnected` after every one but the
    first.
    """

    def __init__(
        self,
        chain: PolygonRpc,
        ws_url: str,
        *,
        received: Callable[[Log], Awaitable[None]],
        connected: Callable[[], None],
        reconnected: Callable[[], None],
    ) -> None:
        self._chain = chain
        self._ws_url = ws_url
        self._on_log = received
        self._on_connected = connected
        self._on_reconnected = reconnected
        self._wallets: tuple[str, ...] = ()
        self._fetched_block: int | None = None
        self._changed = asyncio.Event()
        self._gathering = False
        self._fetch_wanted = asyncio.Event()

    def follow(self, wallets: tuple[str, ...]) -> None:
        """Listen for these wallets from now on."""
        if wallets != self._wallets:
            if not self._gathering:
                self._gathering = True
                asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._subscribe_again)
            self._wallets = wallets

    def _subscribe_again(self) -> None:
        self._gathering = False
        self._changed.set()

    def catch_up(self) -> None:
        """Fetch the blocks since the last completed fetch, when any wallet is followed."""
        if self._wallets:
            self._fetch_wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        fetcher = asyncio.create_task(self._keep_fetching())
        try:
            while True:
                self._changed.clear()
                try:
                    await (self._listen(self._wallets) if self._wallets else self._changed.wait())
                except UNREADABLE as error:
                    log.error("polymarket.subscription_failed", error=str(error))
                    await asyncio.sleep(_RETRIES.first_delay)
        finally:
            fetcher.cancel()
            await asyncio.gather(fetcher, return_exceptions=True)

    async def _listen(self, wallets: tuple[str, ...]) -> None:
        log.info("polymarket.listening", wallets=len(wallets))
        connections = 0
        async for message in fills(self._ws_url, wallets, stop=self._changed):
            if not isinstance(message, Connected):
                await self._on_log(message)
                continue
            connections += 1
            self._on_connected()
            self.catch_up()
            if connections > 1:
                metrics.RECONNECTS.inc()
                self._on_reconnected()

    async def _keep_fetching(self) -> None:
        backoff = _RETRIES.start()
        while True:
            await self._fetch_wanted.wait()
            self._fetch_wanted.clear()
            try:
                await self._fetch()
                backoff.reset()
            except (VenueUnavailableError, *UNREADABLE) as error:
                pause = backoff.next_delay()
                log.warning("polymarket.logs_not_fetched", error=str(error), again_in_seconds=pause)
                await asyncio.sleep(pause)
                self._fetch_wanted.set()

    async def _fetch(self) -> None:
        head = await self._chain.head()
        earliest = head - BLOCKS_BACK
        fetched = self._fetched_block
        if fetched is not None and fetched < earliest:
            log.warning("polymarket.logs_too_old", fetched=fetched, earliest=earliest)
        start = earliest if fetched is None else max(earliest, fetched - MARGIN_BLOCKS)
        if start <= head:
            for message in await self._chain.logs(max(0, start), head, self._wallets):
                await self._on_log(message)
        self._fetched_block = max(head, fetched or 0)
