"""Venue -> RAW: every trade of a followed address, once, unmodified, in the venue's order.

The public feed replays the last 30 trades of a coin at every subscribe, so each event carries an id made of the
trade's own identity: ids seen before are dropped here, the server drops the rest inside its window, and the
normalizer's fold drops what is older still. A replay that does not hold the last trade seen of its coin is a gap: the
fills of the followed addresses are asked for then. What belongs to a followed address and cannot be read goes to DEAD.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from hashlib import blake2b
from typing import Any

import msgspec
import structlog
from msgspec import Raw

from domain.events import RawReceived, TradeSide, Venue
from gateways.hyperliquid import trades_socket
from gateways.hyperliquid.adapter import HyperliquidClients
from gateways.hyperliquid.fill_parsing import FILLS_CHANNEL, LONGEST_COIN
from gateways.hyperliquid.info_client import InfoClient
from gateways.hyperliquid.parsing import FRAME, MILLISECOND, RAW_TRADES, TRADE_HEAD, TradeHead, raw_id
from gateways.hyperliquid.raw_events import TRADES_CHANNEL
from gateways.reconnecting_websocket import Connected
from gateways.venue_errors import VenueUnavailableError, WireError
from handlers import metrics
from handlers.ingest.gap_subscription import follow_detected_gaps
from handlers.ingest.hyperliquid import backfill
from handlers.ingest.hyperliquid.account_snapshots import AccountSnapshots
from handlers.ingest.hyperliquid.backfill import Backfill
from handlers.ingest.hyperliquid.gap_detector import GapDetector
from handlers.ingest.hyperliquid.ordered_writer import OrderedWriter, time_ms
from handlers.ingest.raw_writer import RawWriter
from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from streams import dead_letter_events, topology
from streams.connection import Connection
from streams.retry import retry_forever
from streams.topology import SIGNALS

log = structlog.get_logger()

STAGE = "ingest"
COINS_PER_CONNECTION = 250
COINS_LOOKED_EVERY_S = 120.0
GATHER_SECONDS = 0.5
"""How long gaps are gathered before they are repaired: a lost connection makes one in many coins at once."""
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}(?![0-9a-fA-F])")
_OURS = "raw.*.hyperliquid.>"
_MARGIN_MS = 60_000
"""Between the time of a fill and the moment at which it is seen, and between the clocks of both."""
_EMPTY: dict[str, Any] = {"state": {"last_seq": 0}}
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class HyperliquidIngest:
    """Follows the public trades of every coin and records what concerns the followed addresses."""

    def __init__(
        self,
        connection: Connection,
        configuration: LiveConfiguration,
        info: InfoClient,
        ws_url: str,
        clock: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._configuration = configuration
        self._info = info
        self._ws_url = ws_url
        self._clock = clock
        self._recorder = RawWriter(connection, clock)
        self._intake = OrderedWriter(self._recorder)
        self._overlap = GapDetector()
        self._seeder = AccountSnapshots(
            info, configuration, self._recorder, self._intake, lambda: self._overlap.newest_ms, clock
        )
        self._backfill = Backfill(info, configuration, self._intake, self._seeder, clock, self._misread)
        self._followed: dict[str, str] = {}
        self._from_before: list[str] = []
        self._stored_ms = 0
        self._missing: dict[str, int] = {}
        self.ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then everything received is stored before it returns."""
        await self._load()
        self._follow()
        self._from_before = [address for address in self._followed if self._seeder.knows(address)]
        self._configuration.on_change(self._follow)
        gaps_after = int(((await topology.info(self._connection, SIGNALS.name)) or _EMPTY)["state"]["last_seq"])
        writer = asyncio.create_task(self._recorder.run())
        names = await self._coins(stop)
        reading = asyncio.ensure_future(self._listen(names, stop))
        others: list[asyncio.Future[Any]] = [
            asyncio.create_task(self._intake.run()),
            asyncio.create_task(self._seeder.run(sections_of(names))),
            asyncio.create_task(self._backfill.run()),
            asyncio.create_task(self._gaps(gaps_after, stop)),
        ]
        try:
            working: list[asyncio.Future[Any]] = [reading, writer, *others]
            done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reading, *others):
                task.cancel()
            await asyncio.gather(reading, *others, return_exceptions=True)
            if not writer.done():
                await self._intake.release_all()
                await self._recorder.finish()
                await writer

    async def _load(self) -> None:
        """What the log holds already: ids, accounts, and when the feed was last known to be alive."""
        followed = self._configuration.directory.followed(Venue.HYPERLIQUID)
        for raw in await self._recorder.newest(_OURS):
            if raw.channel == TRADES_CHANNEL:
                self._stored_ms = max(self._stored_ms, time_ms(raw.raw_id))
            elif raw.channel != FILLS_CHANNEL and followed.get(raw.address) == raw.influencer_id:
                self._seeder.known(raw)  # to whoever follows it now
        # As far back as anything will be asked for again.
        reach_ms = backfill.since(self._stored_ms, self._clock() // MILLISECOND, backfill.START_MS) - _MARGIN_MS
        async for raw in self._recorder.since(_OURS, reach_ms * MILLISECOND):
            if raw.channel in (TRADES_CHANNEL, FILLS_CHANNEL):
                self._intake.known(raw)
        self._overlap = GapDetector(self._stored_ms)

    async def _gaps(self, after: int, stop: asyncio.Event) -> None:
        await follow_detected_gaps(self._connection, codec(), Venue.HYPERLIQUID, after, self._backfill.on_gap, stop)
        await asyncio.Event().wait()  # stopping is the reader's to say

    async def _coins(self, stop: asyncio.Event) -> list[str]:
        while not stop.is_set():
            try:
                coins = await self._info.coins()
                log.info("ingest.coins", count=len(coins))
                return sorted(coins)
            except (VenueUnavailableError, WireError, msgspec.MsgspecError, KeyError) as error:
                log.warning("ingest.venue_unavailable", error=str(error))
                await asyncio.sleep(1.0)
        return []

    async def _listen(self, names: list[str], stop: asyncio.Event) -> None:
        """Read the trades of these coins, and of those that are listed later."""
        known = set(names)
        async with asyncio.TaskGroup() as readers:
            self._read_all(readers, names, stop, late=False)
            while not await _within(stop, COINS_LOOKED_EVERY_S):
                if new := [name for name in await self._coins(stop) if name not in known]:
                    log.info("ingest.listed", coins=new[:20], count=len(new))
                    known.update(new)
                    self._seeder.listed(sections_of(new))
                    self._read_all(readers, new, stop, late=True)

    def _read_all(self, readers: asyncio.TaskGroup, names: list[str], stop: asyncio.Event, *, late: bool) -> None:
        for at in range(0, len(names), COINS_PER_CONNECTION):
            readers.create_task(self._read(names[at : at + COINS_PER_CONNECTION], stop, late=late))

    def _follow(self) -> None:
        """Take over the followed addresses from the directory; new ones are seeded first."""
        followed = self._configuration.directory.followed(Venue.HYPERLIQUID)
        self._seeder.follow(followed)
        self._followed = followed
        metrics.FOLLOWED.set(len(followed))

    async def _read(self, coins: list[str], stop: asyncio.Event, *, late: bool) -> None:
        async for frame in trades_socket.trades(self._ws_url, coins, stop=stop):
            if isinstance(frame, Connected):
                self._overlap.connected(coins)
                log.info("ingest.connected", coins=len(coins), attempt=frame.attempt)
                metrics.CONNECTIONS.inc()
                if frame.attempt == 1 and not late:  # nothing of a new coin was stored that could have a gap
                    self._missed(self._from_before, self._stored_ms, backfill.START_MS)
                self.ready.set()
                continue
            await self._frame(frame)

    async def _frame(self, text: str) -> None:
        """Record what a frame holds of followed addresses."""
        now = self._clock()
        try:
            frame = FRAME.decode(text)
            if frame.channel != TRADES_CHANNEL:
                metrics.FRAMES.labels("other").inc()
                if frame.channel == "error":
                    log.warning("ingest.venue_error", text=text[:500])
                return
            trades = RAW_TRADES.decode(frame.data)
        except _UNREADABLE as error:
            await self._not_understood(text, f"malformed frame: {error}", now)
            return
        metrics.FRAMES.labels("trades").inc()
        metrics.TRADES.inc(len(trades))
        understood: list[tuple[TradeHead, Raw]] = []
        for payload in trades:
            try:
                head = TRADE_HEAD.decode(payload)
                if not 0 < len(head.coin) <= LONGEST_COIN or not head.coin.isprintable() or head.time <= 0:
                    raise WireError(f"coin {head.coin[:100]!r} at time {head.time}")
            except (*_UNREADABLE, WireError) as error:
                await self._not_understood(bytes(payload).decode(errors="replace"), f"malformed trade: {error}", now)
                continue
            understood.append((head, payload))
        if understood:
            # First: where trades are missing, those of this frame wait for them.
            self._look_for_gap(understood[-1][0].coin, [(head.time, head.tid) for head, _ in understood])
        for head, payload in understood:
            await self._trade(head, payload, now)

    def _look_for_gap(self, coin: str, trades: list[tuple[int, int]]) -> None:
        since_ms = self._overlap.missed(coin, trades)
        if since_ms is not None:
            log.warning("ingest.gap", coin=coin, from_ms=since_ms, to_ms=trades[0][0])
            metrics.GAPS.inc()
            known = [address for address in self._followed if self._seeder.knows(address)]
            self._missed(known, since_ms, backfill.RECONNECT_MS)

    def _missed(self, addresses: Collection[str], alive_ms: int, at_least_ms: int) -> None:
        """Fills since `alive_ms` may be missing: have them looked for, with whatever else is missing just now."""
        if addresses and not self._missing:
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._look_for_missing)
            self._backfill.expect(addresses)
        since_ms = backfill.since(alive_ms, self._clock() // MILLISECOND, at_least_ms)
        for address in addresses:
            self._missing[address] = min(since_ms, self._missing.get(address, since_ms))

    def _look_for_missing(self) -> None:
        missing, self._missing = self._missing, {}
        self._backfill.missed(missing)

    async def _trade(self, head: TradeHead, payload: Raw, now: int) -> None:
        for trade_side, user in zip((TradeSide.BUY, TradeSide.SELL), head.users, strict=True):
            address = user.lower()
            influencer = self._followed.get(address)
            if influencer is None:
                continue
            event_id = raw_id(head, address, trade_side)
            if not self._intake.is_new(event_id):
                continue
            self._seeder.traded(address, head.coin.rpartition(":")[0])
            await self._intake.trade(
                RawReceived(
                    raw_id=event_id,
                    venue=Venue.HYPERLIQUID,
                    channel=TRADES_CHANNEL,
                    influencer_id=influencer,
                    address=address,
                    payload=Raw(bytes(payload)),
                    detect_time=now,
                )
            )

    async def _not_understood(self, text: str, error: str, now: int) -> None:
        """Count it; when it names a followed address, keep it in DEAD."""
        metrics.FRAMES.labels("malformed").inc()
        if not any(address.lower() in self._followed for address in _ADDRESS.findall(text)):
            log.warning("ingest.malformed", error=error, text=text[:200])
            return
        await self._bury(text, error, now)

    async def _misread(self, text: str, error: str) -> None:
        await self._bury(text, error, self._clock())

    async def _bury(self, text: str, error: str, now: int) -> None:
        digest = blake2b(text.encode(), digest_size=12).hexdigest()
        await retry_forever(
            lambda: dead_letter_events.dead_letter(
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


def open_ingest(
    clients: HyperliquidClients, connection: Connection, configuration: LiveConfiguration, clock: Callable[[], int]
) -> HyperliquidIngest:
    return HyperliquidIngest(connection, configuration, clients.info, clients.ws_url, clock)


def sections_of(coins: Iterable[str]) -> list[str]:
    """The parts of an account report in which these coins come: '' and the names of other dexes."""
    return sorted({coin.rpartition(":")[0] for coin in coins})


async def _within(stop: asyncio.Event, seconds: float) -> bool:
    """Whether `stop` was set within so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()
