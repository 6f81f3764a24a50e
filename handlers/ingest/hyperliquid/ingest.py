"""Hyperliquid -> RAW: every trade of a followed address, once, unmodified, in the venue's order.

The public feed replays the last 30 trades of a coin at every subscribe, so each event has an id made of the trade's own
identity. Known ids are dropped here, the server drops others inside its deduplication window, and the normalizer's fold
drops what is older still. A replay that does not contain the last trade received of its coin is a gap: then the fills
of the followed addresses are requested. A payload that names a followed address and cannot be read goes to DEAD.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from msgspec import Raw, Struct

from domain.events import RawReceived, TradeSide, Venue
from domain.micros import NotExactError
from domain.venue_times import LONGEST_AHEAD_NS
from gateways.hyperliquid import trades_socket
from gateways.hyperliquid.adapter import HyperliquidClients
from gateways.hyperliquid.fill_parsing import FILLS_CHANNEL
from gateways.hyperliquid.info_client import InfoClient
from gateways.hyperliquid.parsing import MILLISECOND, TradeHead, notional_of, raw_id
from gateways.hyperliquid.raw_events import MODE_CHANNEL, TRADES_CHANNEL
from gateways.reconnecting_websocket import Connected
from gateways.venue_errors import VenueUnavailableError, WireError
from handlers import metrics
from handlers.ingest.dead_letters import DeadLetters, digest
from handlers.ingest.gap_subscription import follow_detected_gaps
from handlers.ingest.hyperliquid import backfill
from handlers.ingest.hyperliquid.account_modes import AccountModes
from handlers.ingest.hyperliquid.account_snapshots import AccountSnapshots, SnapshotSettings
from handlers.ingest.hyperliquid.backfill import Backfill
from handlers.ingest.hyperliquid.gap_detector import GapDetector
from handlers.ingest.hyperliquid.trade_frames import read_frame
from handlers.ingest.ordered_writer import OrderedWriter
from handlers.ingest.raw_writer import RawWriter
from handlers.ingest.trader_observer import TraderObserver
from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from streams import topology
from streams.connection import Connection
from streams.topology import SIGNALS

log = structlog.get_logger()

COINS_PER_CONNECTION = 250
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}(?![0-9a-fA-F])")
_OURS = "raw.*.hyperliquid.>"
_MARGIN_MS = 60_000
"""Between the time of a fill and its detection, and between the clocks of both."""
_EMPTY: dict[str, Any] = {"state": {"last_seq": 0}}


class IngestSettings(Struct, frozen=True):
    """Timing of the Hyperliquid ingest, in seconds."""

    coins: float = 120.0
    """Between two requests for the list of coins, which finds new listings."""
    gather_gaps: float = 0.5
    """How long gaps are gathered before fills are requested: a lost connection makes one in many coins at once."""
    hold: float = 5.0
    """The longest that a trade is held back."""
    snapshots: SnapshotSettings = SnapshotSettings()


def block_time_ms(raw: RawReceived) -> int:
    """The block time in the id of a trade or fill: hl:coin:TIME:tid:address:side, where a coin may contain colons."""
    return int(raw.raw_id.rsplit(":", 4)[1])


class HyperliquidIngest:
    """Follows the public trades of every coin and stores those of the followed addresses."""

    def __init__(
        self,
        connection: Connection,
        configuration: LiveConfiguration,
        info: InfoClient,
        ws_url: str,
        clock: Callable[[], int],
        settings: IngestSettings = IngestSettings(),  # noqa: B008 - frozen
    ) -> None:
        self._connection = connection
        self._configuration = configuration
        self._info = info
        self._ws_url = ws_url
        self._clock = clock
        self._settings = settings
        self._raw_writer = RawWriter(connection, clock)
        self._writer = OrderedWriter(self._raw_writer, order=block_time_ms, hold_seconds=settings.hold)
        self._dead_letters = DeadLetters(connection, clock, "feed")
        self._observer = TraderObserver(connection, clock, Venue.HYPERLIQUID)
        self._gap_detector = GapDetector()
        self._snapshots = AccountSnapshots(
            info,
            configuration,
            self._raw_writer,
            self._writer,
            lambda: self._gap_detector.newest_ms,
            clock,
            settings.snapshots,
        )
        self._modes = AccountModes(info, self._raw_writer, clock)
        self._backfill = Backfill(info, configuration, self._writer, self._snapshots, clock, self._dead_letter)
        self._followed: dict[str, str] = {}
        self._followed_before: list[str] = []
        self._stored_ms = 0
        self._missing: dict[str, int] = {}
        self.ready = asyncio.Event()
        """Set once the first connection has subscribed."""

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then everything received is stored before it returns."""
        await self._restore()
        self._follow()
        self._followed_before = [address for address in self._followed if self._snapshots.has_snapshot(address)]
        self._configuration.on_change(self._follow)
        gaps_after = int(((await topology.info(self._connection, SIGNALS.name)) or _EMPTY)["state"]["last_seq"])
        writing = asyncio.create_task(self._raw_writer.run())
        names = await self._coins(stop)
        listening = asyncio.ensure_future(self._listen(names, stop))
        others: list[asyncio.Future[Any]] = [
            asyncio.create_task(self._writer.run()),
            asyncio.create_task(self._snapshots.run(sections_of(names))),
            asyncio.create_task(self._backfill.run()),
            asyncio.create_task(self._ask_modes()),
            asyncio.create_task(self._observer.run()),
            asyncio.create_task(self._follow_gaps(gaps_after, stop)),
        ]
        try:
            working: list[asyncio.Future[Any]] = [listening, writing, *others]
            done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (listening, *others):
                task.cancel()
            await asyncio.gather(listening, *others, return_exceptions=True)
            if not writing.done():
                await self._writer.release_all()
                await self._raw_writer.finish()
                await writing
            await self._observer.finish()

    async def _restore(self) -> None:
        """Read from RAW which ids and accounts are stored, and when the feed was last known to work."""
        followed = self._configuration.directory.followed(Venue.HYPERLIQUID)
        for raw in await self._raw_writer.newest(_OURS):
            if raw.channel == TRADES_CHANNEL:
                # A trade that is dated wrongly proves only that the feed worked when it was detected.
                self._stored_ms = max(self._stored_ms, min(block_time_ms(raw), raw.detect_time // MILLISECOND))
            elif raw.channel == MODE_CHANNEL:
                self._modes.restore(raw)
            elif raw.channel != FILLS_CHANNEL and followed.get(raw.address) == raw.influencer_id:
                self._snapshots.restore(raw)  # a snapshot for another influencer does not count for this one
        # As far back as fills may be requested again.
        since_ms = backfill.missing_since(self._stored_ms, self._clock() // MILLISECOND, backfill.START_MS)
        async for raw in self._raw_writer.since(_OURS, (since_ms - _MARGIN_MS) * MILLISECOND):
            if raw.channel in (TRADES_CHANNEL, FILLS_CHANNEL):
                self._writer.restore(raw)
        self._gap_detector = GapDetector(self._stored_ms)

    async def _follow_gaps(self, after: int, stop: asyncio.Event) -> None:
        await follow_detected_gaps(self._connection, codec(), Venue.HYPERLIQUID, after, self._backfill.on_gap, stop)
        await asyncio.Event().wait()  # ingest ends when the listeners have ended, not before

    async def _ask_modes(self) -> None:
        """After the first snapshots, which trades wait for."""
        await self._snapshots.idle()
        await self._modes.run()

    async def _coins(self, stop: asyncio.Event) -> list[str]:
        while not stop.is_set():
            try:
                coins = await self._info.coins()
            except (VenueUnavailableError, WireError) as error:
                log.warning("ingest.venue_unavailable", error=str(error))
                await asyncio.sleep(1.0)
                continue
            log.info("ingest.coins", count=len(coins.listed))
            if coins.unread_dexes or coins.unread_coins:
                # Asked for again at the next request; its coins are then followed like new ones.
                log.warning("ingest.coins_unread", dexes=coins.unread_dexes, coins=coins.unread_coins)
            metrics.UNREAD_DEXES.set(len(coins.unread_dexes))
            metrics.UNREAD_COINS.set(len(coins.unread_coins))
            return sorted(coins.listed)
        return []

    async def _listen(self, names: list[str], stop: asyncio.Event) -> None:
        """Listen to the trades of these coins, and of those that are listed later."""
        known = set(names)
        async with asyncio.TaskGroup() as listeners:
            self._listen_to(listeners, names, stop, late=False)
            while not await _within(stop, self._settings.coins):
                if new := [name for name in await self._coins(stop) if name not in known]:
                    log.info("ingest.listed", coins=new[:20], count=len(new))
                    known.update(new)
                    self._snapshots.listed(sections_of(new))
                    self._listen_to(listeners, new, stop, late=True)

    def _listen_to(self, listeners: asyncio.TaskGroup, names: list[str], stop: asyncio.Event, *, late: bool) -> None:
        for at in range(0, len(names), COINS_PER_CONNECTION):
            listeners.create_task(self._listen_once(names[at : at + COINS_PER_CONNECTION], stop, late=late))

    def _follow(self) -> None:
        """Take over the followed addresses of the configuration; new ones get a snapshot first."""
        followed = self._configuration.directory.followed(Venue.HYPERLIQUID)
        self._snapshots.follow(followed)
        self._modes.follow(followed)
        self._followed = followed
        metrics.FOLLOWED.set(len(followed))

    async def _listen_once(self, coins: list[str], stop: asyncio.Event, *, late: bool) -> None:
        async for frame in trades_socket.trades(self._ws_url, coins, stop=stop):
            if isinstance(frame, Connected):
                self._gap_detector.connected(coins)
                log.info("ingest.connected", coins=len(coins), attempt=frame.attempt)
                metrics.CONNECTIONS.inc()
                if frame.attempt == 1 and not late:  # no trade of a new coin is stored, so there is no gap
                    self._missed(self._followed_before, self._stored_ms, backfill.START_MS)
                self.ready.set()
                continue
            await self._received(frame)

    async def _received(self, text: str) -> None:
        """Store the trades of followed addresses in a frame."""
        now = self._clock()
        frame = read_frame(text)
        for part in frame.unreadable:
            await self._unreadable(part.text, part.error)
        if frame.trades:
            # First: where trades are missing, those of this frame are held back.
            self._detect_gap(frame.trades[-1][0].coin, [(head.time, head.tid) for head, _ in frame.trades], now)
        for head, payload in frame.trades:
            self._observe(head, payload, now)
            await self._trade(head, payload, now)

    def _observe(self, head: TradeHead, payload: Raw, now: int) -> None:
        """Count a trade for discovery; one whose price or size cannot be read names no notional and is left out."""
        if self._observer.new(head.coin, head.time * MILLISECOND, head.tid):
            with suppress(msgspec.MsgspecError, NotExactError):
                self._observer.traded([user.lower() for user in head.users], notional_of(payload), now)

    def _detect_gap(self, coin: str, trades: list[tuple[int, int]], now: int) -> None:
        since_ms = self._gap_detector.missed(coin, trades, (now + LONGEST_AHEAD_NS) // MILLISECOND)
        if since_ms is not None:
            log.warning("ingest.gap", coin=coin, from_ms=since_ms, to_ms=trades[0][0])
            metrics.GAPS.inc()
            known = [address for address in self._followed if self._snapshots.has_snapshot(address)]
            self._missed(known, since_ms, backfill.RECONNECT_MS)

    def _missed(self, addresses: Collection[str], alive_ms: int, at_least_ms: int) -> None:
        """Fills since `alive_ms` may be missing: request them, together with all that turn out missing just now."""
        if addresses and not self._missing:
            asyncio.get_running_loop().call_later(self._settings.gather_gaps, self._request_missing)
            self._backfill.expect(addresses)
        since_ms = backfill.missing_since(alive_ms, self._clock() // MILLISECOND, at_least_ms)
        for address in addresses:
            self._missing[address] = min(since_ms, self._missing.get(address, since_ms))

    def _request_missing(self) -> None:
        missing, self._missing = self._missing, {}
        self._backfill.missed(missing)

    async def _trade(self, head: TradeHead, payload: Raw, now: int) -> None:
        for trade_side, user in zip((TradeSide.BUY, TradeSide.SELL), head.users, strict=True):
            address = user.lower()
            influencer = self._followed.get(address)
            if influencer is None:
                continue
            event_id = raw_id(head, address, trade_side)
            if self._writer.knows(event_id):
                metrics.REPLAYED.inc()
                continue
            self._snapshots.traded(address, head.coin.rpartition(":")[0])
            await self._writer.put(
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

    async def _unreadable(self, text: str, error: str) -> None:
        """Count it; when it names a followed address, dead-letter it."""
        metrics.FRAMES.labels("malformed").inc()
        if any(address.lower() in self._followed for address in _ADDRESS.findall(text)):
            await self._dead_letter(text, error)
        else:
            log.warning("ingest.malformed", error=error, text=text[:200])

    async def _dead_letter(self, text: str, error: str) -> None:
        payload = text.encode()
        await self._dead_letters.write(f"feed:{digest(payload)}", subject=self._ws_url, payload=payload, error=error)


def open_ingest(
    clients: HyperliquidClients, connection: Connection, configuration: LiveConfiguration, clock: Callable[[], int]
) -> HyperliquidIngest:
    """The ingest over a venue's open clients, as `handlers.ingest.ingest_of` calls it."""
    return HyperliquidIngest(connection, configuration, clients.info, clients.ws_url, clock)


def sections_of(coins: Iterable[str]) -> list[str]:
    """The dexes on which these coins trade, each a section of account reports: '' and the names of other dexes."""
    return sorted({coin.rpartition(":")[0] for coin in coins})


async def _within(stop: asyncio.Event, seconds: float) -> bool:
    """Whether `stop` was set within so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()
