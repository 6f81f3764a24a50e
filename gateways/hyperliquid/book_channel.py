"""The books' feed: `l2Book` with `fast`, five levels a side twice a second, and `bbo`, every new best bid and ask.

A frame replaces what it is about, so a lost one is made good by the next (docs/venues/hyperliquid.md, books' feed).
Frames are kept as text and read when a book is asked for: most are replaced before.
"""

from collections import deque
from collections.abc import Collection, Sequence

import msgspec
from msgspec import Raw, Struct

from domain.events import Level
from gateways.hyperliquid.parsing import FRAME, WireLevel, parse_book, positive
from gateways.live_books import Heard, Newest
from gateways.venue_errors import WireError
from gateways.venue_types import Book

LEVELS = 5
SUBSCRIPTIONS = 240
_BOOK, _BBO = "l2Book", "bbo"
_FRAMES_AT_A_TIME = 40
_FULL = "Cannot subscribe to more than"


class _Head(Struct):
    coin: str
    time: int


class _Top(Struct):
    time: int
    bbo: tuple[WireLevel | None, WireLevel | None]


class _Subscription(Struct):
    type: str
    coin: str = ""


class _Acknowledged(Struct):
    method: str
    subscription: _Subscription


class _Live:
    """The newest frames of a coin with their block times (ms), and when its book came."""

    def __init__(self) -> None:
        self.book: Raw | None = None
        self.book_time = 0
        self.received = 0.0
        self.top: Raw | None = None
        self.top_time = 0


_HEAD = msgspec.json.Decoder(_Head)
_TOP = msgspec.json.Decoder(_Top)
_ACKNOWLEDGED = msgspec.json.Decoder(_Acknowledged)
_TEXT = msgspec.json.Decoder(str)
_Asked = tuple[str, str, str]
"""subscribe or unsubscribe, the kind of feed, the coin."""


class HyperliquidBookChannel:
    """One connection. The venue answers subscriptions in the order in which they were sent.

    Of `subscriptions`, each coin takes one for its book, and another one for `bbo` while there are enough.
    """

    levels = LEVELS
    only_listed = True
    ping = '{"method":"ping"}'
    ping_seconds = 5.0
    fresh_seconds = 2.0
    quiet_seconds = 10.0

    def __init__(self, subscriptions: int = SUBSCRIPTIONS) -> None:
        self._subscriptions = subscriptions
        self._live: dict[str, _Live] = {}
        self._open: set[tuple[str, str]] = set()
        self._asked: deque[_Asked] = deque()

    @property
    def assets(self) -> Collection[str]:
        return self._live

    def missing(self, assets: Sequence[str], at: float) -> list[str]:
        frames: list[str] = []
        for coin in assets:
            self._live.setdefault(coin, _Live())
            if (_BOOK, coin) not in self._open and len(frames) < _FRAMES_AT_A_TIME:
                if len(self._open) >= self._subscriptions:
                    frames += self._give_up_a_top(assets)
                frames += self._change("subscribe", _BOOK, coin)
        for coin in assets:
            if len(self._open) >= self._subscriptions or len(frames) >= _FRAMES_AT_A_TIME:
                break
            frames += self._change("subscribe", _BBO, coin)
        return frames

    def drop(self, assets: Sequence[str]) -> list[str]:
        frames: list[str] = []
        for coin in assets:
            self._live.pop(coin, None)
            for kind in (_BOOK, _BBO):
                frames += self._change("unsubscribe", kind, coin)
        return frames

    def _give_up_a_top(self, assets: Sequence[str]) -> list[str]:
        """End the `bbo` of the coin used least recently: a book of one more coin is worth more."""
        coin = next((coin for coin in reversed(assets) if (_BBO, coin) in self._open), None)
        if coin is None:
            return []
        self._live[coin].top = None
        return self._change("unsubscribe", _BBO, coin)

    def _change(self, method: str, kind: str, coin: str) -> list[str]:
        """The frame that subscribes or unsubscribes; none when that is so already."""
        if ((kind, coin) in self._open) == (method == "subscribe"):
            return []
        (self._open.add if method == "subscribe" else self._open.discard)((kind, coin))
        return [self._ask(method, kind, coin)]

    def _ask(self, method: str, kind: str, coin: str) -> str:
        self._asked.append((method, kind, coin))
        subscription: dict[str, object] = {"type": kind, "coin": coin}
        if kind == _BOOK:
            subscription["fast"] = True
        return msgspec.json.encode({"method": method, "subscription": subscription}).decode()

    def receive(self, frame: str, at: float) -> Heard:
        try:
            wire = FRAME.decode(frame)
            match wire.channel:
                case "l2Book":
                    return self._book(wire.data, at)
                case "bbo":
                    return self._best(wire.data)
                case "subscriptionResponse":
                    answered = _ACKNOWLEDGED.decode(wire.data)
                    self._answered((answered.method, answered.subscription.type, answered.subscription.coin))
                case "error":
                    return self._refused(_TEXT.decode(wire.data))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # The next frame replaces what this one would have.
            return Heard.ALIVE
        return Heard.ALIVE

    def _book(self, data: Raw, at: float) -> Heard:
        head = _HEAD.decode(data)
        live = self._live.get(head.coin)
        if live is not None and head.time >= live.book_time:
            live.book, live.book_time, live.received = data, head.time, at
        return Heard.DATA

    def _best(self, data: Raw) -> Heard:
        head = _HEAD.decode(data)
        live = self._live.get(head.coin)
        if live is not None and head.time >= live.top_time:
            live.top, live.top_time = data, head.time
        return Heard.DATA

    def _answered(self, asked: _Asked) -> None:
        if asked in self._asked:
            self._asked.remove(asked)

    def _refused(self, text: str) -> Heard:
        """An error names no request: it answers the one that was sent first of those without an answer."""
        if not self._asked:
            return Heard.ALIVE
        method, kind, coin = self._asked.popleft()
        if method == "subscribe" and text.startswith(_FULL):
            self._open.discard((kind, coin))
            return Heard.REFUSED
        return Heard.ALIVE

    def newest(self, asset: str, at: float) -> Newest | None:
        live = self._live.get(asset)
        book = None if live is None or live.book is None else parse_book(bytes(live.book))
        if live is None or book is None:
            return None
        if live.top is not None and live.top_time > live.book_time:
            book = _with_top(book, live.top)
        return Newest(book, live.received)

    def suspect(self) -> str | None:
        return next((coin for method, _, coin in self._asked if method == "subscribe"), None)


def _with_top(book: Book, data: Raw) -> Book:
    """The book after a newer best bid and ask: what they contradict is gone. Its time stays the older one."""
    try:
        bid, ask = (None if level is None else _level(level) for level in _TOP.decode(data).bbo)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a best bid and ask: {error}") from error
    bids = () if bid is None else (bid, *(level for level in book.bids if level[0] < bid[0]))
    asks = () if ask is None else (ask, *(level for level in book.asks if level[0] > ask[0]))
    return Book(book.time, bids, asks)


def _level(wire: WireLevel) -> Level:
    return positive(wire.px, "price"), positive(wire.sz, "size")
