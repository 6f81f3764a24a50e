"""Polymarket -> RAW: every activity row and on-chain fill of the followed wallets, once, unmodified.

Every fill is reported by two sources: the chain within three seconds, the Data API some seconds later and in full. A
log triggers a poll, and polls make the data complete: pages overlap, equal rows are numbered inside one complete
response, and an id that is stored in RAW is not stored again, however often it is served.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from msgspec import Raw

from domain.events import RawReceived, Venue
from gateways.polymarket.adapter import Polling, PolymarketClients
from gateways.polymarket.data_api import DataApi
from gateways.polymarket.gamma import Gamma, Profile
from gateways.polymarket.polygon_rpc import PolygonRpc
from gateways.polymarket.raw_events import PROFILE_CHANNEL
from handlers.ingest.dead_letters import DeadLetters
from handlers.ingest.gap_subscription import follow_detected_gaps
from handlers.ingest.ordered_writer import OrderedWriter
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.activity_poll import ActivityPoll
from handlers.ingest.polymarket.chain_events import ChainEvents
from handlers.ingest.polymarket.chain_listener import ChainListener
from handlers.ingest.polymarket.poll_queue import PollQueue
from handlers.ingest.polymarket.poller import Poller
from handlers.ingest.polymarket.position_snapshots import PositionSnapshots
from handlers.ingest.polymarket.recovery import Recovery
from handlers.ingest.polymarket.stall_detector import StallDetector
from handlers.ingest.polymarket.wallet_resolver import WalletResolver
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings, WalletState
from handlers.ingest.raw_writer import RawWriter
from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from streams import topology
from streams.connection import Connection
from streams.errors import LogError
from streams.topology import SIGNALS

log = structlog.get_logger()

GAPS_BACK = 50_000
"""How many of the newest signals are searched at the start for gaps that no snapshot has closed."""
REMEMBERED = 500_000
"""Ids remembered of all wallets, so that the log is seldom asked: pages reach back for minutes, and for as long as the
index was stalled."""
_RESTORED_AT_ONCE = 8


class PolymarketIngest:
    """Follows the wallets of every active Polymarket influencer of the live configuration."""

    def __init__(
        self,
        connection: Connection,
        configuration: LiveConfiguration,
        data_api: DataApi,
        gamma: Gamma,
        chain: PolygonRpc,
        ws_url: str,
        clock: Callable[[], int],
        settings: PollSettings = PollSettings(),  # noqa: B008 - frozen
    ) -> None:
        self.ready = asyncio.Event()
        """Set once the venue has answered for the first time, or when no wallet is followed."""
        self._connection = connection
        self._configuration = configuration
        self._clock = clock
        self._settings = settings
        self._raw_writer = RawWriter(connection, clock)
        self._writer = OrderedWriter(self._raw_writer, hold_seconds=settings.hold, remembered=REMEMBERED)
        dead_letters = DeadLetters(connection, clock, "polymarket")
        self._recovery = Recovery(connection, self._raw_writer, self._writer, clock)
        self._queue = PollQueue(settings, clock)
        self._activity = ActivityPoll(
            data_api, gamma, self._writer, dead_letters, clock, settings, self._recovery.stored_since
        )
        snapshots = PositionSnapshots(data_api, chain, self._activity, self._writer, dead_letters, clock, settings)
        self._poller = Poller(
            self._queue, self._activity, snapshots, dead_letters, clock, settings, answered=self.ready.set
        )
        self._stall_detector = StallDetector(
            data_api, clock, settings, stalled=self._index_stalled, recovered=self._index_recovered
        )
        self._events = ChainEvents(self._queue, self._writer, dead_letters, clock, settings)
        self._listener = ChainListener(
            chain, ws_url, received=self._events.received, connected=self.ready.set, reconnected=self._reconnected
        )
        self._resolver = WalletResolver(
            gamma,
            data_api,
            dead_letters,
            clock,
            settings,
            resolved=self._store_profile,
            changed=self._update_wallets,
            answered=self.ready.set,
        )
        self._known: dict[str, WalletState] = {}
        self._active: dict[str, WalletState] = {}
        self._restoring: dict[str, asyncio.Task[None]] = {}
        self._restore_slots = asyncio.Semaphore(_RESTORED_AT_ONCE)
        self._any_active = asyncio.Event()
        self._stopping = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then everything received is stored before it returns."""
        self._resolver.restore(await self._recovery.profiles())
        after = await self._gaps_start()
        self._configuration.on_change(self._follow)
        self._follow()
        if not self._configuration.directory.followed(Venue.POLYMARKET):
            self.ready.set()
        writing = asyncio.create_task(self._raw_writer.run())
        works = [
            asyncio.create_task(work)
            for work in (
                self._writer.run(),
                self._resolver.run(),
                self._listener.run(),
                self._events.run(),
                self._poller.run(),
                self._detect_stalls(),
                self._reconcile(),
                follow_detected_gaps(self._connection, codec(), Venue.POLYMARKET, after, self._poller.on_gap, stop),
            )
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            working: set[asyncio.Future[Any]] = {writing, stopped, *works}
            while not stop.is_set():
                done, working = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            self._stopping = True
            tasks = [*works, stopped, *self._restoring.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not writing.done():
                await self._events.release()
                await self._writer.release_all()
                await self._raw_writer.finish()
                await writing

    # --- which wallets are followed ---

    def _follow(self) -> None:
        """Take over the followed addresses of the configuration."""
        self._resolver.follow(self._configuration.directory.followed(Venue.POLYMARKET))
        self._update_wallets()

    def _update_wallets(self) -> None:
        """Start to follow new wallets, and stop following those that are not configured any more."""
        if self._stopping:
            return
        wanted = self._resolver.wallets
        for address, influencer in wanted.items():
            if address in self._known:
                self._assign(self._known[address], influencer)
            elif address not in self._restoring:
                self._restoring[address] = asyncio.create_task(self._start_following(address, influencer))
        self._active = {address: self._known[address] for address in wanted if address in self._known}
        self._queue.follow(self._active)
        self._listener.follow(tuple(sorted(self._active)))
        metrics.WALLETS.set(len(self._active))
        if self._active:
            self._any_active.set()

    def _assign(self, wallet: WalletState, influencer: str) -> None:
        """A wallet that belongs to another influencer from now on needs a snapshot under that name."""
        if wallet.influencer_id != influencer:
            wallet.influencer_id = influencer
            wallet.snapshot_due = asyncio.get_running_loop().time()

    async def _start_following(self, address: str, influencer: str) -> None:
        """Restore from RAW what is stored of a wallet, then poll it; without a snapshot its events are held back."""
        start = self._clock() // SECOND - self._settings.start_back
        while True:
            wallet = WalletState(address, influencer, start)
            wallet.reach_back(start)
            try:
                async with self._restore_slots:
                    await self._recovery.restore(wallet)
                break
            except LogError as error:
                log.warning("polymarket.not_restored", wallet=address, error=str(error))
                await asyncio.sleep(1.0)
        if wallet.snapshot_due is not None:
            self._writer.hold(address)
        self._known[address] = wallet
        del self._restoring[address]
        self._update_wallets()
        self._poller.check(wallet)

    async def _store_profile(self, address: str, profile: Profile | None) -> None:
        """Store Gamma's answer: one raw event for each wallet of the address."""
        influencer = self._configuration.directory.influencer_of(Venue.POLYMARKET, address)
        if profile is None or influencer is None:
            return
        for wallet in profile.proxy_wallets:
            await self._raw_writer.put(
                RawReceived(
                    raw_id=f"pm:profile:{address}:{wallet}",
                    venue=Venue.POLYMARKET,
                    channel=PROFILE_CHANNEL,
                    influencer_id=influencer,
                    address=wallet,
                    payload=Raw(bytes(profile.payload)),
                    detect_time=self._clock(),
                )
            )

    # --- completeness ---

    async def _reconcile(self) -> None:
        """Once a minute, poll active wallets further back than the overlap, and fetch recent blocks."""
        while True:
            await asyncio.sleep(self._settings.reconcile_every)
            now = self._clock() // SECOND
            for wallet in self._active.values():
                if wallet.newest_s > now - self._settings.active_for:
                    wallet.reach_back(now - self._settings.reconcile_back)
            self._listener.catch_up()

    async def _detect_stalls(self) -> None:
        await self._any_active.wait()
        await self._stall_detector.run()

    def _index_stalled(self, since_s: int) -> None:
        """Rows served from now on do not move the start of polls; later polls go back to before the stall."""
        self._activity.stalled = True
        self._reach_back_all(since_s - self._settings.overlap)

    def _index_recovered(self, since_s: int) -> None:
        self._activity.stalled = False
        self._reach_back_all(since_s - self._settings.overlap)

    def _reach_back_all(self, second: int) -> None:
        for wallet in self._active.values():
            wallet.reach_back(second)

    def _reconnected(self) -> None:
        self._reach_back_all(self._clock() // SECOND - self._settings.reconnect_back)

    async def _gaps_start(self) -> int:
        """The SIGNALS sequence after which gaps are followed: some may have been detected while ingest was down."""
        found = await topology.info(self._connection, SIGNALS.name)
        return max(0, int(found["state"]["last_seq"]) - GAPS_BACK) if found else 0


def open_ingest(
    clients: PolymarketClients, connection: Connection, configuration: LiveConfiguration, clock: Callable[[], int]
) -> PolymarketIngest:
    """The ingest over a venue's open clients, as `handlers.ingest.ingest_of` calls it."""
    return PolymarketIngest(
        connection,
        configuration,
        clients.data_api,
        clients.gamma,
        clients.polygon,
        clients.polygon_ws_url,
        clock,
        poll_settings(clients.polling),
    )


def poll_settings(polling: Polling) -> PollSettings:
    """The settings of polls, with what can be configured."""
    return PollSettings(
        idle_interval=polling.every,
        start_back=polling.start_back,
        reconnect_back=polling.reconnect_back,
        reconcile_back=polling.reconcile_back,
    )
