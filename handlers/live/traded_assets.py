"""Following SIGNALS for the assets that are traded: every stage of a process that asks venues about them shares one."""

from collections import OrderedDict
from collections.abc import Callable

import structlog

from domain.events import SignalRecorded
from domain.mark_prices import Asset
from handlers.live.stream_follower import StreamFollower
from streams.connection import Connection
from streams.envelope import Codec
from streams.errors import UnprocessableError
from streams.reader import Stored, read_all
from streams.shared_reader import SharedSubscription
from streams.topology import SIGNALS, info

log = structlog.get_logger()

_PATTERN = "signals.>"
_TYPES = frozenset({"signal.recorded"})
_RECENT = 1_000
"""How many of the assets traded last are remembered in their order."""


class TradedAssets:
    """Every asset that a followed influencer has traded, in the order of the first signal.

    `markets` has the market of each; '' where no signal has named it yet.
    """

    def __init__(self, connection: Connection, codec: Codec) -> None:
        self._connection = connection
        self._codec = codec
        self._listeners: list[Callable[[Asset], None]] = []
        feed = SharedSubscription(connection, SIGNALS.name, [_PATTERN], description="follows traded assets")
        self._trade_listeners: list[Callable[[Asset], None]] = []
        self._recent: OrderedDict[Asset, None] = OrderedDict()
        self._following = StreamFollower(feed, self._appended)
        self.close, self.watch = self._following.close, self._following.watch
        self.markets: dict[Asset, str] = {}

    async def start(self) -> None:
        """Load the newest signal of every asset, then follow."""
        found = await info(self._connection, SIGNALS.name)
        end = int(found["state"]["last_seq"]) if found else 0
        async for batch in read_all(self._connection, SIGNALS.name, [_PATTERN], newest=True):
            await self._appended(batch)
        await self._following.start(end)

    def on_new(self, listener: Callable[[Asset], None]) -> None:
        """Call `listener` with each known asset now, and with each new one when its first signal is read."""
        self._listeners.append(listener)
        for asset in self.markets:
            listener(asset)

    def on_trade(self, listener: Callable[[Asset], None]) -> None:
        """Call `listener` with the assets traded last now, the newest last, and with the asset of each new signal."""
        self._trade_listeners.append(listener)
        for asset in self._recent:
            listener(asset)

    async def _appended(self, batch: list[Stored]) -> None:
        for stored in batch:
            try:
                events = self._codec.decode(SIGNALS.name, stored.sequence, stored.subject, stored.payload, _TYPES)
            except UnprocessableError as error:
                log.error("signal.unreadable", sequence=stored.sequence, error=str(error))
                continue
            for event in events:
                self._traded(event.data)

    def _traded(self, signal: SignalRecorded) -> None:
        asset = (signal.venue.value, signal.asset)
        self._recent[asset] = None
        self._recent.move_to_end(asset)
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        for listener in self._trade_listeners:
            listener(asset)
        known = self.markets.get(asset)
        if not known:
            self.markets[asset] = signal.market
        if known is None:
            for listener in self._listeners:
                listener(asset)
