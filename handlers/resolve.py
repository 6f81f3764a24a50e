"""Venues -> GROUPS: what markets are, and what they pay once they are resolved for good.

A market is described when one of its tokens is first traded by a followed wallet, and asked about from its listed end
on: often at first, then ever more rarely. The first final resolution stands. One that the venue changes afterwards is
never followed: it goes to DEAD, for somebody to look at what was paid.
"""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from msgspec import Raw

from domain.events import Event, MarketDescribed, MarketResolved, Venue
from gateways.venue_adapter import Markets
from gateways.venue_errors import VenueUnavailableError, WireError
from gateways.venue_types import ListedMarket
from handlers import metrics
from handlers.live.event_codec import codec
from handlers.live.mark_prices import LiveMarkPrices
from streams import dead_letter_events, subjects
from streams.append import Record, append_once
from streams.connection import Connection
from streams.errors import LogError
from streams.retry import retry_forever

log = structlog.get_logger()

SECOND = 1_000_000_000
STAGE = "mark"
SOON, RARELY = 5.0, 600.0
"""Seconds between two questions about a market whose end is near or over: at first, and at last."""
_UNLISTED_END = 300.0
"""How often a market that lists no end is asked about."""
PROOF = (60.0, 600.0, 3_600.0, 86_400.0)
"""When a resolution is looked at again, in seconds after it was recorded."""
_AT_ONCE = 20


class _Asked(NamedTuple):
    """When (loop time) a market or token is asked about next, and how long it was waited for the last time."""

    at: float
    key: str
    is_market: bool
    waited: float
    proofs: int


