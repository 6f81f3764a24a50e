"""Polymarket -> RAW: every activity row and on-chain fill of the followed wallets, once, unmodified.

Two sources tell of every fill: the chain within three seconds, the Data API some seconds later and in full. The chain
is the trigger, the sweep of the activity is what completeness rests on: windows overlap, equal rows are numbered inside
one complete response, and an id that stands in RAW is not written again, whenever and however often it is served.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from msgspec import Raw

from domain.events import RawReceived, Venue
from gateways.polymarket.adapter import PolymarketClients
from gateways.polymarket.data_api import DataApi
from gateways.polymarket.gamma import Gamma, Profile
from gateways.polymarket.polygon_rpc import PolygonRpc
from gateways.polymarket.raw_events import PROFILE_CHANNEL
from handlers.ingest.gap_subscription import follow_detected_gaps
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.activity_poll import ActivityPoll
from handlers.ingest.polymarket.chain_events import ChainEvents
from handlers.ingest.polymarket.chain_listener import ChainListener
from handlers.ingest.polymarket.dead_letters import DeadLetters
from handlers.ingest.polymarket.outbox import Outbox
from handlers.ingest.polymarket.poll_queue import PollQueue
from handlers.ingest.polymarket.poller import Poller
from handlers.ingest.polymarket.position_snapshots import PositionSnapshots
from handlers.ingest.polymarket.recovery import Recovery
from handlers.ingest.polymarket.stall_detector import Progress
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
"""Newest signals looked through at the start for gaps that no report has healed."""
_RECALLED_AT_ONCE = 8
AS_DOCUMENTED = PollSettings()
"""The pace that fits the delays and limits that the venue documents."""


class PolymarketIngest:
    """Follows the wallets of every active Polymarket influencer of the live directory."""

    def __init__(
        self,
        connection: Connection,
        configuration: LiveConfiguration,
        data_api: DataApi,
        gamma: Gamma,
        chain: PolygonRpc,
        ws_url: str,
        clock: Callable[[], int],
        *,
        pace: PollSettings = AS_DOCUMENTED,
    ) -> None:
        self.ready = asyncio.Event()
        """Set once the venue has answered for the first time, or when nobody is followed."""
        self._connection = connection
        self._configuration = configuration
        self._clock = clock
        self._pace = pace
        self._recorder = RawWriter(connection, clock)
        self._letters = DeadLetters(connection, clock)
        self._outbox = Outbox(self._recorder, clock, pace.hold)
        self._memory = Recovery(connection, clock)
        self._schedule = PollQueue(pace, clock)
        self._sweeper = ActivityPoll(data_api, gamma, self._outbox, self._letters, clock, pace)
        seeder = PositionSnapshots(data_api, chain, self._sweeper, self._outbox, self._letters, pace)
        self._turns = Poller(self._schedule, self._sweeper, seeder, self._letters, clock, pace, answered=self.ready.set)
        self._progress = Progress(data_api, clock, pace, stalled=self._stalled, moving=self._moving)
        logs = ChainEvents(self._schedule, self._outbox, self._letters, pace)
        self._listener = ChainListener(chain, ws_url, logs.take, connected=self.ready.set, again=self._reconnected)
        self._roster = WalletResolver(
            gamma,
            data_api,
            self._letters,
            clock,
            pace,
            resolved=self._resolved,
            changed=self._refresh,
            answered=self.ready.set,
        )
        self._known: dict[str, WalletState] = {}
        self._active: dict[str, WalletState] = {}
        self._arriving: dict[str, asyncio.Task[None]] = {}
        self._recalling = asyncio.Semaphore(_RECALLED_AT_ONCE)
        self._somebody = asyncio.Event()
        self._stopping = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then everything received is stored before it returns."""
        self._roster.remember(await self._memory.profiles())
        after = await self._signals_end()
        self._configuration.on_change(self._follow)
        self._follow()
        if not self._configuration.directory.followed(Venue.POLYMARKET):
            self.ready.set()
        writer = asyncio.create_task(self._recorder.run())
        works = [
            asyncio.create_task(work)
            for work in (
                self._roster.run(),
                self._listener.run(),
                self._turns.run(),
                self._watch(),
                self._reconcile(),
                follow_detected_gaps(self._connection, codec(), Venue.POLYMARKET, after, self._turns.gap, stop),
            )
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            working: set[asyncio.Future[Any]] = {writer, stopped, *works}
            while not stop.is_set():
                done, working = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            self._stopping = True
            tasks = [*works, stopped, *self._arriving.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._outbox.close()
            if not writer.done():
                for wallet in self._known.values():
                    await self._outbox.release(wallet)
                await self._recorder.finish()
                await writer

    # --- who is followed ---

    def _follow(self) -> None:
        """Take over the followed addresses from the directory."""
        self._roster.follow(self._configuration.directory.followed(Venue.POLYMARKET))
        self._refresh()

    def _refresh(self) -> None:
        """Take up wallets that are new, let go of those that nobody follows any more."""
        if self._stopping:
            return
        wanted = self._roster.wallets
        for address, influencer in wanted.items():
            if address in self._known:
                self._hand_over(self._known[address], influencer)
            elif address not in self._arriving:
                self._arriving[address] = asyncio.create_task(self._arrive(address, influencer))
        self._active = {address: self._known[address] for address in wanted if address in self._known}
        self._schedule.follow(self._active)
        self._listener.follow(tuple(sorted(self._active)))
        metrics.WALLETS.set(len(self._active))
        if self._active:
            self._somebody.set()

    def _hand_over(self, wallet: WalletState, influencer: str) -> None:
        """A wallet that belongs to somebody else from now on needs a report of its own under that name."""
        if wallet.influencer_id != influencer:
            wallet.influencer_id = influencer
            wallet.seed_at = asyncio.get_running_loop().time()

    async def _arrive(self, address: str, influencer: str) -> None:
        """Begin with what RAW holds of a wallet."""
        back = self._clock() // SECOND - self._pace.start_back
        while True:
            wallet = WalletState(address, influencer, since_s=back)
            wallet.reach(back)
            try:
                async with self._recalling:
                    await self._memory.recall(wallet)
                break
            except LogError as error:
                log.warning("polymarket.not_recalled", wallet=address, error=str(error))
                await asyncio.sleep(1.0)
        self._known[address] = wallet
        del self._arriving[address]
        self._refresh()
        self._turns.check(wallet)

    async def _resolved(self, address: str, profile: Profile | None) -> None:
        """Gamma has said who an address is: one raw event for each of the wallets."""
        influencer = self._configuration.directory.influencer_of(Venue.POLYMARKET, address)
        if profile is None or influencer is None:
            return
        for wallet in profile.proxy_wallets:
            await self._recorder.put(
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

    # --- keeping up ---

    async def _reconcile(self) -> None:
        """Once a minute look further back than the overlap, at wallets that trade, and at the chain."""
        while True:
            await asyncio.sleep(self._pace.reconcile_every)
            now = self._clock() // SECOND
            for wallet in self._active.values():
                if wallet.last_seen_s > now - self._pace.hot_for:
                    wallet.reach(now - self._pace.reconcile_back)
            self._listener.catch_up()

    async def _watch(self) -> None:
        await self._somebody.wait()
        await self._progress.run()

    def _stalled(self, since_s: int) -> None:
        """The index stands since then: what it says now moves no window, and is asked again from there later."""
        self._sweeper.stalled = True
        self._reach_all(since_s - self._pace.overlap)

    def _moving(self, since_s: int) -> None:
        self._sweeper.stalled = False
        self._reach_all(since_s - self._pace.overlap)

    def _reach_all(self, second: int) -> None:
        for wallet in self._active.values():
            wallet.reach(second)

    def _reconnected(self) -> None:
        self._reach_all(self._clock() // SECOND - self._pace.reconnect_back)

    async def _signals_end(self) -> int:
        """From where on gaps are looked for: some may have been found while nobody listened."""
        found = await topology.info(self._connection, SIGNALS.name)
        return max(0, int(found["state"]["last_seq"]) - GAPS_BACK) if found else 0


def open_ingest(
    clients: PolymarketClients, connection: Connection, configuration: LiveConfiguration, clock: Callable[[], int]
) -> PolymarketIngest:
    return PolymarketIngest(
        connection,
        configuration,
        clients.data_api,
        clients.gamma,
        clients.polygon,
        clients.polygon_ws_url,
        clock,
    )
