"""Which wallet is polled next: those with an on-chain fill first, then the one that is overdue the most."""

import asyncio
from collections.abc import Callable

from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings, WalletState


class PollQueue:
    """The order of polls. Wallets that traded within the hour are polled more often; no wallet is left out."""

    def __init__(self, settings: PollSettings, clock: Callable[[], int]) -> None:
        self._settings = settings
        self._clock = clock
        self.wallets: dict[str, WalletState] = {}
        self._changed = asyncio.Event()

    def follow(self, wallets: dict[str, WalletState]) -> None:
        """Poll these wallets and no others."""
        self.wallets = wallets
        self._changed.set()

    def poll_at(self, wallet: WalletState, at: float) -> None:
        """Poll a wallet at this loop time, before wallets whose interval has passed."""
        wallet.urgent_at = at if wallet.urgent_at is None else min(wallet.urgent_at, at)
        self._changed.set()

    async def next(self) -> WalletState:
        """The wallet to poll, marked as in a poll; waits until one is due."""
        while True:
            now = asyncio.get_running_loop().time()
            wallet, wait = self.due(now)
            if wallet is not None:
                wallet.in_poll, wallet.urgent_at = True, None
                return wallet
            self._changed.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def done(self, wallet: WalletState, *, failed: bool) -> None:
        """Give a wallet back after its poll."""
        now = asyncio.get_running_loop().time()
        wallet.in_poll = False
        if failed:
            wallet.not_before = now + self._settings.failed_again
        else:
            wallet.polled_at = now
            wallet.not_before = 0.0
        if wallet.fills.waiting:
            self.poll_at(wallet, now + self._settings.row_again)
        self._changed.set()

    def due(self, now: float) -> tuple[WalletState | None, float | None]:
        """The wallet to poll at this loop time; if there is none, how long until there is one (None = no wallets)."""
        best: tuple[float, float, WalletState] | None = None
        wait: float | None = None
        oldest = 0.0
        for wallet in self.wallets.values():
            if wallet.polled_at is not None:
                oldest = max(oldest, now - wallet.polled_at)
            if wallet.in_poll:
                continue
            urgency, left = self._urgency(wallet, now)
            if left > 0:
                wait = left if wait is None else min(wait, left)
            elif best is None or urgency > best[:2]:
                best = (*urgency, wallet)
        metrics.POLL_AGE.set(oldest)
        return (None, wait) if best is None else (best[2], 0.0)

    def _urgency(self, wallet: WalletState, now: float) -> tuple[tuple[float, float], float]:
        """How urgent a wallet is, and the seconds until it is due (at most 0 = now).

        Urgency is (1 + the seconds since the row of its on-chain fill is expected, or 0; the part of its interval that
        has passed since its last poll).
        """
        urgency, left = (0.0, float("inf")), 0.0
        if wallet.polled_at is not None:
            interval = self._interval(wallet)
            urgency, left = (0.0, (now - wallet.polled_at) / interval), interval - (now - wallet.polled_at)
        if wallet.urgent_at is not None:
            left = min(left, wallet.urgent_at - now)
            if wallet.urgent_at <= now:
                urgency = (1.0 + now - wallet.urgent_at, urgency[1])
        return urgency, max(left, wallet.not_before - now)

    def _interval(self, wallet: WalletState) -> float:
        active = wallet.newest_s > self._clock() // SECOND - self._settings.active_for
        return self._settings.active_interval if active else self._settings.idle_interval