class Resolver:
    """Knows the markets of the tokens it watches, and stores what becomes of them."""

    def __init__(
        self,
        connection: Connection,
        valuation: LiveMarkPrices,
        venue: Venue,
        markets: Markets,
        clock: Callable[[], int],
        *,
        soon_seconds: float = SOON,
        proof_seconds: tuple[float, ...] = PROOF,
    ) -> None:
        self._connection = connection
        self._codec = codec()
        self._valuation = valuation
        self._venue = venue
        self._markets = markets
        self._clock = clock
        self._soon = soon_seconds
        self._proof = proof_seconds
        self._due: list[_Asked] = []
        self._watched: set[str] = set()
        self._tokens: set[str] = set()
        self._described: set[str] = set()
        self._new = asyncio.Event()

    def watch(self, token: str, market: str) -> None:
        """Follow the market of a token; `market` is its condition id, or '' where only the token is known."""
        if token in self._tokens or self._valuation.marks.resolution((self._venue.value, token)) is not None:
            return
        self._tokens.add(token)
        if market and market in self._watched:
            return
        if market:
            self._watched.add(market)
        self._ask(market or token, 0.0, 0.0, is_market=bool(market))
        self._new.set()

    def _ask(self, key: str, in_seconds: float, waited: float, proofs: int = 0, *, is_market: bool = True) -> None:
        at = asyncio.get_running_loop().time() + in_seconds
        heapq.heappush(self._due, _Asked(at, key, is_market, waited, proofs))

    async def run(self) -> None:
        """Until cancelled. A venue that does not answer is asked again."""
        loop = asyncio.get_running_loop()
        while True:
            while self._due and self._due[0].at <= loop.time():
                await self._ask_venue([heapq.heappop(self._due) for _ in range(self._ready(loop.time()))])
            self._new.clear()
            wait = self._due[0].at - loop.time() if self._due else None
            try:
                async with asyncio.timeout(wait):
                    await self._new.wait()
            except TimeoutError:
                pass

    def _ready(self, now: float) -> int:
        return min(_AT_ONCE, sum(asked.at <= now for asked in self._due))

    async def _ask_venue(self, due: list[_Asked]) -> None:
        try:
            found = await self._markets.markets([asked.key for asked in due if asked.is_market])
        except (VenueUnavailableError, WireError) as error:
            return self._failed(due, error)
        for asked in due:
            payload = found.get(asked.key.lower())
            try:
                if payload is None and not asked.is_market:
                    payload = await self._markets.market_of(asked.key)
            except (VenueUnavailableError, WireError) as error:
                self._failed([asked], error)
                continue
            try:
                await self._answered(asked, payload)
            except WireError as error:
                log.warning("market.unreadable", market=asked.key, error=str(error))
                self._ask(asked.key, RARELY, RARELY, asked.proofs, is_market=asked.is_market)
            except LogError as error:
                self._failed([asked], error)
        return None

    def _failed(self, due: Sequence[_Asked], error: Exception) -> None:
        """Ask again soon, for just these: whoever was answered has its next question already."""
        log.warning("resolve.failed", markets=len(due), error=str(error))
        metrics.MARKS_FAILED.labels("resolutions").inc()
        for asked in due:
            self._ask(asked.key, self._soon, asked.waited, asked.proofs, is_market=asked.is_market)

    async def _answered(self, asked: _Asked, payload: Raw | None) -> None:
        if payload is None:
            log.warning("market.unknown", market=asked.key)
            self._ask(asked.key, RARELY, RARELY, is_market=asked.is_market)
            return
        listed = self._markets.read(payload, self._clock())
        market = listed.description.market
        if market != asked.key and market in self._watched:
            return  # came by another token of the same market
        self._watched.add(market)
        if market not in self._described:
            await self._store(listed.description, listed.description_id)
            self._described.add(market)
        if listed.resolution is None:
            self._ask(market, *self._patience(listed, asked.waited))
            return
        await self._resolved(listed.resolution, payload)
        if asked.proofs < len(self._proof):
            self._ask(market, self._proof[asked.proofs], 0.0, asked.proofs + 1)

    def _patience(self, market: ListedMarket, waited: float) -> tuple[float, float]:
        """(seconds until the next question, the same to double from)."""
        closes_at = market.description.closes_at
        if closes_at is None:
            return _UNLISTED_END, 0.0
        left = (closes_at - self._clock()) / SECOND
        if left > 0 and not market.closed:
            return min(left, RARELY) + 1.0, 0.0
        patience = min(max(self._soon, 2 * waited), RARELY)
        return patience, patience

    async def _resolved(self, resolution: MarketResolved, payload: Raw) -> None:
        known = {
            payout.asset: found.price_micros
            for payout in resolution.payouts
            if (found := self._valuation.marks.resolution((resolution.venue.value, payout.asset))) is not None
        }
        if not known:
            await self._store(resolution, resolution.resolution_id)
            metrics.RESOLVED.inc()
            log.info("market.resolved", market=resolution.market, payouts=len(resolution.payouts))
        elif any(known.get(payout.asset) != payout.price_micros for payout in resolution.payouts):
            await self._changed(resolution, payload)

    async def _changed(self, resolution: MarketResolved, payload: Raw) -> None:
        log.error("market.resolution_changed", market=resolution.market)
        metrics.DEAD.labels(STAGE).inc()
        said = ",".join(str(payout.price_micros) for payout in resolution.payouts)
        await retry_forever(
            lambda: dead_letter_events.dead_letter(
                self._connection,
                stage=STAGE,
                stream="gamma",
                sequence=0,
                subject=subjects.marks(resolution.venue.value, resolution.market),
                payload=bytes(payload),
                error=f"market {resolution.market} was resolved and paid already, and now pays otherwise ({said})",
                now=self._clock(),
                dead_id=f"{STAGE}:resolution:{resolution.market}:{said}",
            )
        )

    async def _store(self, event: MarketDescribed | MarketResolved, event_id: str) -> None:
        now = self._clock()
        fact: Event = event
        payload = self._codec.encode(fact, id=event_id, source="vibe/mark", time_ns=now, correlation=event.market)
        await append_once(
            self._connection, [Record(subjects.marks(event.venue.value, event.market), payload, event_id)]
        )
