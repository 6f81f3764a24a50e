"""On-chain logs of the followed wallets: each stored in RAW once, removed ones too; each leads to a poll soon."""

import asyncio
import re
from collections.abc import Callable

from domain.signals import REMOVED
from gateways.polymarket.log_parsing import ChainFill, Log, log_id, parse_log
from gateways.polymarket.raw_events import CHAIN_CHANNEL
from handlers.ingest.dead_letters import UNREADABLE, DeadLetters, digest
from handlers.ingest.ordered_writer import OrderedWriter
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.fill_matching import FillKey
from handlers.ingest.polymarket.poll_queue import PollQueue
from handlers.ingest.polymarket.reorg_tracker import removal_of
from handlers.ingest.polymarket.wallet_state import PollSettings, WalletState

_ADDRESS = re.compile(rb"[0-9a-fA-F]{40}(?![0-9a-fA-F])")


class ChainEvents:
    """Stores logs, in whatever order and however often they arrive."""

    def __init__(
        self,
        queue: PollQueue,
        writer: OrderedWriter,
        dead_letters: DeadLetters,
        clock: Callable[[], int],
        settings: PollSettings,
    ) -> None:
        self._queue = queue
        self._writer = writer
        self._dead_letters = dead_letters
        self._clock = clock
        self._settings = settings

    async def received(self, message: Log) -> None:
        """Store a log of a followed wallet, and have the wallet polled when the row of the fill should be there."""
        payload = bytes(message.payload)
        try:
            raw_id, fill = log_id(payload), parse_log(payload)
        except UNREADABLE as error:
            await self._unreadable(payload, str(error))
            return
        wallet = self._queue.wallets.get(fill.wallet)
        if wallet is None or self._writer.knows(raw_id):
            metrics.LOGS.labels("not_followed" if wallet is None else "known").inc()
            return
        event = wallet.event(CHAIN_CHANNEL, raw_id, payload, self._clock(), message.venue_time)
        if fill.removed:
            metrics.LOGS.labels("removed").inc()
            wallet.logs.remove(raw_id.removesuffix(REMOVED), fill)
            wallet.fills.removed(key_of(fill), fill.share_micros)
            await self._writer.put(event)
            return
        for displaced in wallet.logs.displaced(fill):
            metrics.LOGS.labels("displaced").inc()
            await self.received(removal_of(displaced.message))
        if self._writer.knows(raw_id):
            return  # fetched and received live at the same time
        metrics.LOGS.labels("new").inc()
        wallet.logs.add(raw_id, fill, message)
        self._expect_row(wallet, fill)
        await self._writer.put(event)

    def _expect_row(self, wallet: WalletState, fill: ChainFill) -> None:
        now = asyncio.get_running_loop().time()
        if wallet.fills.log(key_of(fill), fill.share_micros, now):
            self._queue.poll_at(wallet, now + self._settings.row_after)

    async def _unreadable(self, payload: bytes, error: str) -> None:
        metrics.LOGS.labels("unreadable").inc()
        named = {f"0x{found.decode().lower()}" for found in _ADDRESS.findall(payload)}
        followed = sorted(named & self._queue.wallets.keys())
        if followed:
            key = f"polymarket:log:{digest(payload)}"
            await self._dead_letters.write(key, subject=followed[0], payload=payload, error=error)


def key_of(fill: ChainFill) -> FillKey:
    """What a fill has in common with its activity row."""
    return fill.transaction, fill.asset, fill.side
