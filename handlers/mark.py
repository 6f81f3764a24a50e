"""Venues -> GROUPS: the price of every traded asset, every 30 seconds.

Subscribers may hold whatever a followed influencer has traded, so each asset is marked until its market is resolved. A
mark is stored when the price has moved, or when the stored one is five minutes old. The id of a mark is derived from
its asset and time slot: two instances store it once.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from domain.events import MarkCaptured, Venue
from domain.ids import derived
from domain.mark_prices import Asset
from gateways.venue_adapter import Prices
from gateways.venue_errors import VenueUnavailableError, WireError
from gateways.venue_types import Price
from handlers import metrics
from handlers.live.event_codec import codec
from handlers.live.mark_prices import LiveMarkPrices
from handlers.live.traded_assets import TradedAssets
from streams import subjects
from streams.append import MAX_BATCH, Record, append_once
from streams.connection import Connection
from streams.errors import LogError

log = structlog.get_logger()

SECOND = 1_000_000_000
FRESH_NS = 300 * SECOND


class Mark:
    """Marks every traded asset once in each time slot."""

    def __init__(
        self,
        connection: Connection,
        traded: TradedAssets,
        valuation: LiveMarkPrices,
        prices: Mapping[Venue, Prices],
        clock: Callable[[], int],
        *,
        every_seconds: float = 30.0,
    ) -> None:
        self._connection = connection
        self._codec = codec()
        self._traded = traded
        self._valuation = valuation
        self._prices = prices
        self._clock = clock
        self._every_ns = int(every_seconds * SECOND)

    async def run(self) -> None:
        """Until cancelled, at every slot of the clock. A venue that does not answer is asked again in the next slot."""
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
            asset
            for of, asset in self._traded.markets
            if of == venue.value and marks.resolution((venue.value, asset)) is None
        ]
        if not wanted:
            return
        prices = await self._prices[venue].prices(wanted)
        now = self._clock()
        captured = [
            self._captured(venue, asset, prices[asset], slot, now)
            for asset in sorted(prices)
            if self._has_news((venue.value, asset), prices[asset], now)
        ]
        for at in range(0, len(captured), MAX_BATCH):
            metrics.MARKS.labels(venue.value).inc(
                await append_once(self._connection, [self._record(mark, now) for mark in captured[at : at + MAX_BATCH]])
            )
        metrics.MARKED.labels(venue.value).set(len(prices))

    def _has_news(self, asset: Asset, price: Price, now: int) -> bool:
        mark = self._valuation.marks.mark(asset)
        return mark is None or mark.price_micros != price.price_micros or now - mark.at >= FRESH_NS

    def _captured(self, venue: Venue, asset: str, price: Price, slot: int, now: int) -> MarkCaptured:
        return MarkCaptured(
            mark_id=derived("mrk", venue, asset, slot * self._every_ns),
            venue=venue,
            asset=asset,
            market=self._traded.markets[venue.value, asset],
            price_micros=price.price_micros,
            source=price.source,
            venue_time=price.time,
            marked_at=now,
        )

    def _record(self, mark: MarkCaptured, now: int) -> Record:
        payload = self._codec.encode(mark, id=mark.mark_id, source="vibe/mark", time_ns=now, correlation=mark.mark_id)
        return Record(subjects.marks(mark.venue.value, mark.asset), payload, mark.mark_id)
