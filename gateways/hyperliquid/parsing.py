"""Hyperliquid's wire formats, parsed exactly: frames of the public feed, trades, books, accounts.

Prices and sizes come as decimal strings and leave as micros; block times as milliseconds and leave as
nanoseconds. A payload that does not fit raises WireError with what was expected and what came.
"""

from decimal import Decimal
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from domain.events import SeededPosition, TradeSide, Venue
from domain.micros import MICRO, NotExactError, micros, times
from domain.signals import Trade
from gateways.venue_errors import WireError
from gateways.venue_types import Book

MILLISECOND = 1_000_000
ZERO_HASH = "0x" + "0" * 64


class Frame(Struct):
    """The outer form of every frame of the feed."""

    channel: str
    data: Raw = Raw(b"null")


class TradeHead(Struct):
    """The fields of a trade that identify it and its parties; the rest stays raw until it is decoded."""

    coin: str
    side: str
    time: int
    tid: int
    users: tuple[str, str]


class TradeSize(Struct):
    """The price and size of a trade."""

    px: str
    sz: str


class WireTrade(Struct):
    """One trade of the public feed: `side` is the aggressor's, `users` are [buyer, seller].

    Source: docs/venues/hyperliquid.md, trades feed.
    """

    coin: str
    side: str
    px: str
    sz: str
    time: int
    hash: str
    tid: int
    users: tuple[str, str]


class WireLeverage(Struct, frozen=True):
    value: int | None = None


class WirePosition(Struct):
    coin: str
    szi: str
    leverage: WireLeverage = WireLeverage()
    entryPx: str | None = None  # noqa: N815 - the venue's name


class WireMargin(Struct):
    accountValue: str  # noqa: N815 - the venue's name


class WireAssetPosition(Struct):
    position: WirePosition


class WireAccount(Struct):
    """clearinghouseState: flat coins are absent."""

    assetPositions: list[WireAssetPosition]  # noqa: N815 - the venue's name
    time: int
    marginSummary: WireMargin | None = None  # noqa: N815


class WireLevel(Struct):
    px: str
    sz: str


class WireBook(Struct):
    coin: str
    time: int
    levels: tuple[list[WireLevel], list[WireLevel]]


FRAME = msgspec.json.Decoder(Frame)
RAW_TRADES = msgspec.json.Decoder(list[Raw])
TRADE_HEAD = msgspec.json.Decoder(TradeHead)
_TRADE_SIZE = msgspec.json.Decoder(TradeSize)
TRADE_HEADS = msgspec.json.Decoder(list[TradeHead])
_TRADE = msgspec.json.Decoder(WireTrade)
_ACCOUNT = msgspec.json.Decoder(WireAccount)
_BOOK = msgspec.json.Decoder(WireBook)


def notional_of(payload: Raw) -> int:
    """The notional (micros) of a trade. Raises NotExactError, or MsgspecError for a payload without price and size."""
    size = _TRADE_SIZE.decode(payload)
    return times(micros(size.px), micros(size.sz))


def raw_id(head: TradeHead, address: str, trade_side: TradeSide) -> str:
    """The id of one side of a trade: (coin, time, tid) identifies the trade, and a self-trade has both sides."""
    return f"hl:{head.coin}:{head.time}:{head.tid}:{address}:{'B' if trade_side is TradeSide.BUY else 'A'}"


def side_in_id(source_event_id: str) -> TradeSide:
    return TradeSide.BUY if source_event_id.endswith(":B") else TradeSide.SELL


def exact(text: str, what: str) -> int:
    """Micros of a decimal. Raises WireError that names it as `what`."""
    try:
        return micros(text)
    except NotExactError as error:
        raise WireError(f"{what} {error}") from error


def positive(text: str, what: str) -> int:
    """Micros of a decimal that must be above zero."""
    value = exact(text, what)
    if value <= 0:
        raise WireError(f"{what} {text!r} is not above zero")
    return value


def parse_trade(payload: bytes, *, source_event_id: str, influencer_id: str, address: str, detect_time: int) -> Trade:
    """One followed side of a trade. Raises WireError."""
    try:
        wire = _TRADE.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a trade: {error}") from error
    if wire.side not in ("A", "B"):
        raise WireError(f"side {wire.side!r} is neither 'A' nor 'B'")
    trade_side = side_in_id(source_event_id)
    party = wire.users[0 if trade_side is TradeSide.BUY else 1]
    if party.lower() != address:
        raise WireError(f"the {trade_side} side belongs to {party}, not to {address}")
    size, price = positive(wire.sz, "size"), positive(wire.px, "price")
    return Trade(
        source_event_id=source_event_id,
        venue=Venue.HYPERLIQUID,
        influencer_id=influencer_id,
        address=address,
        asset=wire.coin,
        market=wire.coin,
        trade_side=trade_side,
        share_micros=size,
        price_micros=price,
        notional_micros=times(price, size),
        taker=(wire.side == "B") == (trade_side is TradeSide.BUY),
        event_time=wire.time * MILLISECOND,
        detect_time=detect_time,
        metadata={"tid": str(wire.tid), "hash": wire.hash} | ({"twap": "1"} if wire.hash == ZERO_HASH else {}),
    )


def _average(text: str | None) -> int | None:
    """A price that is a quotient, to the nearest micro; None where there is none that can be read."""
    try:
        return round(Decimal(text) * MICRO) if text is not None else None
    except (ArithmeticError, ValueError):
        return None


class AccountSnapshot(NamedTuple):
    """An account as of `time` (ns): its open positions, and its equity on this dex where the venue reports it."""

    time: int
    positions: tuple[SeededPosition, ...]
    equity_micros: int | None


def parse_account(payload: bytes) -> AccountSnapshot:
    """A clearinghouseState. Raises WireError."""
    try:
        wire = _ACCOUNT.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not an account snapshot: {error}") from error
    positions = tuple(
        SeededPosition(
            held.coin,
            exact(held.szi, f"szi of {held.coin}"),
            held.leverage.value,
            held.coin,
            _average(held.entryPx),
        )
        for held in (row.position for row in wire.assetPositions)
    )
    margin = wire.marginSummary
    equity = exact(margin.accountValue, "accountValue") if margin is not None else None
    return AccountSnapshot(wire.time * MILLISECOND, positions, equity)


def parse_book(payload: bytes) -> Book | None:
    """An l2Book answer, or None for a coin that the venue does not know. Raises WireError."""
    if payload.strip() == b"null":
        return None
    try:
        wire = _BOOK.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a book: {error}") from error
    bids, asks = (
        tuple((positive(level.px, "price"), positive(level.sz, "size")) for level in side) for side in wire.levels
    )
    return Book(wire.time * MILLISECOND, tuple(sorted(bids, reverse=True)), tuple(sorted(asks)))
