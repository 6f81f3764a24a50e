"""On-chain logs of the followed wallets: each to RAW once, those taken back too, and each a reason to sweep soon."""

import asyncio
import re

from domain.signals import REMOVED
from gateways.polymarket.log_parsing import ChainFill, Log, log_id, parse_log
from gateways.polymarket.raw_events import CHAIN_CHANNEL
from handlers.ingest.polymarket import metrics as metrics
from handlers.ingest.polymarket.dead_letters import UNREADABLE, DeadLetters, digest
from handlers.ingest.polymarket.fill_matching import FillKey
from handlers.ingest.polymarket.outbox import Outbox
from handlers.ingest.polymarket.poll_queue import PollQueue
from handlers.ingest.polymarket.reorg_tracker import taken_back
from handlers.ingest.polymarket.wallet_state import PollSettings, WalletState

_ADDRESS = re.compile(rb"[0-9a-fA-F]{40}(?![0-9a-fA-F])")


class ChainEvents:
    """Takes logs in, in whatever order and however often they come."""

    def __init__(self, schedule: PollQueue, outbox: Outbox, letters: DeadLetters, pace: PollSettings) -> None:
        self._schedule = schedule
        self._outbox = outbox
        self._letters = letters
        self._pace = pace

    async def take(self, message: Log) -> None:
        """Record a log of a followed wallet, and look for its row when that should be there."""
        payload = bytes(message.payload)
        try:
            raw_id, fill = log_id(payload), parse_log(payload)
        except UNREADABLE as error:
            await self._unreadable(payload, str(error))
            return
        wallet = self._schedule.wallets.get(fill.wallet)
        if wallet is None or not wallet.seen.add(raw_id):
            metrics.LOGS.labels("stranger" if wallet is None else "seen").inc()
            return
        if fill.removed:
            await self._take_back(wallet, raw_id, fill, message)
            return
        for gone in wallet.standing.displaced(fill):
            metrics.LOGS.labels("displaced").inc()
            await self.take(taken_back(gone.message))
        metrics.LOGS.labels("new").inc()
        wallet.standing.add(raw_id, fill, message)
        now = asyncio.get_running_loop().time()
        if wallet.joins.log(key_of(fill), fill.share_micros, now):
            self._schedule.urge(wallet, now + self._pace.row_after)
        await self._outbox.put(wallet, self._outbox.event(wallet, CHAIN_CHANNEL, raw_id, payload, message.venue_time))

    async def _take_back(self, wallet: WalletState, raw_id: str, fill: ChainFill, message: Log) -> None:
        metrics.LOGS.labels("removed").inc()
        wallet.standing.remove(raw_id.removesuffix(REMOVED), fill)
        wallet.joins.removed(key_of(fill), fill.share_micros)
        payload = bytes(message.payload)
        await self._outbox.put(wallet, self._outbox.event(wallet, CHAIN_CHANNEL, raw_id, payload, message.venue_time))

    async def _unreadable(self, payload: bytes, error: str) -> None:
        metrics.LOGS.labels("unreadable").inc()
        named = {f"0x{found.decode().lower()}" for found in _ADDRESS.findall(payload)}
        followed = sorted(named & self._schedule.wallets.keys())
        if followed:
            key = f"polymarket:log:{digest(payload)}"
            await self._letters.write(key, subject=followed[0], payload=payload, error=error)


def key_of(fill: ChainFill) -> FillKey:
    """What a fill has in common with its activity row."""
    return fill.transaction, fill.asset, fill.side
