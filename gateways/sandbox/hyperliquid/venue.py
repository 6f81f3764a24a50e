"""The venue while it runs: turns what a source plays into frames for subscribers."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from gateways.sandbox.hyperliquid import account_info, frames, funding, info, market_info
from gateways.sandbox.hyperliquid.exchange import Exchange
from gateways.sandbox.hyperliquid.faults import Faults
from gateways.sandbox.hyperliquid.market import Market
from gateways.sandbox.hyperliquid.market_data import Book, Fill, Funding, Trade
from gateways.sandbox.hyperliquid.matching import MatchingEngine
from gateways.sandbox.hyperliquid.orders import Order
from gateways.sandbox.hyperliquid.subscriptions import Subscription, Topic
from gateways.sandbox.hyperliquid.websocket_hub import Connection, WebsocketHub

_MIDS_EVERY_S: Final = 1.0
_BOOK_EVERY_S: Final = 5.0
_FAST_BOOK_EVERY_S: Final = 0.5
_CONTEXT_EVERY_S: Final = 1.0
_TICK_S: Final = 0.1
_ANSWERS: Final = {
    "openOrders": ("frontendOpenOrders", "orders"),
    "clearinghouseState": ("clearinghouseState", "clearinghouseState"),
}
"""The feeds that send what `/info` answers: the question, and the field of the frame."""
_OF_DEXES: Final = frozenset({"openOrders", "clearinghouseState"})
_OF_COINS: Final = frozenset({"trades", "bbo", "l2Book", "candle", "activeAssetCtx", "activeAssetData"})


class Source(Protocol):
    """Where the events of the venue come from. `prepare` lists coins and accounts; `run` returns when all is played.

    A source with `quotes_itself` brings its own `bbo` and plain `l2Book` frames, so the venue makes none.
    """

    quotes_itself: bool

    def prepare(self, market: Market) -> None: ...

    def now_ms(self, clock_ns: int) -> int:
        """The venue's time: everything up to it is played, nothing after it is."""

    async def run(self, venue: "Venue") -> None: ...


