"""Venues -> GROUPS: what held assets are worth, every 30 seconds, and what ended markets pay.

Whatever a followed influencer has traded may be held by whoever copied it, so it is marked until its market is
resolved. A mark is stored when the price has moved, or when the stored one is five minutes old. The id of a mark
is made of its asset and time slot: two instances store it once.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from domain.events import MarkCaptured, SignalRecorded, Venue
from domain.ids import derived
from domain.mark_prices import Asset
from gateways.venue_adapter import Prices
from gateways.venue_errors import VenueUnavailableError, WireError
from gateways.venue_types import Price
from handlers import metrics
from handlers.live.event_codec import codec
from handlers.live.mark_prices import LiveMarkPrices
from handlers.resolve import Resolver
from streams import subjects
from streams.append import MAX_BATCH, Record, append_once
from streams.connection import Connection
from streams.errors import LogError, UnprocessableError
from streams.reader import Stored, StreamSubscription, read_all
from streams.topology import SIGNALS, info

log = structlog.get_logger()

SECOND = 1_000_000_000
FRESH_NS = 300 * SECOND
_SIGNALS = "signals.>"


class Mark:
    """Marks assets and resolves markets until told to stop."""

    def __init__(
        self,
        connection: Connection,
        valuation: LiveMarkPrices,
        prices: Mapping[Venue, Prices],
        resolvers: Mapping[Venue, Resolver],
        clock: Callable[[], int],
        *,
        every_seconds: float = 30.0,
    ) -> None:
        self._connection = connection
        self._codec = codec()
        self._valuation = valuation
        self._prices = prices
        self._resolvers = resolvers
        self._clock = clock
        self._every_ns = int(every_seconds * SECOND)
        self._assets: dict[Asset, str] = {}
        """Every asset that was traded, and its market where that is known."""
        self.ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. A venue that does not answer is asked again in the next slot."""
        found = await info(self._connection, SIGNALS.name)
        end = int(found["state"]["last_seq"]) if found else 0
        async for batch in read_all(self._connection, SIGNALS.name, [_SIGNALS], newest=True):
            self._learn(batch)
        feed = await StreamSubscription(
            self._connection, SIGNALS.name, [_SIGNALS], description="follows traded assets"
        ).open(end)
        self.ready.set()
        works = [asyncio.create_task(self._follow(feed)), asyncio.create_task(self._mark())]
        works += (asyncio.create_task(resolver.run()) for resolver in self._resolvers.values())
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({stopped, *works}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()
        finally:
            for task in (stopped, *works):
                task.cancel()
            await asyncio.gather(stopped, *works, return_exceptions=True)
            await feed.close()

    async def _follow(self, feed: StreamSubscription) -> None:
        while True:
            await feed.wait()
            self._learn(feed.take(1000))

    def _learn(self, batch: list[Stored]) -> None:
        for stored in batch:
            try:
                event = self._codec.decode(SIGNALS.name, stored.sequence, stored.subject, stored.payload).data
            except UnprocessableError as error:
                log.error("signal.unreadable", sequence=stored.sequence, error=str(error))
                continue
            if isinstance(event, SignalRecorded):
                asset = (event.venue.value, event.asset)
                self._assets[asset] = self._assets.get(asset) or event.market
                if event.venue in self._resolvers:
                    self._resolvers[event.venue].watch(event.asset, event.market)

    async def _mark(self) -> None:
        """At every slot, on the log's clock."""
        while True:
            now = self._clock()
            await asyncio.sleep((self._every_ns - now % self._every_ns) / 1e9)
            slot = self._clock() // self._every_ns
            for venue in self._prices:
                try:
                    await self._mark_venue(venue, slot)
                except (VenueUnavailableError, WireError, LogError) as error:
                    metrics.MARKS_FAILED.labels(venue.value).inc()
                    log.warning("mark.failed", venue=venue.value, error=str(error))

    async def _mark_venue(self, venue: Venue, slot: int) -> None:
        marks = self._valuation.marks
        wanted = [
            asset for of, asset in self._assets if of == venue.value and marks.resolution((venue.value, asset)) is None
        ]
        if not wanted:
            return
        prices = await self._prices[venue].prices(wanted)
        now = self._clock()
        captured = [
            self._captured(venue, asset, prices[asset], slot, now)
            for asset in sorted(prices)
            if self._news((venue.value, asset), prices[asset], now)
        ]
        for at in range(0, len(captured), MAX_BATCH):
            metrics.MARKS.labels(venue.value).inc(
                await append_once(self._connection, [self._record(mark, now) for mark in captured[at : at + MAX_BATCH]])
            )
        metrics.MARKED.labels(venue.value).set(len(prices))

    def _news(self, asset: Asset, price: Price, now: int) -> bool:
        mark = self._valuation.marks.mark(asset)
        return mark is None or mark.price_micros != price.price_micros or now - mark.at >= FRESH_NS

    def _captured(self, venue: Venue, asset: str, price: Price, slot: int, now: int) -> MarkCaptured:
        return MarkCaptured(
            mark_id=derived("mrk", venue, asset, slot * self._every_ns),
            venue=venue,
            asset=asset,
            market=self._assets[venue.value, asset],
            price_micros=price.price_micros,
            source=price.source,
            venue_time=price.time,
            marked_at=now,
        )

    def _record(self, mark: MarkCaptured, now: int) -> Record:
        payload = self._codec.encode(mark, id=mark.mark_id, source="vibe/mark", time_ns=now, correlation=mark.mark_id)
        return Record(subjects.marks(mark.venue.value, mark.asset), payload, mark.mark_id)
