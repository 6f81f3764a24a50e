"""Whose turn it is, taken: sweeps and positions reports, a few at a time, and what to do when one fails."""

import asyncio
from collections.abc import Callable

import structlog
from msgspec import Struct

from domain.events import GapDetected
from gateways.venue_errors import VenueUnavailableError
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.activity_poll import ActivityPoll
from handlers.ingest.polymarket.dead_letters import UNREADABLE, DeadLetters
from handlers.ingest.polymarket.poll_queue import PollQueue
from handlers.ingest.polymarket.position_snapshots import PositionSnapshots
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings, WalletState

log = structlog.get_logger()


_GAP_TRIES = 4


class _Gap(Struct):
    """The newest contradiction of a wallet's fold (ns, the venue's), and how many reports were older than it."""

    event_time: int = 0
    tries: int = 0


class Poller:
    """Works off the schedule. A wallet that fails waits a little; the others do not wait for it."""

    def __init__(
        self,
        schedule: PollQueue,
        sweeper: ActivityPoll,
        seeder: PositionSnapshots,
        letters: DeadLetters,
        clock: Callable[[], int],
        pace: PollSettings,
        *,
        answered: Callable[[], None],
    ) -> None:
        self._schedule = schedule
        self._sweeper = sweeper
        self._seeder = seeder
        self._letters = letters
        self._clock = clock
        self._pace = pace
        self._answered = answered
        self._gaps: dict[str, _Gap] = {}

    async def run(self) -> None:
        """Until cancelled."""
        slots = asyncio.Semaphore(self._pace.sweepers)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                group.create_task(self._turn(await self._schedule.next(), slots))

    async def _turn(self, wallet: WalletState, slots: asyncio.Semaphore) -> None:
        failed = True
        try:
            await self._seed_or_sweep(wallet)
            failed = False
            metrics.SWEEPS.labels("done").inc()
            self._answered()
        except VenueUnavailableError as error:
            metrics.SWEEPS.labels("unavailable").inc()
            log.warning("polymarket.not_swept", wallet=wallet.address, error=str(error))
        except UNREADABLE as error:
            metrics.SWEEPS.labels("unreadable").inc()
            # One letter an hour: what the venue says of itself may differ each time.
            key = f"polymarket:sweep:{wallet.address}:{self._clock() // SECOND // 3_600}"
            await self._letters.write(key, subject=wallet.address, payload=str(error).encode(), error=str(error))
        finally:
            self._give_up_late(wallet)
            self._schedule.done(wallet, failed=failed)
            slots.release()

    async def _seed_or_sweep(self, wallet: WalletState) -> None:
        now = asyncio.get_running_loop().time()
        if wallet.seed_at is None or wallet.seed_at > now:
            await self._sweeper.sweep(wallet)
            return
        # Cleared first: a gap that is found meanwhile may want a report of its own.
        wallet.seed_at, wallet.seeded_at = None, now
        try:
            await self._seeder.seed(wallet)
        except (VenueUnavailableError, *UNREADABLE):
            wallet.seed_at = now + self._pace.seed_again
            raise
        found = self._gaps.get(wallet.address)
        if found is not None and found.event_time > wallet.as_of and found.tries < _GAP_TRIES:
            # The index was not there yet.
            found.tries += 1
            wallet.seed_at = now + self._pace.seed_again
            self._schedule.urge(wallet, wallet.seed_at)
        else:
            self._gaps.pop(wallet.address, None)
            wallet.seed_at = None

    def _give_up_late(self, wallet: WalletState) -> None:
        before = asyncio.get_running_loop().time() - self._pace.row_within
        for transaction, asset, side in wallet.joins.overdue(before):
            metrics.UNJOINED.inc()
            log.warning(
                "polymarket.unjoined", wallet=wallet.address, transaction=transaction, asset=asset, side=side.value
            )

    def gap(self, event: GapDetected) -> None:
        """The fold of a wallet was found wrong: it wants a report newer than what contradicted it."""
        found = self._gaps.setdefault(event.address, _Gap())
        found.event_time, found.tries = max(found.event_time, event.event_time), 0
        wallet = self._schedule.wallets.get(event.address)
        if wallet is not None:
            self.check(wallet)

    def check(self, wallet: WalletState) -> None:
        """Ask for what a wallet lacks: a report after a gap, rows for logs that have none."""
        now = asyncio.get_running_loop().time()
        if wallet.joins.waiting:
            self._schedule.urge(wallet, now)
        found = self._gaps.get(wallet.address)
        if found is None:
            return
        if found.event_time <= wallet.as_of:
            del self._gaps[wallet.address]
        elif wallet.seed_at is None:
            # What contradicted the fold may be a log whose row, and what went before it, the index does not show yet.
            wallet.seed_at = max(now + self._pace.row_after, wallet.seeded_at + self._pace.seed_again)
            self._schedule.urge(wallet, wallet.seed_at)
