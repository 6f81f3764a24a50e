"""Venues -> GROUPS: descriptions of traded markets, and their payouts once they are resolved for good.

A market is described when one of its tokens is first traded by a followed wallet. From its listed end on the venue is
asked for its resolution: often at first, then less and less. The first final resolution is compared with
the venue's again for a day. A change that the venue reports twice in a row is stored as a correction.
Ids are derived from the market, and of a correction also from what it replaces: two instances store each event once.
"""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from msgspec import Raw, Struct
from msgspec.structs import replace

from domain.events import Event, MarketDescribed, MarketResolved, Venue
from domain.ids import derived
from domain.mark_prices import Asset, Resolution
from gateways.venue_adapter import Markets
from gateways.venue_errors import VenueUnavailableError, WireError
from gateways.venue_types import ListedMarket
from handlers import metrics
from handlers.live.event_codec import codec
from handlers.live.mark_prices import LiveMarkPrices
from handlers.live.traded_assets import TradedAssets
from streams import subjects
from streams.append import Record, append_once
from streams.connection import Connection
from streams.errors import LogError

log = structlog.get_logger()

SECOND = 1_000_000_000
STAGE = "resolve"
_MARKETS_PER_REQUEST = 20


class ResolveSettings(Struct, frozen=True):
    """When the venue is asked, in seconds."""

    first_retry: float = 5.0
    """Between two requests for a market that is over, at first; doubled each time up to `longest_retry`."""
    longest_retry: float = 600.0
    unlisted_end: float = 300.0
    """Between two requests for a market that lists no end."""
    checks: tuple[float, ...] = (60.0, 600.0, 3_600.0, 86_400.0)
    """After a resolution was recorded, when it is compared with the venue's again; the first of these times is also
    when a change is confirmed."""


class _Request(NamedTuple):
    """The next request for a market, or for the market of an asset: when (loop time), the interval before it, and how
    often its resolution was checked."""

    at: float
    key: str
    is_market: bool
    interval: float
    checks: int


