"""What goes to RAW about a wallet, held back until its positions are known, for a few seconds at most."""

import asyncio
from collections.abc import Callable

import structlog
from msgspec import Raw

from domain.events import RawReceived, Venue
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.wallet_state import WalletState
from handlers.ingest.raw_writer import RawWriter

log = structlog.get_logger()


class Outbox:
    """In front of the recorder: the order of a wallet's events is the order in which they are put."""

    def __init__(self, recorder: RawWriter, clock: Callable[[], int], hold_seconds: float) -> None:
        self._recorder = recorder
        self._clock = clock
        self._hold_seconds = hold_seconds
        self._timers: dict[str, asyncio.Task[None]] = {}

    def event(
        self, wallet: WalletState, channel: str, raw_id: str, payload: bytes, venue_time: int | None = None
    ) -> RawReceived:
        """A raw event of a wallet, detected now."""
        return RawReceived(
            raw_id=raw_id,
            venue=Venue.POLYMARKET,
            channel=channel,
            influencer_id=wallet.influencer_id,
            address=wallet.address,
            payload=Raw(payload),
            detect_time=self._clock(),
            venue_time=venue_time,
        )

    async def put(self, wallet: WalletState, raw: RawReceived) -> None:
        """Record it, after what is held back for its wallet."""
        if not wallet.holding:
            await self._recorder.put(raw)
            return
        wallet.held.append(raw)
        if wallet.address not in self._timers:
            self._timers[wallet.address] = asyncio.create_task(self._expire(wallet))

    async def first(self, raw: RawReceived) -> None:
        """Record it before what is held back."""
        await self._recorder.put(raw)

    async def release(self, wallet: WalletState) -> None:
        """Record what was held back, and hold nothing back from now on."""
        timer = self._timers.pop(wallet.address, None)
        if timer is not None and timer is not asyncio.current_task():
            timer.cancel()
        async with wallet.releasing:
            while wallet.held:
                await self._recorder.put(wallet.held[0])
                wallet.held.popleft()
            wallet.holding = False

    async def close(self) -> None:
        """Stop the timers; what is held back by then is released by whoever closes."""
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*self._timers.values(), return_exceptions=True)
        self._timers.clear()

    async def _expire(self, wallet: WalletState) -> None:
        await asyncio.sleep(self._hold_seconds)
        log.warning("polymarket.released_unseeded", wallet=wallet.address, events=len(wallet.held))
        metrics.SEEDS.labels("late").inc()
        await self.release(wallet)
