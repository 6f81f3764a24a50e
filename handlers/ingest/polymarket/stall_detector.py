"""Whether the index behind the Data API advances: a stalled index still answers, quickly and with nothing new."""

import asyncio
from collections.abc import Callable

import structlog

from gateways.polymarket.data_api import DataApi, Status
from gateways.venue_errors import VenueUnavailableError
from handlers.ingest.dead_letters import UNREADABLE
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings

log = structlog.get_logger()


class StallDetector:
    """Polls the position of the index; `stalled` and `recovered` are called when it stops and when it advances again.

    Both get the second at which it last advanced before.
    """

    def __init__(
        self,
        data_api: DataApi,
        clock: Callable[[], int],
        settings: PollSettings,
        *,
        stalled: Callable[[int], None],
        recovered: Callable[[int], None],
    ) -> None:
        self._data_api = data_api
        self._clock = clock
        self._settings = settings
        self._on_stalled = stalled
        self._on_recovered = recovered
        self._block = -1
        self._advanced_s = 0
        self.stalled = False

    async def run(self) -> None:
        """Until cancelled. A request that fails changes nothing."""
        metrics.STALLED.set(0)
        while True:
            try:
                self.observe(await self._data_api.status(), self._clock() // SECOND)
            except (VenueUnavailableError, *UNREADABLE) as error:
                log.warning("polymarket.no_status", error=str(error))
            await asyncio.sleep(self._settings.status_every)

    def observe(self, status: Status, now_s: int) -> None:
        """Take note of one status."""
        metrics.LAG.set(status.lag_seconds)
        metrics.SYNCED_BLOCK.set(status.synced_block)
        if status.synced_block > self._block:
            since_s, self._block, self._advanced_s = self._advanced_s, status.synced_block, now_s
            if self.stalled:
                self.stalled = False
                metrics.STALLED.set(0)
                log.info("polymarket.index_advances", block=status.synced_block, lag_seconds=status.lag_seconds)
                self._on_recovered(since_s)
        elif not self.stalled and now_s - self._advanced_s >= self._settings.stalled_after:
            self.stalled = True
            metrics.STALLED.set(1)
            log.warning("polymarket.index_stalled", block=status.synced_block, lag_seconds=status.lag_seconds)
            self._on_stalled(self._advanced_s)
