"""What RAW holds of Polymarket already: read when a wallet is taken up, so that a restart repeats and misses nothing.

Every wallet has a subject of its own in each channel, so this reads the end of each, however long ago it was written
and however much of other wallets and venues came since.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog

from domain.events import RawReceived, Venue
from domain.signals import REMOVED
from gateways.polymarket.activity import Kind, parse_activity
from gateways.polymarket.log_parsing import Log, parse_log
from gateways.polymarket.raw_events import (
    ACTIVITY_CHANNEL,
    CHAIN_CHANNEL,
    MARKET_CHANNEL,
    POSITIONS_CHANNEL,
    PROFILE_CHANNEL,
)
from handlers.ingest.polymarket.dead_letters import UNREADABLE
from handlers.ingest.polymarket.wallet_state import SECOND, WalletState
from handlers.live.event_codec import codec
from streams import subjects
from streams.connection import Connection
from streams.errors import UnprocessableError
from streams.reader import last, read_all
from streams.topology import RAW

log = structlog.get_logger()

READ_BACK = 300_000
"""How far before a wallet's newest event its subject is read, in sequences of RAW: a quarter of an hour of 300 events a
second of all venues. What is older and served again is recognised by the log and by the folds behind it."""
_PAIRED_SECONDS = 600


class Recovery:
    """Reads RAW; changes nothing in it."""

    def __init__(self, connection: Connection, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._codec = codec()
        self._clock = clock

    async def profiles(self) -> dict[str, list[str]]:
        """address -> proxy wallets, as resolved before; there is one event per address and wallet."""
        found: dict[str, list[str]] = {}
        async for raw in self._events(f"raw.*.{Venue.POLYMARKET.value}.{PROFILE_CHANNEL}.>", 0):
            address, _, wallet = raw.raw_id.removeprefix("pm:profile:").partition(":")
            found.setdefault(address, []).append(wallet)
        return found

    async def recall(self, wallet: WalletState) -> None:
        """Fill in what was recorded of a wallet: ids, newest activity, reports, markets, unpaired fills."""
        for channel in (POSITIONS_CHANNEL, MARKET_CHANNEL, CHAIN_CHANNEL, ACTIVITY_CHANNEL):
            subject = subjects.raw(wallet.influencer_id, Venue.POLYMARKET.value, channel, wallet.address)
            newest = await last(self._connection, RAW.name, subject)
            if newest is None:
                continue
            after = 0 if channel == MARKET_CHANNEL else max(0, newest.sequence - READ_BACK)
            async for raw in self._events(subject, after):
                self._remember(wallet, raw)

    def _remember(self, wallet: WalletState, raw: RawReceived) -> None:
        wallet.seen.add(raw.raw_id)
        lately = self._clock() - raw.detect_time < _PAIRED_SECONDS * SECOND
        try:
            match raw.channel:
                case "positions":
                    wallet.seed_at, wallet.holding = None, False
                    wallet.as_of = max(wallet.as_of, raw.venue_time or 0)
                case "market":
                    wallet.described.add(raw.raw_id.split(":")[2])
                case "chain" if lately:
                    self._remember_log(wallet, raw)
                case "activity":
                    activity = parse_activity(bytes(raw.payload))
                    wallet.last_seen_s = max(wallet.last_seen_s, activity.event_time // SECOND)
                    if lately and activity.kind is Kind.TRADE and activity.side is not None:
                        key = (activity.transaction, activity.asset, activity.side)
                        wallet.joins.row(key, activity.share_micros)
        except UNREADABLE as error:
            log.warning("polymarket.memory_unreadable", raw_id=raw.raw_id, error=str(error))

    def _remember_log(self, wallet: WalletState, raw: RawReceived) -> None:
        fill = parse_log(bytes(raw.payload))
        key = (fill.transaction, fill.asset, fill.side)
        if fill.removed:
            wallet.joins.removed(key, fill.share_micros)
            wallet.standing.remove(raw.raw_id.removesuffix(REMOVED), fill)
        else:
            wallet.joins.log(key, fill.share_micros, asyncio.get_running_loop().time())
            wallet.standing.add(raw.raw_id, fill, Log(raw.payload, raw.venue_time))

    async def _events(self, subject: str, after: int) -> AsyncIterator[RawReceived]:
        async for batch in read_all(self._connection, RAW.name, [subject], after=after):
            for stored in batch:
                try:
                    yield self._codec.decode(RAW.name, stored.sequence, stored.subject, stored.payload).data
                except UnprocessableError as error:
                    log.warning("raw.unreadable", sequence=stored.sequence, error=str(error))
