"""Polls the wallets that the queue names, a few at a time: their activity, and an account snapshot where one is due."""

import asyncio
from collections.abc import Callable

import structlog
from msgspec import Struct

from domain.events import GapDetected
from gateways.venue_errors import VenueUnavailableError
from handlers.ingest.dead_letters import UNREADABLE, DeadLetters
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.activity_poll import ActivityPoll
from handlers.ingest.polymarket.poll_queue import PollQueue
from handlers.ingest.polymarket.position_snapshots import PositionSnapshots
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings, WalletState

log = structlog.get_logger()

_GAP_TRIES = 4


class _Gap(Struct):
    """The newest gap in a wallet's positions (ns, the venue's), and how many snapshots since were older than it."""

    event_time: int = 0
    tries: int = 0


class Poller:
    """Polls wallets. One that fails waits for a short time; the others do not wait for it.

    `answered` is called after every poll that the venue answered.
    """

    def __init__(
        self,
        queue: PollQueue,
        activity: ActivityPoll,
        snapshots: PositionSnapshots,
        dead_letters: DeadLetters,
        clock: Callable[[], int],
        settings: PollSettings,
        *,
        answered: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._activity = activity
        self._snapshots = snapshots
        self._dead_letters = dead_letters
        self._clock = clock
        self._settings = settings
        self._on_answer = answered
        self._gaps: dict[str, _Gap] = {}

    async def run(self) -> None:
        """Until cancelled."""
        slots = asyncio.Semaphore(self._settings.pollers)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                group.create_task(self._poll_slot(await self._queue.next(), slots))

    async def _poll_slot(self, wallet: WalletState, slots: asyncio.Semaphore) -> None:
        failed = True
        try:
            await self._poll(wallet)
            failed = False
            metrics.POLLS.labels("done").inc()
            self._on_answer()
        except VenueUnavailableError as error:
            metrics.POLLS.labels("unavailable").inc()
            log.warning("polymarket.poll_failed", wallet=wallet.address, error=str(error))
        except UNREADABLE as error:
            metrics.POLLS.labels("unreadable").inc()
            # One dead letter an hour: the text of the error may differ each time.
            key = f"polymarket:poll:{wallet.address}:{self._clock() // SECOND // 3_600}"
            await self._dead_letters.write(key, subject=wallet.address, payload=str(error).encode(), error=str(error))
        finally:
            self._count_unmatched(wallet)
            self._queue.done(wallet, failed=failed)
            slots.release()

    async def _poll(self, wallet: WalletState) -> None:
        now = asyncio.get_running_loop().time()
        if wallet.snapshot_due is None or wallet.snapshot_due > now:
            await self._activity.poll(wallet)
            return
        # Cleared first: a gap that is detected meanwhile may need a snapshot of its own.
        wallet.snapshot_due, wallet.snapshot_begun = None, now
        try:
            await self._snapshots.take(wallet)
        except (VenueUnavailableError, *UNREADABLE):
            wallet.snapshot_due = now + self._settings.snapshot_again
            raise
        gap = self._gaps.get(wallet.address)
        if gap is not None and gap.event_time > wallet.snapshot_as_of and gap.tries < _GAP_TRIES:
            # The index has not reached the gap yet.
            gap.tries += 1
            wallet.snapshot_due = now + self._settings.snapshot_again
            self._queue.poll_at(wallet, wallet.snapshot_due)
        else:
            self._gaps.pop(wallet.address, None)
            wallet.snapshot_due = None

    def _count_unmatched(self, wallet: WalletState) -> None:
        before = asyncio.get_running_loop().time() - self._settings.row_within
        for transaction, asset, side in wallet.fills.overdue(before):
            metrics.UNMATCHED.inc()
            log.warning(
                "polymarket.unmatched", wallet=wallet.address, transaction=transaction, asset=asset, side=side.value
            )

    def on_gap(self, event: GapDetected) -> None:
        """The folded position of a wallet is wrong: take a snapshot newer than the event that showed it."""
        gap = self._gaps.setdefault(event.address, _Gap())
        gap.event_time, gap.tries = max(gap.event_time, event.event_time), 0
        wallet = self._queue.wallets.get(event.address)
        if wallet is not None:
            self.check(wallet)

    def check(self, wallet: WalletState) -> None:
        """Poll for what a wallet lacks: a snapshot after a gap, rows for logs that have none."""
        now = asyncio.get_running_loop().time()
        if wallet.fills.waiting:
            self._queue.poll_at(wallet, now)
        gap = self._gaps.get(wallet.address)
        if gap is None:
            return
        if gap.event_time <= wallet.snapshot_as_of:
            del self._gaps[wallet.address]
        elif wallet.snapshot_due is None:
            # A log may have shown the gap, whose row and the rows before it the index does not serve yet.
            again = wallet.snapshot_begun + self._settings.snapshot_again
            wallet.snapshot_due = max(now + self._settings.row_after, again)
            self._queue.poll_at(wallet, wallet.snapshot_due)
