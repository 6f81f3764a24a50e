"""On-chain logs of the followed wallets: each stored in RAW once, removed ones too; each leads to a poll soon.

A removal waits for the log to be mined again in another block, which it is in most reorganisations. Then neither is
stored, because nothing has changed: stored one after the other, they would be copied as a sale and a purchase.
"""

import asyncio
import re
from collections.abc import Callable
from typing import NamedTuple

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
_CHECK_SECONDS = 0.1


class _Removal(NamedTuple):
    """A removal that waits for its log until a loop time."""

    until: float
    wallet: WalletState
    fill: ChainFill
    message: Log


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
        self._removals: dict[str, _Removal] = {}
        """By the id under which the log is stored."""

    async def run(self) -> None:
        """Until cancelled, store each removal whose log was not mined again in time."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            now = asyncio.get_running_loop().time()
            await self._store_removals([stored for stored, held in self._removals.items() if held.until <= now])

    async def release(self) -> None:
        """Store the removals that wait."""
        await self._store_removals(list(self._removals))

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
        if fill.removed:
            await self._removed(wallet, raw_id, fill, message)
            return
        stored_id = wallet.logs.move(raw_id, fill)
        for displaced in wallet.logs.displaced(fill):
            metrics.LOGS.labels("displaced").inc()
            self._hold(wallet, log_id(bytes(displaced.message.payload)), displaced.fill, removal_of(displaced.message))
        if stored_id is not None:
            metrics.LOGS.labels("moved").inc()
            self._removals.pop(stored_id, None)
            return
        metrics.LOGS.labels("new").inc()
        wallet.logs.add(raw_id, fill, message)
        self._expect_row(wallet, fill)
        await self._writer.put(wallet.event(CHAIN_CHANNEL, raw_id, payload, self._clock(), message.venue_time))

    async def _removed(self, wallet: WalletState, raw_id: str, fill: ChainFill, message: Log) -> None:
        """Hold the removal of a stored log, unless the log has moved on to another block since. One of a log that is
        not stored is stored at once."""
        stored = wallet.logs.stored_of(raw_id.removesuffix(REMOVED), fill)
        if stored is not None:
            stored_id, log = stored
            if log.fill.block_hash == fill.block_hash:
                self._hold(wallet, stored_id, log.fill, removal_of(log.message))
            return
        metrics.LOGS.labels("removed").inc()
        await self._writer.put(
            wallet.event(CHAIN_CHANNEL, raw_id, bytes(message.payload), self._clock(), message.venue_time)
        )

    def _hold(self, wallet: WalletState, stored_id: str, fill: ChainFill, message: Log) -> None:
        until = asyncio.get_running_loop().time() + self._settings.reorg_hold
        self._removals.setdefault(stored_id, _Removal(until, wallet, fill, message))

    async def _store_removals(self, stored_ids: list[str]) -> None:
        for stored_id in stored_ids:
            held = self._removals.pop(stored_id, None)
            if held is None:
                continue
            metrics.LOGS.labels("removed").inc()
            held.wallet.logs.remove(stored_id, held.fill)
            held.wallet.fills.removed(key_of(held.fill), held.fill.share_micros)
            message, raw_id = held.message, f"{stored_id}{REMOVED}"
            await self._writer.put(
                held.wallet.event(CHAIN_CHANNEL, raw_id, bytes(message.payload), self._clock(), message.venue_time)
            )

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
