"""Rows of a wallet's activity as the Data API serves them, and their identity.

Version 1 serves bare arrays in camelCase, version 2 envelopes with a cursor in snake_case; rows of `/trades` are rows
of `/activity` without `type` and `usdcSize`. No row has an id of its own: rows differ in their fields,
and rows with equal fields in their number within one complete response (docs/venues/polymarket.md, row identity).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from domain.events import TradeSide
from domain.micros import MICRO, nearest
from gateways.polymarket import json_fields
from gateways.venue_errors import WireError


class Kind(StrEnum):
    """What a row reports; OTHER is everything that moves money but no outcome tokens."""

    TRADE = "TRADE"
    SPLIT = "SPLIT"
    MERGE = "MERGE"
    REDEEM = "REDEEM"
    CONVERSION = "CONVERSION"
    OTHER = "OTHER"


OTHER_TYPES = (
    "REWARD",
    "DEPOSIT",
    "WITHDRAWAL",
    "YIELD",
    "MAKER_REBATE",
    "TAKER_REBATE",
    "REFERRAL_REWARD",
    "MIGRATION",
    "TIP",
)
KIND_OF_TYPE = {kind.value: kind for kind in Kind if kind is not Kind.OTHER} | dict.fromkeys(OTHER_TYPES, Kind.OTHER)
UNLABELED = 999
"""The outcome index of a row that names no outcome."""
_PRICE_PLACES = 10**10
"""Average prices come rounded to ten decimals."""


class Activity(Struct, frozen=True):
    """One row. `asset` and `market` are "" and `side` and `outcome_index` None where the row names none."""

    kind: Kind
    wallet: str
    transaction: str
    market: str
    asset: str
    side: TradeSide | None
    share_micros: int
    notional_micros: int
    fee_micros: int
    price_micros: int
    outcome_index: int | None
    event_time: int


class Page(NamedTuple):
    """One response; `next_cursor` is None on the last page, and on every page of version 1."""

    rows: list[Raw]
    next_cursor: str | None


class WireRow(
    Struct,
    rename={
        "wallet_1": "proxyWallet",
        "wallet_2": "proxy_wallet",
        "token_1": "asset",
        "token_2": "token_id",
        "market_1": "conditionId",
        "market_2": "condition_id",
        "usdc_1": "usdcSize",
        "usdc_2": "usdc_size",
        "hash_1": "transactionHash",
        "hash_2": "transaction_hash",
        "index_1": "outcomeIndex",
        "index_2": "outcome_index",
    },
):
    """The fields that are read, in both spellings; those of the other version are empty."""

    type: Raw = Raw()
    side: Raw = Raw()
    size: Raw = Raw()
    price: Raw = Raw()
    timestamp: Raw = Raw()
    wallet_1: Raw = Raw()
    wallet_2: Raw = Raw()
    token_1: Raw = Raw()
    token_2: Raw = Raw()
    market_1: Raw = Raw()
    market_2: Raw = Raw()
    usdc_1: Raw = Raw()
    usdc_2: Raw = Raw()
    hash_1: Raw = Raw()
    hash_2: Raw = Raw()
    index_1: Raw = Raw()
    index_2: Raw = Raw()


class WirePagination(Struct):
    has_more: bool
    next_cursor: str | None = None


class WireEnvelope(Struct):
    data: list[Raw]
    pagination: WirePagination


_ROW = msgspec.json.Decoder(WireRow)
_ARRAY = msgspec.json.Decoder(list[Raw])
_ENVELOPE = msgspec.json.Decoder(WireEnvelope)


def page(payload: bytes) -> Page:
    """The rows of a response of either version, in its order. Raises WireError."""
    try:
        if payload.lstrip()[:1] == b"[":
            return Page(_ARRAY.decode(payload), None)
        envelope = _ENVELOPE.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"neither an array nor an envelope of rows: {error}; it begins {payload[:120]!r}") from error
    cursor = envelope.pagination.next_cursor or None
    if not envelope.pagination.has_more:
        return Page(envelope.data, None)
    if cursor is None:
        raise WireError("the page has has_more but no next_cursor")
    return Page(envelope.data, cursor)


def row_key(row: Raw) -> str:
    """`pm:{type}:{wallet}:{tx}:{asset}:{side}:{size}:{price}`: equal for equal rows of either version.

    The row need not be valid: a malformed field contributes a digest of its text, so that a broken row too has an id to
    be stored under. Raises WireError when it is not even an object.
    """
    wire = _row(row)
    return ":".join(
        (
            "pm",
            _part(wire.type) or Kind.TRADE.value,
            _part(wire.wallet_1 or wire.wallet_2).lower(),
            _part(wire.hash_1 or wire.hash_2).lower(),
            _part(wire.token_1 or wire.token_2),
            _part(wire.side),
            _part(wire.size, json_fields.without_noise),
            _part(wire.price, lambda price: price),
        )
    )


def numbered(rows: Iterable[Raw]) -> list[tuple[str, Raw]]:
    """Every row with its id: its key and its number among the rows with that key.

    `rows` must be one complete response: identical fills of one transaction are real, and only their number
    distinguishes them. The same rows in another order have the same ids. Raises WireError.
    """
    counts: Counter[str] = Counter()
    ids = []
    for row in rows:
        key = row_key(row)
        ids.append((f"{key}:{counts[key]}", row))
        counts[key] += 1
    return ids


def parse_activity(payload: bytes) -> Activity:
    """One row of either version. Raises WireError.

    A trade's notional is size x price to the nearest micro, its fee the rest of what was paid (BUY) or is missing from
    what was received (SELL). The average price has ten decimals in version 2, up to 18 in version 1, and may be 1 for
    dust; the venue writes 0 when it has none, which is refused.
    """
    wire = _row(payload)
    written = json_fields.text(wire.type, "type")
    kind = KIND_OF_TYPE.get(written or Kind.TRADE.value)
    if kind is None:
        raise WireError(f"type {written[:80]!r} is unknown; known are {', '.join(KIND_OF_TYPE)}")
    wallet = json_fields.wallet(json_fields.text(wire.wallet_1 or wire.wallet_2, "wallet"))
    event_time = json_fields.seconds(json_fields.needed(wire.timestamp, "timestamp"), "timestamp")
    transaction = json_fields.text(wire.hash_1 or wire.hash_2, "transaction")
    market = json_fields.text(wire.market_1 or wire.market_2, "market")
    asset = json_fields.text(wire.token_1 or wire.token_2, "asset")
    if kind is not Kind.OTHER:
        transaction = json_fields.hexadecimal(transaction, "transaction")
        # A conversion concerns all markets of an event, and need not name one.
        market = json_fields.hexadecimal(market, "market") if market or kind is not Kind.CONVERSION else ""
    size, usdc = json_fields.number(wire.size, "size"), json_fields.number(wire.usdc_1 or wire.usdc_2, "usdcSize")
    if kind is Kind.TRADE:
        side = _side(json_fields.text(wire.side, "side"))
        shares, notional, fee = _trade(side, size, json_fields.needed(wire.price, "price"), usdc)
    else:
        side, fee = None, 0
        shares = _shares(size) if kind is not Kind.OTHER else json_fields.nearest_micros(size or Decimal(0), "size")
        notional = json_fields.nearest_micros(usdc or Decimal(0), "usdcSize")
    return Activity(
        kind=kind,
        wallet=wallet,
        transaction=transaction.lower(),
        market=market.lower(),
        asset=json_fields.token(asset) if asset or kind is Kind.TRADE else "",
        side=side,
        share_micros=shares,
        notional_micros=notional,
        fee_micros=fee,
        price_micros=nearest(notional * MICRO, shares) if shares else 0,
        outcome_index=_outcome_index(wire.index_1 or wire.index_2),
        event_time=event_time,
    )


def _trade(side: TradeSide, size: Decimal | None, price: Decimal, usdc: Decimal | None) -> tuple[int, int, int]:
    shares = _shares(size)
    if not 0 < price <= 1:
        raise WireError(f"price {json_fields.shortest(price)[:80]} of a trade is not above 0 and at most 1")
    whole, part = price.as_integer_ratio()
    notional = nearest(shares * whole, part)
    if usdc is None:
        return shares, notional, 0
    fee = (json_fields.nearest_micros(usdc, "usdcSize") - notional) * side.sign
    # The price is rounded: times many shares, that alone makes a difference, and fees are at least ten micros.
    explained = 1 + shares // (2 * _PRICE_PLACES)
    return shares, notional, fee if fee > explained else 0


def _shares(size: Decimal | None) -> int:
    if size is None or size <= 0:
        raise WireError(
            f"size {'is missing' if size is None else json_fields.shortest(size)[:80]}: it must be above zero"
        )
    return json_fields.exact_micros(size, "size")


def _side(written: str) -> TradeSide:
    try:
        return TradeSide(written)
    except ValueError:
        raise WireError(f"side {written[:80]!r} of a trade is neither 'BUY' nor 'SELL'") from None


def _outcome_index(raw: Raw) -> int | None:
    value = json_fields.number(raw, "outcomeIndex")
    if value is None or value == UNLABELED:
        return None
    if value not in range(256):
        raise WireError(f"outcomeIndex {json_fields.shortest(value)[:80]} is not a small whole number")
    return int(value)


_PLAIN = re.compile(r"[0-9A-Za-z_.\-]{0,80}")


def _part(raw: Raw, number: Callable[[Decimal], Decimal] | None = None) -> str:
    try:
        plain = json_fields.text(raw, "field")
        if number and plain:
            return json_fields.shortest(number(json_fields.needed(raw, "field")))
    except WireError:
        return _digest(bytes(raw))
    return plain if _PLAIN.fullmatch(plain) else _digest(plain.encode("utf-8", "surrogatepass"))


def _digest(written: bytes) -> str:
    return f"~{sha256(written).hexdigest()[:16]}"


def _row(payload: bytes | Raw) -> WireRow:
    try:
        return _ROW.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a row of activity: {error}") from error
