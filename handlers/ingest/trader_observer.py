"""Public trades -> DISCOVERY: who traded how much in each minute, in batches.

The id of a batch is made of its minute: two instances store a minute once, and a minute in which ingest was restarted
may be incomplete, but never counts twice while the server remembers ids (two minutes).
"""

import asyncio
from collections.abc import Callable, Collection
from functools import partial

import structlog

from domain.events import TradersObserved, Venue
from domain.observed_traders import ObservedTraders
from handlers.live.event_codec import codec
from streams import subjects
from streams.append import Record, append_once
from streams.connection import Connection
from streams.errors import RefusedError
from streams.retry import retry_forever

log = structlog.get_logger()

_SECOND = 1.0
_MOST_WAITING = 2_000
"""Events that wait for a log which does not answer; newer ones are then left out, because ingest must not wait."""


class TraderObserver:
    """Counts the traders of a venue's public feed, and stores each minute once it is over."""

    def __init__(self, connection: Connection, clock: Callable[[], int], venue: Venue) -> None:
        self._connection = connection
        self._clock = clock
        self._codec = codec()
        self._traders = ObservedTraders(venue, clock())
        self._waiting: list[TradersObserved] = []

    def new(self, asset: str, time: int, trade_id: int) -> bool:
        """Whether this trade (its time at the venue in ns) is to be counted."""
        return self._traders.new(asset, time, trade_id)

    def traded(self, addresses: Collection[str], notional_micros: int, now: int) -> None:
        """Count a new trade between these addresses."""
        self._wait(self._traders.traded(addresses, notional_micros, now))

    async def run(self) -> None:
        """Store what is over, every second, until cancelled."""
        while True:
            await asyncio.sleep(_SECOND)
            self._wait(self._traders.over(self._clock()))
            await self._store()

    async def finish(self) -> None:
        """Store everything that was counted."""
        self._wait(self._traders.take())
        await self._store()

    def _wait(self, events: list[TradersObserved]) -> None:
        free = max(0, _MOST_WAITING - len(self._waiting))
        self._waiting += events[:free]
        if len(events) > free:
            log.warning("discovery.left_out", events=len(events) - free)

    async def _store(self) -> None:
        while self._waiting:
            event = self._waiting[0]
            try:
                await retry_forever(partial(self._append, event))
            except RefusedError as error:
                log.warning("discovery.refused", observed_id=event.observed_id, error=str(error))
            del self._waiting[0]

    async def _append(self, event: TradersObserved) -> None:
        await append_once(self._connection, [self._record(event)])

    def _record(self, event: TradersObserved) -> Record:
        payload = self._codec.encode(
            event, id=event.observed_id, source="vibe/discover", time_ns=self._clock(), correlation=event.observed_id
        )
        return Record(subjects.discovery(event.venue.value), payload, event.observed_id)