class Resolve:
    """Requests the markets of one venue's traded assets and stores their descriptions and resolutions."""

    def __init__(
        self,
        connection: Connection,
        traded: TradedAssets,
        valuation: LiveMarkPrices,
        venue: Venue,
        markets: Markets,
        clock: Callable[[], int],
        settings: ResolveSettings = ResolveSettings(),  # noqa: B008 - frozen
    ) -> None:
        self._connection = connection
        self._codec = codec()
        self._traded = traded
        self._valuation = valuation
        self._venue = venue
        self._markets = markets
        self._clock = clock
        self._settings = settings
        self._requests: list[_Request] = []
        self._watched: set[str] = set()
        self._described: set[str] = set()
        self._changing: dict[str, tuple[int, ...]] = {}
        """The payouts of changed resolutions that were reported once, by market."""
        self._new = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. A venue that does not answer is asked again."""
        self._traded.on_new(self._watch)
        loop = asyncio.get_running_loop()
        while True:
            while due := self._due(loop.time()):
                await self._request(due)
            self._new.clear()
            wait = self._requests[0].at - loop.time() if self._requests else None
            try:
                async with asyncio.timeout(wait):
                    await self._new.wait()
            except TimeoutError:
                pass

    def _watch(self, asset: Asset) -> None:
        """Watch the market of a new asset; where its signal names none, the venue is asked for it by the asset."""
        venue, name = asset
        if venue != self._venue.value:
            return
        resolution = self._valuation.marks.resolution(asset)
        market = resolution.market if resolution is not None else self._traded.markets[asset]
        if market in self._watched:
            return
        if resolution is not None:
            self._watched.add(market)
            self._described.add(market)
            self._continue_checks(resolution)
            return
        if market:
            self._watched.add(market)
        self._schedule(market or name, 0.0, 0.0, is_market=bool(market))
        self._new.set()

    def _continue_checks(self, resolution: Resolution) -> None:
        """The checks that are left of a resolution that was recorded before this start."""
        left = (resolution.at - self._clock()) / SECOND
        for checks, wait in enumerate(self._settings.checks, 1):
            left += wait
            if left > 0:
                self._schedule(resolution.market, left, 0.0, checks)
                self._new.set()
                return

    def _schedule(
        self, key: str, in_seconds: float, interval: float, checks: int = 0, *, is_market: bool = True
    ) -> None:
        at = asyncio.get_running_loop().time() + in_seconds
        heapq.heappush(self._requests, _Request(at, key, is_market, interval, checks))

    def _due(self, now: float) -> list[_Request]:
        due: list[_Request] = []
        while self._requests and self._requests[0].at <= now and len(due) < _MARKETS_PER_REQUEST:
            due.append(heapq.heappop(self._requests))
        return due

    async def _request(self, due: list[_Request]) -> None:
        try:
            found = await self._markets.markets([each.key for each in due if each.is_market])
        except (VenueUnavailableError, WireError) as error:
            return self._failed(due, error)
        for each in due:
            payload = found.get(each.key.lower())
            try:
                if payload is None and not each.is_market:
                    payload = await self._markets.market_of(each.key)
            except (VenueUnavailableError, WireError) as error:
                self._failed([each], error)
                continue
            try:
                await self._answered(each, payload)
            except WireError as error:
                log.warning("market.unreadable", market=each.key, error=str(error))
                longest = self._settings.longest_retry
                self._schedule(each.key, longest, longest, each.checks, is_market=each.is_market)
            except LogError as error:
                self._failed([each], error)
        return None

    def _failed(self, due: Sequence[_Request], error: Exception) -> None:
        """Ask again soon, for just these: the others of the request are scheduled already."""
        log.warning("resolve.failed", markets=len(due), error=str(error))
        metrics.MARKS_FAILED.labels("resolutions").inc()
        for each in due:
            retry = self._settings.first_retry
            self._schedule(each.key, retry, each.interval, each.checks, is_market=each.is_market)

    async def _answered(self, request: _Request, payload: Raw | None) -> None:
        if payload is None:
            log.warning("market.unknown", market=request.key)
            longest = self._settings.longest_retry
            self._schedule(request.key, longest, longest, is_market=request.is_market)
            return
        listed = self._markets.read(payload, self._clock())
        market = listed.description.market
        if market != request.key and market in self._watched:
            return  # another asset of the same market was traded before
        self._watched.add(market)
        if market not in self._described:
            await self._store(listed.description, listed.description_id)
            self._described.add(market)
        if listed.resolution is None:
            self._schedule(market, *self._interval(listed, request.interval))
            return
        if await self._is_unconfirmed(listed.resolution):
            self._schedule(market, self._settings.checks[0], 0.0, request.checks)
        elif request.checks < len(self._settings.checks):
            self._schedule(market, self._settings.checks[request.checks], 0.0, request.checks + 1)

    def _interval(self, market: ListedMarket, last: float) -> tuple[float, float]:
        """(seconds until the next request, the interval to double from)."""
        closes_at = market.description.closes_at
        if closes_at is None:
            return self._settings.unlisted_end, 0.0
        left = (closes_at - self._clock()) / SECOND
        if left > 0 and not market.closed:
            return min(left, self._settings.longest_retry) + 1.0, 0.0
        interval = min(max(self._settings.first_retry, 2 * last), self._settings.longest_retry)
        return interval, interval

    async def _is_unconfirmed(self, resolution: MarketResolved) -> bool:
        """Store a resolution, or its correction; True for a change that is reported for the first time."""
        known = {
            payout.asset: found
            for payout in resolution.payouts
            if (found := self._valuation.marks.resolution((resolution.venue.value, payout.asset))) is not None
        }
        market = resolution.market
        if not known:
            await self._store(resolution, resolution.resolution_id)
            metrics.RESOLVED.inc()
            log.info("market.resolved", market=market, payouts=len(resolution.payouts))
            return False
        payouts = tuple(payout.price_micros for payout in resolution.payouts)
        if payouts == tuple(
            found.price_micros if (found := known.get(payout.asset)) is not None else None
            for payout in resolution.payouts
        ):
            self._changing.pop(market, None)
            return False
        if self._changing.get(market) != payouts:
            # One answer may come from a cache that is behind.
            log.warning("market.resolution_differs", market=market, payouts=payouts)
            self._changing[market] = payouts
            return True
        del self._changing[market]
        corrects = next(iter(known.values())).resolution_id
        corrected = replace(
            resolution,
            resolution_id=derived("res", resolution.venue, market, corrects, *payouts),
            corrects=corrects,
        )
        await self._store(corrected, corrected.resolution_id)
        log.error("market.resolution_corrected", market=market, payouts=payouts, corrects=corrects)
        return False

    async def _store(self, event: MarketDescribed | MarketResolved, event_id: str) -> None:
        now = self._clock()
        fact: Event = event
        payload = self._codec.encode(fact, id=event_id, source=f"vibe/{STAGE}", time_ns=now, correlation=event.market)
        await append_once(
            self._connection, [Record(subjects.marks(event.venue.value, event.market), payload, event_id)]
        )
