"""The frames the venue sends, encoded: one function a channel, keys in the venue's order."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from gateways.sandbox.hyperliquid.market_data import Book, Fill, Funding, Trade, text
from gateways.sandbox.hyperliquid.orders import Order
from gateways.sandbox.hyperliquid.subscriptions import Topic

FAST_LEVELS: Final = 5
LEVELS: Final = 20

PONG: Final = b'{"channel":"pong"}'


def frame(channel: str, data: object) -> bytes:
    return msgspec.json.encode({"channel": channel, "data": data})


def error(message: str) -> bytes:
    return frame("error", message)


def subscribed(method: str, wire: Mapping[str, object]) -> bytes:
    """The acknowledgement of a `subscribe` or `unsubscribe`."""
    return frame("subscriptionResponse", {"method": method, "subscription": wire})


def trades(printed: Iterable[Trade]) -> bytes:
    """Trades of one coin in execution order; a replay looks the same as a live frame."""
    return frame("trades", [trade.wire() for trade in printed])


def bbo(coin: str, book: Book, time_ms: int) -> bytes:
    """Best bid and best ask; an empty side is null."""
    return frame("bbo", {"coin": coin, "time": time_ms, "bbo": [level and level.wire() for level in book.top]})


def book_wire(coin: str, book: Book, time_ms: int, *, levels: int = LEVELS) -> dict[str, object]:
    """The body of an `l2Book` frame and of the `/info` answer."""
    sides = [[level.wire() for level in side[:levels]] for side in (book.bids, book.asks)]
    return {"coin": coin, "time": time_ms, "levels": sides}


def l2_book(topic: Topic, book: Book, time_ms: int) -> bytes:
    """The book in the variant that `topic` asks for: 20 levels a side, 5 when fast, merged when figures are given."""
    shown = book if topic.figures is None else book.rounded(topic.figures, topic.mantissa or 1)
    if topic.fast:
        return frame("l2Book", book_wire(topic.name, shown, time_ms, levels=FAST_LEVELS) | {"fast": True})
    return frame("l2Book", book_wire(topic.name, shown, time_ms))


def all_mids(dex: str, mids: Mapping[str, Decimal]) -> bytes:
    """All mids of one dex; the main dex is not named."""
    named: dict[str, object] = {"dex": dex} if dex else {}
    return frame("allMids", named | {"mids": {coin: text(mid) for coin, mid in mids.items()}})


def user_fills(user: str, fills: Iterable[Fill], *, snapshot: bool) -> bytes:
    """Fills of one user: the flagged snapshot newest first, or a live push, which carries no flag at all."""
    flag: dict[str, object] = {"isSnapshot": True} if snapshot else {}
    return frame("userFills", flag | {"user": user, "fills": [fill.wire() for fill in fills]})


def order_updates(orders: Iterable[Order]) -> bytes:
    """Orders of one account as they are now; the venue names no user in this channel."""
    return frame(
        "orderUpdates",
        [{"order": order.wire(), "status": order.status, "statusTimestamp": order.status_at} for order in orders],
    )


def user_event(event: Mapping[str, object]) -> bytes:
    """Fills, a funding, a liquidation or a cancel of one account; the channel `userEvents` arrives as `user`."""
    return frame("user", event)


def user_fundings(user: str, fundings: Iterable[Funding], *, snapshot: bool) -> bytes:
    """Fundings of one user: the flagged snapshot newest first, or a live push."""
    flag: dict[str, object] = {"isSnapshot": True} if snapshot else {}
    return frame("userFundings", flag | {"user": user, "fundings": [funding.wire() for funding in fundings]})


def posted(number: int, kind: str, payload: object) -> bytes:
    """The answer to one `post`; `kind` is `info`, `action` or `error`."""
    return frame("post", {"id": number, "response": {"type": kind, "payload": payload}})
