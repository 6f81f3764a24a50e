"""Whose turn it is to be swept: what was announced on-chain first, then who has waited longest for what he is due."""

import asyncio
from collections.abc import Callable

from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.wallet_state import SECOND, PollSettings, WalletState


class PollQueue:
    """The order of sweeps. Wallets that traded within the hour are due more often; nobody starves."""

    def __init__(self, pace: PollSettings, clock: Callable[[], int]) -> None:
        self._pace = pace
        self._clock = clock
        self.wallets: dict[str, WalletState] = {}
        self._woken = asyncio.Event()

    def follow(self, wallets: dict[str, WalletState]) -> None:
        """Sweep these and no others."""
        self.wallets = wallets
        self._woken.set()

    def urge(self, wallet: WalletState, at: float) -> None:
        """Sweep a wallet at this loop time, before whoever only waits for his turn."""
        wallet.urgent_at = at if wallet.urgent_at is None else min(wallet.urgent_at, at)
        self._woken.set()

    async def next(self) -> WalletState:
        """The wallet whose turn it is, marked busy; waits until somebody is due."""
        while True:
            now = asyncio.get_running_loop().time()
            wallet, wait = self.due(now)
            if wallet is not None:
                wallet.busy, wallet.urgent_at = True, None
                return wallet
            self._woken.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            except TimeoutError:
                pass

    def done(self, wallet: WalletState, *, failed: bool) -> None:
        """Give a wallet back after its sweep."""
        now = asyncio.get_running_loop().time()
        wallet.busy = False
        if failed:
            wallet.not_before = now + self._pace.failed_again
        else:
            wallet.swept_at = now
            wallet.not_before = 0.0
        if wallet.joins.waiting:
            self.urge(wallet, now + self._pace.row_again)
        self._woken.set()

    def due(self, now: float) -> tuple[WalletState | None, float | None]:
        """Who is next at this loop time; when nobody is, how long until somebody will be (None = nobody is there)."""
        best: tuple[float, float, WalletState] | None = None
        wait: float | None = None
        oldest = 0.0
        for wallet in self.wallets.values():
            if wallet.swept_at is not None:
                oldest = max(oldest, now - wallet.swept_at)
            if wallet.busy:
                continue
            urgency, left = self._urgency(wallet, now)
            if left > 0:
                wait = left if wait is None else min(wait, left)
            elif best is None or urgency > best[:2]:
                best = (*urgency, wallet)
        metrics.BEHIND.set(oldest)
        return (None, wait) if best is None else (best[2], 0.0)

    def _urgency(self, wallet: WalletState, now: float) -> tuple[tuple[float, float], float]:
        """How urgent a wallet is, and the seconds until it is due (at most 0 = now).

        Urgency is (1 + the seconds since what was announced for it should be there, or 0; the part of its interval
        that has passed since its last sweep): whatever was announced goes before whoever only waits.
        """
        urgency, left = (0.0, float("inf")), 0.0
        if wallet.swept_at is not None:
            interval = self._interval(wallet)
            urgency, left = (0.0, (now - wallet.swept_at) / interval), interval - (now - wallet.swept_at)
        if wallet.urgent_at is not None:
            left = min(left, wallet.urgent_at - now)
            if wallet.urgent_at <= now:
                urgency = (1.0 + now - wallet.urgent_at, urgency[1])
        return urgency, max(left, wallet.not_before - now)

    def _interval(self, wallet: WalletState) -> float:
        hot = wallet.last_seen_s > self._clock() // SECOND - self._pace.hot_for
        return self._pace.hot if hot else self._pace.cold
