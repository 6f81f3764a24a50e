"""What a client may send on the WebSocket, and the normal form the venue gives it in acknowledgements.

The venue adds defaults, lower-cases addresses and drops what it does not know, so an `unsubscribe` means the same feed
as its `subscribe` however it is spelt.
"""

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import msgspec

from gateways.sandbox.hyperliquid.candles import INTERVALS

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")


class Unparsable(ValueError):  # noqa: N818 - the venue's own word for it
    """The venue does not know such a message; it answers with an error frame that quotes the text."""


class Topic(NamedTuple):
    """One feed. `name` is the coin, the user or the dex; the rest distinguishes variants of `l2Book`."""

    channel: str
    name: str
    fast: bool = False
    figures: int | None = None
    mantissa: int | None = None
    detail: str = ""
    """The coin or the dex of a user's feed, or the interval of a candle."""


USER_CHANNELS: Final = frozenset(
    {
        "userFills",
        "userEvents",
        "orderUpdates",
        "openOrders",
        "clearinghouseState",
        "userFundings",
        "userNonFundingLedgerUpdates",
        "activeAssetData",
    }
)
"""The feeds that count into the limit on users."""


@dataclass(frozen=True)
class Subscription:
    """A feed and the normalised object that acknowledges it."""

    topic: Topic
    wire: dict[str, object]


@dataclass(frozen=True)
class Post:
    """One request over the socket; the answer carries its `id`."""

    id: int
    kind: Literal["info", "action"]
    payload: Any


@dataclass(frozen=True)
class Request:
    """`ping`, `subscribe` or `unsubscribe` with its feed, or `post` with what `/info` or `/exchange` takes."""

    method: Literal["ping", "subscribe", "unsubscribe", "post"]
    subscription: Subscription | None = None
    post: Post | None = None


def address(value: object) -> str:
    """A lower-cased address; raises `Unparsable` when `value` is no address."""
    if isinstance(value, str) and _ADDRESS.fullmatch(value):
        return value.lower()
    raise Unparsable(f"expected 0x and 40 hex digits, got {value!r}")


def parse(raw: str | bytes) -> Request:
    """The request in one frame of a client; raises `Unparsable`."""
    try:
        message = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unparsable(str(error)) from error
    match message:
        case {"method": "ping"}:
            return Request("ping")
        case {"method": "subscribe" | "unsubscribe" as method, "subscription": {"type": str(kind), **rest}}:
            return Request(method, _subscription(kind, rest))
        case {"method": "post", "id": int(number), "request": {"type": "info" | "action" as kind, "payload": payload}}:
            return Request("post", post=Post(number, kind, payload))
    raise Unparsable("expected a ping, subscribe, unsubscribe or post")


def _subscription(kind: str, rest: dict[Any, Any]) -> Subscription:
    match kind, rest:
        case "candle", {"coin": str(coin), "interval": str(interval)} if interval in INTERVALS:
            return Subscription(Topic(kind, coin, detail=interval), {"type": kind, "coin": coin, "interval": interval})
        case "activeAssetData", {"user": user, "coin": str(coin)}:
            user = address(user)
            return Subscription(Topic(kind, user, detail=coin), {"type": kind, "user": user, "coin": coin})
        case (("openOrders" | "clearinghouseState"), {"user": user}) if isinstance(rest.get("dex") or "", str):
            user, dex = address(user), rest.get("dex") or ""
            return Subscription(Topic(kind, user, detail=dex), {"type": kind, "user": user, "dex": dex})
        case (("trades" | "bbo" | "activeAssetCtx"), {"coin": str(coin)}):
            return Subscription(Topic(kind, coin), {"type": kind, "coin": coin})
        case "l2Book", {"coin": str(coin)}:
            return _book(coin, **book_options(rest))
        case "allMids", _ if isinstance(rest.get("dex", ""), str):
            dex = rest.get("dex", "")
            return Subscription(Topic(kind, dex), {"type": kind, **({"dex": dex} if dex else {})})
        # Merged fills are not played here; refusing them is better than sending others than were asked for.
        case "userFills", {"user": user} if not rest.get("aggregateByTime"):
            user = address(user)
            return Subscription(Topic(kind, user), {"type": kind, "user": user, "aggregateByTime": False})
        case (("userEvents" | "orderUpdates" | "userFundings" | "userNonFundingLedgerUpdates"), {"user": user}):
            user = address(user)
            return Subscription(Topic(kind, user), {"type": kind, "user": user})
    raise Unparsable(f"unknown subscription {kind!r}")


def book_options(rest: dict[Any, Any]) -> dict[str, Any]:
    """The `fast`, `figures` (2-5 or None) and `mantissa` (2, 5 or None) of a book request; raises `Unparsable`."""
    fast, figures, mantissa = rest.get("fast") or False, rest.get("nSigFigs"), rest.get("mantissa")
    fits = fast in (True, False) and figures in (None, 2, 3, 4, 5) and mantissa in (None, 2, 5)
    if not fits or (mantissa is not None and figures != 5):
        raise Unparsable("expected nSigFigs 2-5 or null, and mantissa 2, 5 or null with nSigFigs 5")
    return {"fast": fast, "figures": figures, "mantissa": mantissa}


def _book(coin: str, fast: bool, figures: int | None, mantissa: int | None) -> Subscription:
    wire: dict[str, object] = {"type": "l2Book", "coin": coin, "nSigFigs": figures, "mantissa": mantissa}
    return Subscription(Topic("l2Book", coin, fast, figures, mantissa), wire | ({"fast": True} if fast else {}))