class Venue:
    """The market, the sockets and the clock (ns) under one source."""

    def __init__(self, source: Source, hub: WebsocketHub, faults: Faults, clock: Callable[[], int]) -> None:
        self.market = Market()
        self.hub = hub
        self.faults = faults
        self.clock = clock
        self.trades_wanted = asyncio.Event()
        self._source = source
        self._mids_sent: dict[str, bytes] = {}
        self._funded_ms: int | None = None
        self.engine = MatchingEngine(self.market, self, self.now_ms)
        self.exchange = Exchange(
            self.market, self.engine, self.now_ms, lambda: clock() // 1_000_000, faults.take_exchange_error
        )
        source.prepare(self.market)

    def now_ms(self) -> int:
        return self._source.now_ms(self.clock())

    # What a source reports.

    def traded(self, trades: Sequence[Trade], fills: Iterable[tuple[str, Fill]], *, frame: bytes | None = None) -> None:
        """Send the trades of one coin, and to each account its fills. `frame` is sent instead of one made here."""
        topic = Topic("trades", trades[0].coin)
        if self.hub.has_subscribers(topic):
            self.hub.publish(topic, frame or frames.trades(trades))
        for topic in self.hub.topics("candle"):
            if topic.name == trades[0].coin:
                self._send_current(topic)
        self.filled(fills)

    def filled(self, fills: Iterable[tuple[str, Fill]]) -> None:
        """Send to each account its fills, without a trade."""
        by_user: defaultdict[str, list[Fill]] = defaultdict(list)
        for user, fill in fills:
            if fill.twap_id is None:  # TWAP slices have a feed of their own
                by_user[user].append(fill)
        for user, own in by_user.items():
            topic = Topic("userFills", user)
            if self.hub.has_subscribers(topic):
                self.hub.publish(topic, frames.user_fills(user, own, snapshot=False))
            topic = Topic("userEvents", user)
            if self.hub.has_subscribers(topic):
                self.hub.publish(topic, frames.user_event({"fills": [fill.wire() for fill in own]}))

    def quoted(self, coin: str, book: Book) -> None:
        """Replace the book of `coin`, fill what rests inside it, and send it."""
        self.market.books[coin] = book
        self.engine.book_changed(coin)
        self._send_book(coin)

    def _send_book(self, coin: str) -> None:
        book = self.market.books[coin]
        topic = Topic("bbo", coin)
        if self.hub.has_subscribers(topic):
            self.hub.publish(topic, frames.bbo(coin, book, self.now_ms()))
        for topic in self.hub.topics("l2Book"):
            if topic.name == coin:
                self.hub.publish(topic, frames.l2_book(topic, book, self.now_ms()))

    def recorded(self, channel: str, coin: str, book: Book, frame: bytes) -> None:
        """Replace the book of `coin` and send the recorded `bbo` or `l2Book` frame that reports it."""
        self.market.books[coin] = book
        self.engine.book_changed(coin)
        self.hub.publish(Topic(channel, coin), frame)

    # What the matching engine reports.

    def book_taken(self, coin: str) -> None:
        """Send the book of `coin` after an order took from it; a source with frames of its own sends the next one."""
        if not self._source.quotes_itself:
            self._send_book(coin)

    def order_changed(self, account: str, order: Order) -> None:
        """Send an order to the account it belongs to."""
        topic = Topic("orderUpdates", account)
        if self.hub.has_subscribers(topic):
            self.hub.publish(topic, frames.order_updates([order]))
        topic = Topic("openOrders", account, detail=self.market.coins[order.coin].dex)
        if self.hub.has_subscribers(topic):
            self._send_current(topic)

    def user_event(self, account: str, event: dict[str, Any]) -> None:
        """Send a funding, a liquidation or a cancel by the venue to the account that it concerns."""
        self.hub.publish(Topic("userEvents", account), frames.user_event(event))

    # What a client asks for.

    def subscribe(self, connection: Connection, wanted: Subscription) -> None:
        """Acknowledge and send what the feed starts with, or answer the venue's error."""
        topic = wanted.topic
        coin = topic.detail if topic.channel == "activeAssetData" else topic.name
        unknown_dex = topic.channel in _OF_DEXES and topic.detail not in ("", *self.market.dexes())
        if unknown_dex or (topic.channel in _OF_COINS and coin not in self.market.coins):
            connection.hang_up()
            return
        refusal = self.hub.subscribe(connection, wanted)
        if refusal is not None:
            connection.send(frames.error(refusal))
            return
        connection.send(frames.subscribed("subscribe", wanted.wire))
        if topic.channel == "trades":
            self.trades_wanted.set()
        frame = self._opening(topic)
        if frame is not None:
            self.hub.push(connection, frame)

    def unsubscribe(self, connection: Connection, unwanted: Subscription) -> None:
        refusal = self.hub.unsubscribe(connection, unwanted)
        connection.send(frames.subscribed("unsubscribe", unwanted.wire) if refusal is None else frames.error(refusal))

    def _opening(self, topic: Topic) -> bytes | None:
        """What a new subscriber gets before anything live."""
        book = self.market.books.get(topic.name)
        match topic.channel:
            case "trades" if self.market.recent_trades[topic.name]:
                return frames.trades(self.market.recent_trades[topic.name])
            case "bbo" if book is not None:
                return frames.bbo(topic.name, book, self.now_ms())
            case "l2Book" if book is not None:
                return frames.l2_book(topic, book, self.now_ms())
            case "allMids":
                return frames.all_mids(topic.name, self.market.mids(topic.name))
            case "userFills":
                account = self.market.accounts.get(topic.name)
                return frames.user_fills(topic.name, account.newest_fills() if account else [], snapshot=True)
            case "userFundings":
                trading = self.market.trading.get(topic.name)
                return frames.user_fundings(topic.name, reversed(trading.fundings) if trading else (), snapshot=True)
            case "userNonFundingLedgerUpdates":
                trading = self.market.trading.get(topic.name)
                updates = trading.ledger[::-1] if trading else []
                return frames.frame(
                    topic.channel, {"isSnapshot": True, "user": topic.name, "nonFundingLedgerUpdates": updates}
                )
            case "candle" | "activeAssetCtx" | "activeAssetData" | "openOrders" | "clearinghouseState":
                return self._current(topic)
        return None

    def _current(self, topic: Topic) -> bytes | None:
        """A feed that shows how things are now, as of now."""
        match topic.channel:
            case "candle":
                candle = self.market.candles[topic.name].newest(topic.detail)
                return None if candle is None else frames.frame("candle", candle.wire(topic.name, topic.detail))
            case "activeAssetCtx":
                context = market_info.context(self.market, self.market.coins[topic.name], self.now_ms())
                return frames.frame(topic.channel, {"coin": topic.name, "ctx": context})
            case "openOrders" | "clearinghouseState":
                kind, field = _ANSWERS[topic.channel]
                asked = {"type": kind, "user": topic.name, "dex": topic.detail}
                state = info.answer(self.market, self.now_ms(), asked)
                return frames.frame(topic.channel, {"dex": topic.detail, "user": topic.name, field: state})
        data = account_info.active_asset_data(self.market, topic.name, self.market.coins[topic.detail])
        return frames.frame(topic.channel, {key: value for key, value in data.items() if key != "markPx"})

    # What is sent regularly.

    async def publish_regularly(self) -> None:
        """Send mids and books at their intervals and abort idle connections, for ever."""
        loop = asyncio.get_running_loop()
        every = {"mids": _MIDS_EVERY_S, "book": _BOOK_EVERY_S, "fast": _FAST_BOOK_EVERY_S, "now": _CONTEXT_EVERY_S}
        due = {what: loop.time() + period for what, period in every.items()}
        while True:
            await asyncio.sleep(_TICK_S)
            self.hub.abort_idle()
            self.exchange.tick()
            self._settle_funding()
            for what, at in due.items():
                if loop.time() >= at:
                    due[what] = loop.time() + every[what]
                    self._publish(what)

    def _publish(self, what: str) -> None:
        if what == "mids":
            self._send_mids()
            return
        if what == "now":
            for channel in ("activeAssetCtx", "activeAssetData", "openOrders", "clearinghouseState"):
                for topic in self.hub.topics(channel):
                    self._send_current(topic)
            return
        for topic in self.hub.topics("l2Book"):
            plain = topic == Topic("l2Book", topic.name)
            book = self.market.books.get(topic.name)
            if topic.fast == (what == "fast") and book is not None and not (plain and self._source.quotes_itself):
                self.hub.publish(topic, frames.l2_book(topic, book, self.now_ms()))

    def _send_current(self, topic: Topic) -> None:
        frame = self._current(topic)
        if frame is not None:
            self.hub.publish(topic, frame)

    def _settle_funding(self) -> None:
        """Book the funding of every interval that has ended since the last look, at most one at a time."""
        every = round(self.faults.funding_every_s * 1_000)
        ended = self.now_ms() // every * every
        if self._funded_ms is None:
            self._funded_ms = ended
        if ended > self._funded_ms:
            self._funded_ms = ended
            funding.settle(self.market, ended, self._funded)

    def _funded(self, account: str, paid: list[Funding]) -> None:
        topic = Topic("userFundings", account)
        if self.hub.has_subscribers(topic):
            self.hub.publish(topic, frames.user_fundings(account, paid, snapshot=False))
        for one in paid:
            self.user_event(account, {"funding": one.wire()})

    def _send_mids(self) -> None:
        for topic in self.hub.topics("allMids"):
            frame = frames.all_mids(topic.name, self.market.mids(topic.name))
            if self._mids_sent.get(topic.name) != frame:
                self._mids_sent[topic.name] = frame
                self.hub.publish(topic, frame)
