"""The positions of a wallet as the Data API returns them, with their average price, and their value."""

from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from domain.events import SeededPosition
from gateways.polymarket import json_fields
from gateways.venue_errors import WireError


class WirePosition(
    Struct,
    rename={
        "token_1": "asset",
        "token_2": "token_id",
        "market_1": "conditionId",
        "market_2": "condition_id",
        "size_1": "size",
        "size_2": "current_size",
        "price_1": "avgPrice",
        "price_2": "avg_price",
    },
):
    """A position in both spellings; the fields of the other version are empty."""

    token_1: Raw = Raw()
    token_2: Raw = Raw()
    market_1: Raw = Raw()
    market_2: Raw = Raw()
    size_1: Raw = Raw()
    size_2: Raw = Raw()
    price_1: Raw = Raw()
    price_2: Raw = Raw()


class WireValue(Struct):
    value: Raw


class WireValueEnvelope(Struct):
    data: WireValue


_POSITIONS = msgspec.json.Decoder(list[WirePosition])
_VALUES = msgspec.json.Decoder(list[WireValue])
_VALUE = msgspec.json.Decoder(WireValueEnvelope)


class Report(NamedTuple):
    """The open positions of a wallet, and the assets whose row cannot be read."""

    positions: tuple[SeededPosition, ...]
    unread: tuple[str, ...]


def parse_positions(payload: bytes) -> Report:
    """An array of either version's rows; those of size 0 are left out. Raises WireError, also for a row without an
    asset and for an asset that is listed twice: then it is not known what the report leaves out.

    `price_micros` is the average price to the nearest micro, None where the venue knows none or states one that no
    outcome token can have cost: it is a matter of display there, and the size counts all the same.
    """
    try:
        wires = _POSITIONS.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not an array of positions: {error}") from error
    rows: dict[str, SeededPosition | None] = {}
    for wire in wires:
        asset = json_fields.token(json_fields.text(wire.token_1 or wire.token_2, "asset"))
        if asset in rows:
            raise WireError(f"asset {asset} is listed twice: the pages have shifted between two requests")
        try:
            rows[asset] = _position(asset, wire)
        except WireError:
            rows[asset] = None
    held = tuple(row for row in rows.values() if row is not None and row.share_micros)
    return Report(held, tuple(asset for asset, row in rows.items() if row is None))


def _position(asset: str, wire: WirePosition) -> SeededPosition:
    shares = json_fields.exact_micros(json_fields.needed(wire.size_1 or wire.size_2, "size"), f"size of {asset}")
    if shares < 0:
        raise WireError(f"size of {asset} is negative; an outcome token cannot be held short")
    return SeededPosition(
        asset=asset,
        share_micros=shares,
        market=json_fields.hexadecimal(json_fields.text(wire.market_1 or wire.market_2, "market"), "market"),
        price_micros=_average(wire.price_1 or wire.price_2, asset),
    )


def parse_value(payload: bytes) -> int:
    """The value of a wallet's positions in micros of dollars; 0 for a wallet that has none. Raises WireError."""
    try:
        values = _VALUES.decode(payload) if payload.lstrip()[:1] == b"[" else [_VALUE.decode(payload).data]
    except msgspec.MsgspecError as error:
        raise WireError(f"not the value of a wallet: {error}") from error
    if len(values) > 1:
        raise WireError(f"{len(values)} values came for one wallet")
    return sum(json_fields.nearest_micros(json_fields.needed(one.value, "value"), "value") for one in values)


def _average(raw: Raw, asset: str) -> int | None:
    try:
        price = json_fields.number(raw, f"average price of {asset}")
    except WireError:
        return None
    if price is None or not 0 <= price <= 1:
        return None
    return json_fields.nearest_micros(price, f"average price of {asset}")
