"""The market channel: whole books at a subscription and after each trade, and what was placed or cancelled in between.

A change names the best bid and ask that it leaves. When they are not those of the book here, something is missing: the
book has a hole until the next whole one, which is asked for by a new subscription when none comes by itself
(docs/venues/polymarket.md, market channel).
"""

from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec
from msgspec import Raw, Struct

from domain.micros import MICRO
from gateways.live_books import Heard, Newest
from gateways.polymarket import json_fields
from gateways.polymarket.clob import WireLevel, levels, price
from gateways.venue_errors import WireError
from gateways.venue_types import Book

TOKENS_AT_A_TIME = 50
_HOLE_SECONDS = 1.0
"""How long the book after a trade may take before the token is subscribed anew."""
_REPAIR_SECONDS = 5.0
"""Between two new subscriptions of a token."""
_QUIET_SECONDS = 10.0
"""A connection that brought data this recently also proves that an unchanged book is current."""
_UNCHANGED_SECONDS = 20.0
"""But not one that did not change for this long: a market that has ended sends nothing any more."""


class _Change(Struct):
    asset_id: str
    price: Raw
    size: Raw
    side: str
    best_bid: Raw = Raw()
    best_ask: Raw = Raw()


class _Event(Struct):
    event_type: str = ""
    asset_id: str = ""
    timestamp: Raw = Raw()
    bids: list[WireLevel] | None = None
    asks: list[WireLevel] | None = None
    price_changes: list[_Change] = []
    assets_ids: list[str] = []


_EVENT, _EVENTS = msgspec.json.Decoder(_Event), msgspec.json.Decoder(list[_Event])


class _Live:
    """The levels of a token by price in micros; not `whole` before its first book and while it has a hole."""

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.time = 0
        self.whole = False
        self.received = 0.0
        self.hole_at = 0.0
        self.subscribed_at: float | None = None

    def replace(self, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]) -> None:
        self.bids, self.asks, self.whole = dict(bids), dict(asks), True

    def end(self) -> None:
        """The market has ended: there is no book any more, and none that a new subscription would bring."""
        self.whole, self.hole_at = False, 0.0

    def best(self) -> tuple[int | None, int | None]:
        return max(self.bids, default=None), min(self.asks, default=None)


class PolymarketBookChannel:
    """One connection. `on_terms` is called with a token whose limits for orders have changed."""

    levels = None
    only_listed = False
    ping = "PING"
    ping_seconds = 2.0
    fresh_seconds = 5.0
    quiet_seconds = 30.0

    def __init__(self, on_terms: Callable[[str], None] = lambda token: None) -> None:
        self._live: dict[str, _Live] = {}
        self._on_terms = on_terms
        self._begun = False
        self._heard_at = 0.0
        self._data_at = 0.0

    @property
    def assets(self) -> Collection[str]:
        return self._live

    def missing(self, assets: Sequence[str], at: float) -> list[str]:
        for token in assets:
            self._live.setdefault(token, _Live())
        holes = [token for token, live in self._live.items() if _is_to_repair(live, at)]
        new = [token for token, live in self._live.items() if live.subscribed_at is None][:TOKENS_AT_A_TIME]
        for token in (*holes, *new):
            self._live[token].subscribed_at = at
        frames = [_operation("unsubscribe", holes), _operation("subscribe", holes)] if holes else []
        if new:
            frames.append(_operation("subscribe", new) if self._begun else _subscription(new))
            self._begun = True
        return frames

    def drop(self, assets: Sequence[str]) -> list[str]:
        for token in assets:
            self._live.pop(token, None)
        return [_operation("unsubscribe", assets)] if assets else []

    def receive(self, frame: str, at: float) -> Heard:
        self._heard_at = at
        if not frame.startswith(("{", "[")):
            return Heard.ALIVE  # PONG, and what is no data
        try:
            events = _EVENTS.decode(frame) if frame.startswith("[") else [_EVENT.decode(frame)]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise WireError(f"a frame of the market channel cannot be read: {error}") from error
        self._data_at = at
        for event in events:
            self._take(event, at)
        return Heard.DATA

    def _take(self, event: _Event, at: float) -> None:
        match event.event_type:
            case "book" if event.asset_id in self._live:
                self._book(self._live[event.asset_id], event, at)
            case "price_change":
                for change in event.price_changes:
                    live = self._live.get(change.asset_id)
                    if live is not None and live.whole:
                        self._change(live, change, event, at)
            case "tick_size_change":
                self._on_terms(event.asset_id)
            case "market_resolved":
                for token in event.assets_ids:
                    self._on_terms(token)
                    if token in self._live:
                        self._live[token].end()

    def _book(self, live: _Live, event: _Event, at: float) -> None:
        try:
            live.replace(levels(event.bids or []), levels(event.asks or []))
            live.time, live.received = _time(event), at
        except WireError:
            _break(live, at)

    def _change(self, live: _Live, change: _Change, event: _Event, at: float) -> None:
        try:
            side = {"BUY": live.bids, "SELL": live.asks}[change.side]
            at_price = price(change.price, "price")
            size = json_fields.exact_micros(json_fields.needed(change.size, "size"), "size")
            if size > 0:
                side[at_price] = size
            else:
                side.pop(at_price, None)
            live.time, live.received = _time(event), at
            stated = _best(change.best_bid), _best(change.best_ask)
        except (WireError, KeyError):
            return _break(live, at)
        if any(one is not None and one != own for one, own in zip(stated, _edges(live), strict=True)):
            _break(live, at)
        return None

    def newest(self, asset: str, at: float) -> Newest | None:
        live = self._live.get(asset)
        if live is None or not live.whole:
            return None
        bid, ask = live.best()
        if bid is not None and ask is not None and bid >= ask:
            return None
        book = Book(live.time, tuple(sorted(live.bids.items(), reverse=True)), tuple(sorted(live.asks.items())))
        # Nothing was lost before a later frame of the same connection: an unchanged book is as current as that.
        proven = self._heard_at - self._data_at <= _QUIET_SECONDS and at - live.received <= _UNCHANGED_SECONDS
        return Newest(book, self._heard_at if proven else live.received)

    def suspect(self) -> str | None:
        return None


def _is_to_repair(live: _Live, at: float) -> bool:
    if live.whole or live.subscribed_at is None or not live.hole_at:
        return False
    return at - live.hole_at > _HOLE_SECONDS and at - live.subscribed_at > _REPAIR_SECONDS


def _break(live: _Live, at: float) -> None:
    live.whole, live.hole_at = False, at


def _edges(live: _Live) -> tuple[int, int]:
    """The best bid and ask as a change states them: 0 and 1 for an empty side."""
    bid, ask = live.best()
    return bid or 0, MICRO if ask is None else ask


def _best(raw: Raw) -> int | None:
    """The best price that a change states, in micros; None when it states none."""
    value = json_fields.number(raw, "best price")
    return None if value is None else json_fields.exact_micros(value, "best price")


def _time(event: _Event) -> int:
    return json_fields.milliseconds(json_fields.needed(event.timestamp, "timestamp"), "timestamp")


def _subscription(tokens: Sequence[str]) -> str:
    wire = {"assets_ids": list(tokens), "type": "market", "custom_feature_enabled": True}
    return msgspec.json.encode(wire).decode()


def _operation(operation: str, tokens: Sequence[str]) -> str:
    return msgspec.json.encode({"operation": operation, "assets_ids": list(tokens)}).decode()
