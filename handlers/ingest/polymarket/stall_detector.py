"""Whether the Data API moves on: an index that stands still answers quickly, politely and with nothing new."""

import asyncio
from collections.abc import Callable

import structlog

from gateways.polymarket.data_api import DataApi, Status
from gateways.venue_errors import VenueUnavailableError
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.dead_letters import UNREADABLE
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings

log = structlog.get_logger()


class Progress:
    """Asks for the index's own position, and says when it stands and when it moves again."""

    def __init__(
        self,
        data_api: DataApi,
        clock: Callable[[], int],
        pace: PollSettings,
        *,
        stalled: Callable[[int], None],
        moving: Callable[[int], None],
    ) -> None:
        self._data_api = data_api
        self._clock = clock
        self._pace = pace
        self._on_stalled = stalled
        self._on_moving = moving
        self._block = -1
        self._moved_s = 0
        self.stalled = False

    async def run(self) -> None:
        """Until cancelled. A status that cannot be had says nothing about the index."""
        metrics.STALLED.set(0)
        while True:
            try:
                self.judge(await self._data_api.status(), self._clock() // SECOND)
            except (VenueUnavailableError, *UNREADABLE) as error:
                log.warning("polymarket.no_status", error=str(error))
            await asyncio.sleep(self._pace.status_every)

    def judge(self, status: Status, now_s: int) -> None:
        """Take one answer; `stalled` and `moving` get the second of the last progress before."""
        metrics.LAG.set(status.lag_seconds)
        metrics.SYNCED_BLOCK.set(status.synced_block)
        if status.synced_block > self._block:
            since_s, self._block, self._moved_s = self._moved_s, status.synced_block, now_s
            if self.stalled:
                self.stalled = False
                metrics.STALLED.set(0)
                log.info("polymarket.data_api_moving", block=status.synced_block, lag_seconds=status.lag_seconds)
                self._on_moving(since_s)
        elif not self.stalled and now_s - self._moved_s >= self._pace.stalled_after:
            self.stalled = True
            metrics.STALLED.set(1)
            log.warning("polymarket.data_api_stalled", block=status.synced_block, lag_seconds=status.lag_seconds)
            self._on_stalled(self._moved_s)
