"""Reads from RAW what is stored of a wallet when following it begins, so that a restart repeats and misses nothing.

Every wallet has a subject of its own in each channel, so this reads the end of each, however long ago it was written
and however much of other wallets and venues was stored since.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog

from domain.events import RawReceived, Venue
from domain.signals import REMOVED
from domain.venue_times import LONGEST_AHEAD_NS
from gateways.polymarket.activity import Kind, parse_activity
from gateways.polymarket.log_parsing import Log, parse_log
from gateways.polymarket.raw_events import (
    ACTIVITY_CHANNEL,
    CHAIN_CHANNEL,
    MARKET_CHANNEL,
    POSITIONS_CHANNEL,
    PROFILE_CHANNEL,
)
from handlers.ingest.dead_letters import UNREADABLE
from handlers.ingest.ordered_writer import OrderedWriter
from handlers.ingest.polymarket.chain_events import key_of
from handlers.ingest.polymarket.wallet_state import SECOND, WalletState
from handlers.ingest.raw_writer import RawWriter
from handlers.live.event_codec import codec
from streams import subjects
from streams.connection import Connection
from streams.errors import UnprocessableError
from streams.reader import last, read_all
from streams.topology import RAW

log = structlog.get_logger()

READ_BACK = 300_000
"""How far before a wallet's newest event its subject is read, in sequences of RAW: a quarter of an hour of 300 events a
second of all venues. The log is asked about older rows that are served again."""
_MATCHED_SECONDS = 600


class Recovery:
    """Reads RAW; changes nothing in it. Ids that it finds are known to the writer afterwards."""

    def __init__(
        self, connection: Connection, raw_writer: RawWriter, writer: OrderedWriter, clock: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._codec = codec()
        self._raw_writer = raw_writer
        self._writer = writer
        self._clock = clock

    async def profiles(self) -> dict[str, list[str]]:
        """address -> proxy wallets, as resolved before; there is one event per address and wallet."""
        found: dict[str, list[str]] = {}
        async for raw in self._events(f"raw.*.{Venue.POLYMARKET.value}.{PROFILE_CHANNEL}.>", 0):
            address, _, wallet = raw.raw_id.removeprefix("pm:profile:").partition(":")
            found.setdefault(address, []).append(wallet)
        return found

    async def stored_since(self, wallet: WalletState, second: int) -> set[str]:
        """The ids of the wallet's activity rows in RAW that are from this second or later.

        A row is detected after it has happened, by the venue's clock and this machine's, which may differ a little.
        """
        subject = subjects.raw(wallet.influencer_id, Venue.POLYMARKET.value, ACTIVITY_CHANNEL, wallet.address)
        return {raw.raw_id async for raw in self._raw_writer.since(subject, second * SECOND - LONGEST_AHEAD_NS)}

    async def restore(self, wallet: WalletState) -> None:
        """Fill in what is stored of a wallet: ids, newest activity, snapshots, markets, unmatched fills."""
        for channel in (POSITIONS_CHANNEL, MARKET_CHANNEL, CHAIN_CHANNEL, ACTIVITY_CHANNEL):
            subject = subjects.raw(wallet.influencer_id, Venue.POLYMARKET.value, channel, wallet.address)
            newest = await last(self._connection, RAW.name, subject)
            if newest is None:
                continue
            after = 0 if channel == MARKET_CHANNEL else max(0, newest.sequence - READ_BACK)
            async for raw in self._events(subject, after):
                self._restore_event(wallet, raw)

    def _restore_event(self, wallet: WalletState, raw: RawReceived) -> None:
        self._writer.restore(raw)
        recent = self._clock() - raw.detect_time < _MATCHED_SECONDS * SECOND
        try:
            match raw.channel:
                case "positions":
                    wallet.snapshot_due = None
                    wallet.snapshot_as_of = max(wallet.snapshot_as_of, raw.venue_time or 0)
                case "market":
                    wallet.described.add(raw.raw_id.split(":")[2])
                case "chain" if recent:
                    self._restore_log(wallet, raw)
                case "activity":
                    activity = parse_activity(bytes(raw.payload))
                    wallet.newest_s = max(wallet.newest_s, activity.event_time // SECOND)
                    if recent and activity.kind is Kind.TRADE and activity.side is not None:
                        key = (activity.transaction, activity.asset, activity.side)
                        wallet.fills.row(key, activity.share_micros)
        except UNREADABLE as error:
            log.warning("polymarket.stored_event_unreadable", raw_id=raw.raw_id, error=str(error))

    def _restore_log(self, wallet: WalletState, raw: RawReceived) -> None:
        fill = parse_log(bytes(raw.payload))
        if fill.removed:
            wallet.fills.removed(key_of(fill), fill.share_micros)
            wallet.logs.remove(raw.raw_id.removesuffix(REMOVED), fill)
        else:
            wallet.fills.log(key_of(fill), fill.share_micros, asyncio.get_running_loop().time())
            wallet.logs.add(raw.raw_id, fill, Log(raw.payload, raw.venue_time))

    async def _events(self, subject: str, after: int) -> AsyncIterator[RawReceived]:
        async for batch in read_all(self._connection, RAW.name, [subject], after=after):
            for stored in batch:
                try:
                    events = self._codec.decode(RAW.name, stored.sequence, stored.subject, stored.payload)
                except UnprocessableError as error:
                    log.warning("raw.unreadable", sequence=stored.sequence, error=str(error))
                    continue
                for event in events:
                    yield event.data
