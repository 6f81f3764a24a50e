"""Venue -> RAW: every trade of a followed address, once, unmodified, in the venue's order.

The public feed replays the last 30 trades of a coin at every subscribe, so each event carries an id made of the
trade's own identity: ids seen before are dropped here, the server drops the rest inside its window, and the
normalizer's fold drops what is older still. What belongs to a followed address and cannot be read goes to DEAD.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec
import structlog
from msgspec import Raw

from domain.events import RawReceived, TradeSide, Venue
from gateways.hyperliquid import feed
from gateways.hyperliquid.info import InfoClient
from gateways.hyperliquid.wire import FRAME, RAW_TRADES, TRADE_HEAD, TradeHead, raw_id
from gateways.venue import VenueUnavailableError, WireError
from handlers import metrics
from handlers.accounts import AccountSeeder
from handlers.configuration import Configuration
from handlers.normalize import TRADES_CHANNEL
from handlers.recorder import Recorder
from streams import dead
from streams.connection import Connection
from streams.processor import retrying

log = structlog.get_logger()

STAGE = "ingest"
COINS_PER_CONNECTION = 250
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}(?![0-9a-fA-F])")
_REPLAY = 30
_LONGEST_COIN = 100
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Seen(OrderedDict[str, None]):
    """The newest ids, bounded; `add` says whether an id is new."""

    def __init__(self, limit: int = 200_000) -> None:
        super().__init__()
        self._limit = limit

    def add(self, key: str) -> bool:
        if key in self:
            return False
        self[key] = None
        if len(self) > self._limit:
            self.popitem(last=False)
        return True


class Ingest:
    """Follows the public trades of every coin and records what concerns the followed addresses."""

    def __init__(
        self,
        connection: Connection,
        configuration: Configuration,
        info: InfoClient,
        ws_url: str,
        clock: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._configuration = configuration
        self._info = info
        self._ws_url = ws_url
        self._clock = clock
        self._recorder = Recorder(connection, clock)
        self._seeder = AccountSeeder(info, configuration, self._recorder, clock)
        self._seen = Seen()
        self._followed: dict[str, str] = {}
        self._alive_ms = 0
        self.ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then everything received is stored before it returns."""
        for raw in await self._recorder.load():
            self._seen.add(raw.raw_id)
            if raw.channel == TRADES_CHANNEL:
                self._alive_ms = max(self._alive_ms, int(raw.raw_id.split(":")[-4]))
            else:
                self._seeder.known(raw)
        self._follow()
        self._configuration.on_change(self._follow)
        writer = asyncio.create_task(self._recorder.run())
        coins = await self._coins(stop)
        names = sorted(coins)
        sections = sorted({name.rpartition(":")[0] for name in names})
        seeder = asyncio.create_task(self._seeder.run(sections))
        chunks = [names[at : at + COINS_PER_CONNECTION] for at in range(0, len(names), COINS_PER_CONNECTION)]
        reading = asyncio.gather(*(self._read(chunk, stop) for chunk in chunks))
        try:
            working: set[asyncio.Future[Any]] = {reading, writer}
            await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            (writer if writer.done() else reading).result()
        finally:
            for task in (reading, seeder):
                task.cancel()
            await asyncio.gather(reading, seeder, return_exceptions=True)
            if not writer.done():
                await self._recorder.finish()
                await writer

    async def _coins(self, stop: asyncio.Event) -> list[str]:
        while not stop.is_set():
            try:
                coins = await self._info.coins()
                log.info("ingest.coins", count=len(coins))
                return list(coins)
            except (VenueUnavailableError, WireError, msgspec.MsgspecError, KeyError) as error:
                log.warning("ingest.venue_unavailable", error=str(error))
                await asyncio.sleep(1.0)
        return []

    def _follow(self) -> None:
        """Take over the followed addresses from the directory; new ones are seeded first."""
        followed = self._configuration.directory.followed(Venue.HYPERLIQUID)
        self._seeder.follow(followed)
        self._followed = followed
        metrics.FOLLOWED.set(len(followed))

    async def _read(self, coins: list[str], stop: asyncio.Event) -> None:
        fresh: set[str] = set()
        alive_ms = self._alive_ms
        async for frame in feed.trades(self._ws_url, coins, stop=stop):
            if isinstance(frame, feed.Connected):
                fresh = set(coins)
                alive_ms = max(alive_ms, self._alive_ms)
                log.info("ingest.connected", coins=len(coins), attempt=frame.attempt)
                metrics.CONNECTIONS.inc()
                self.ready.set()
                continue
            newest = await self._frame(frame, fresh, alive_ms)
            self._alive_ms = max(self._alive_ms, newest)

    async def _frame(self, text: str, fresh: set[str], alive_ms: int) -> int:
        """Record what a frame holds of followed addresses; returns its newest block time in ms (0 = none)."""
        now = self._clock()
        try:
            frame = FRAME.decode(text)
            if frame.channel != TRADES_CHANNEL:
                metrics.FRAMES.labels("other").inc()
                if frame.channel == "error":
                    log.warning("ingest.venue_error", text=text[:500])
                return 0
            trades = RAW_TRADES.decode(frame.data)
        except _UNREADABLE as error:
            await self._not_understood(text, f"malformed frame: {error}", now)
            return 0
        metrics.FRAMES.labels("trades").inc()
        metrics.TRADES.inc(len(trades))
        newest, oldest, coin = 0, 0, ""
        for payload in trades:
            try:
                head = TRADE_HEAD.decode(payload)
                if not 0 < len(head.coin) <= _LONGEST_COIN or not head.coin.isprintable() or head.time <= 0:
                    raise WireError(f"coin {head.coin[:100]!r} at time {head.time}")
            except (*_UNREADABLE, WireError) as error:
                await self._not_understood(bytes(payload).decode(errors="replace"), f"malformed trade: {error}", now)
                continue
            newest, coin = max(newest, head.time), head.coin
            oldest = min(oldest or head.time, head.time)
            await self._trade(head, payload, now)
        if coin in fresh:
            fresh.discard(coin)
            if alive_ms and len(trades) >= _REPLAY and oldest > alive_ms:
                log.warning("ingest.gap", coin=coin, from_ms=alive_ms, to_ms=oldest)
                metrics.GAPS.inc()
                self._seeder.repair()
        return newest

    async def _trade(self, head: TradeHead, payload: Raw, now: int) -> None:
        for trade_side, user in zip((TradeSide.BUY, TradeSide.SELL), head.users, strict=True):
            address = user.lower()
            influencer = self._followed.get(address)
            if influencer is None:
                continue
            event_id = raw_id(head, address, trade_side)
            if not self._seen.add(event_id):
                metrics.REPLAYED.inc()
                continue
            raw = RawReceived(
                raw_id=event_id,
                venue=Venue.HYPERLIQUID,
                channel=TRADES_CHANNEL,
                influencer_id=influencer,
                address=address,
                payload=Raw(bytes(payload)),
                detect_time=now,
            )
            if not await self._seeder.hold(raw):
                await self._recorder.put(raw)

    async def _not_understood(self, text: str, error: str, now: int) -> None:
        """Count it; when it names a followed address, keep it in DEAD."""
        metrics.FRAMES.labels("malformed").inc()
        if not any(address.lower() in self._followed for address in _ADDRESS.findall(text)):
            log.warning("ingest.malformed", error=error, text=text[:200])
            return
        digest = blake2b(text.encode(), digest_size=12).hexdigest()
        await retrying(
            lambda: dead.bury(
                self._connection,
                stage=STAGE,
                stream="feed",
                sequence=0,
                subject=self._ws_url,
                payload=text.encode(),
                error=error,
                now=now,
                dead_id=f"{STAGE}:feed:{digest}",
            )
        )
        metrics.DEAD.labels(STAGE).inc()
