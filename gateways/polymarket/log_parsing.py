"""Logs of fills on Polygon: every order that trades has its own OrderFilled log with its owner in topics[2].

A taker's order has one too. The counter-order's log often is the other token with the same side (shares are made or
destroyed in pairs), so only the owner's own log shows its trade. A log that a reorganisation removed is sent again with
`removed` (docs/venues/polymarket.md, chain logs and reorganisations).
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from domain.events import TradeSide
from domain.micros import nearest
from gateways.polymarket import json_fields
from gateways.venue_errors import WireError

CHAIN_ID = 137
FILLED: Final = "0xd543adfd945773f1a62f74f0ee55a5e3b9b1a28262980ba90b1a89f2ea84d8ee"
"""topic0 of OrderFilled on the exchanges since 2026-04-28."""
FILLED_V1: Final = "0xd0a08e8c493f9c94f29311604c9de1b4e8c8d4c06bd0c789af57f2d65bfec0f6"
EXCHANGES = (
    "0xe111180000d2663c0091e4f400237545b87b996b",
    "0xe2222d279d744050d28e00520010520000310f59",
    "0xe3333700ca9d93003f00f0f71f8515005f6c00aa",
)
EXCHANGES_V1 = ("0x4bfb41d5b3570defd03c39a9a4d8de6bd8b8982e", "0xc5d563a36ae78145c45a50134d48a1215220f80a")
_WORDS = {FILLED: 7, FILLED_V1: 5}
_KNOWN = {FILLED: frozenset(EXCHANGES), FILLED_V1: frozenset(EXCHANGES_V1)}


class ChainFill(Struct, frozen=True):
    """The fill of one order in one transaction.

    `notional_micros` is without the fee; `taker` is true for the taker's order.
    """

    wallet: str
    transaction: str
    asset: str
    side: TradeSide
    share_micros: int
    notional_micros: int
    fee_micros: int
    taker: bool
    removed: bool
    block_hash: str
    block_number: int
    log_index: int
    exchange: str


class Log(NamedTuple):
    """A log unmodified, and the time of its block in ns where it is known."""

    payload: Raw
    venue_time: int | None


class WireLog(Struct, rename="camel"):
    address: str
    block_hash: str
    block_number: str
    transaction_hash: str
    log_index: str
    data: str
    topics: list[str]
    removed: bool = False
    block_timestamp: str | None = None


class _Position(Struct, rename="camel"):
    block_hash: str
    log_index: str
    removed: bool = False


_LOG = msgspec.json.Decoder(WireLog)
_POSITION = msgspec.json.Decoder(_Position)


def filter_of(wallets: Sequence[str]) -> dict[str, Any]:
    """The filter for all fills of `wallets` on every exchange, for eth_subscribe and eth_getLogs. Raises WireError."""
    owners = ["0x" + "0" * 24 + json_fields.wallet(one)[2:] for one in wallets]
    return {"address": [*EXCHANGES, *EXCHANGES_V1], "topics": [[FILLED, FILLED_V1], None, owners]}


def log_id(payload: bytes) -> str:
    """`pm-log:137:{block hash}:{log index}`, with `:removed` for a removed log. Raises WireError."""
    try:
        wire = _POSITION.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a log: {error}") from error
    place = f"{_hash(wire.block_hash, 'blockHash')}:{quantity(wire.log_index, 'logIndex')}"
    return f"pm-log:{CHAIN_ID}:{place}{':removed' if wire.removed else ''}"


def block_time(payload: bytes) -> int | None:
    """The time of the log's block in ns, where the log has it. Raises WireError."""
    wire = _log(payload)
    return block_seconds(wire.block_timestamp) if wire.block_timestamp else None


def parse_log(payload: bytes) -> ChainFill:
    """One OrderFilled log of a known exchange. Raises WireError.

    Amounts have six decimals on chain, so they are micros as they are. The first exchanges took the fee of a BUY in
    shares: it is given in micros of a dollar at the fill's own price, and `share_micros` stays what was traded, as in
    the Data API's rows.
    """
    wire = _log(payload)
    if len(wire.topics) != 4:
        raise WireError(f"an OrderFilled log has 4 topics, this one has {len(wire.topics)}")
    kind, exchange = wire.topics[0].lower(), json_fields.wallet(wire.address, "exchange")
    words = _words(wire.data, kind)
    if exchange not in _KNOWN[kind]:
        # Any contract can write a log of this form with any address in it.
        raise WireError(f"{exchange} is not an exchange that writes {kind[:10]}... logs")
    if kind == FILLED:
        side, asset, made, taken, fee = words[:5]
        if side not in (0, 1):
            raise WireError(f"side {side} is neither 0 (BUY) nor 1 (SELL)")
    else:
        making, taking, made, taken, fee = words
        if (making == 0) == (taking == 0):
            raise WireError("exactly one of makerAssetId and takerAssetId must be 0 (the collateral)")
        side, asset = (0, taking) if making == 0 else (1, making)
    shares, notional = (taken, made) if side == 0 else (made, taken)
    _check_amounts(asset, shares, notional, fee)
    if kind == FILLED_V1 and side == 0:
        fee = nearest(notional * fee, shares)
    return ChainFill(
        wallet=_address(wire.topics[2], "topics[2]"),
        transaction=_hash(wire.transaction_hash, "transactionHash"),
        asset=str(asset),
        side=TradeSide.SELL if side else TradeSide.BUY,
        share_micros=shares,
        notional_micros=notional,
        fee_micros=fee,
        taker=_address(wire.topics[3], "topics[3]") == exchange,
        removed=wire.removed,
        block_hash=_hash(wire.block_hash, "blockHash"),
        block_number=quantity(wire.block_number, "blockNumber"),
        log_index=quantity(wire.log_index, "logIndex"),
        exchange=exchange,
    )


def quantity(written: str, what: str) -> int:
    """A JSON-RPC quantity such as '0x32c'. Raises WireError."""
    value = int(json_fields.hexadecimal(written, what), 16)
    if value >= 2**63:
        raise WireError(f"{what} {written[:80]} is out of all bounds")
    return value


def block_seconds(written: str) -> int:
    """Nanoseconds of a block's timestamp, a quantity of seconds. Raises WireError."""
    time = quantity(written, "timestamp of the block")
    if not 0 < time < json_fields.LATEST_SECOND:
        raise WireError(f"timestamp of the block {time} is not a time in seconds since 1970")
    return time * json_fields.SECOND


def _check_amounts(asset: int, shares: int, notional: int, fee: int) -> None:
    if asset == 0:
        raise WireError("tokenId is 0, which is the collateral: a fill trades an outcome token")
    if shares == 0:
        raise WireError("the fill trades no shares")
    if not 0 <= notional <= shares:
        raise WireError(f"{notional} micros paid for {shares} micros of shares: a share costs at most a dollar")
    if fee > shares:
        raise WireError(f"fee {fee} is more than the fill's {shares} micros of shares are worth")
    json_fields.bounded(shares, "size")


def _words(data: str, kind: str) -> list[int]:
    expected = _WORDS.get(kind)
    if expected is None:
        raise WireError(f"topics[0] {kind[:80]!r} is not an OrderFilled event")
    digits = data[2:]
    if not data.startswith("0x") or len(digits) != 64 * expected:
        raise WireError(f"data of {len(digits)} digits: 0x and {expected} words of 64 are expected")
    try:
        return [int.from_bytes(bytes.fromhex(digits[at : at + 64])) for at in range(0, len(digits), 64)]
    except ValueError as error:
        raise WireError(f"data is not hexadecimal: {error}") from error


def _address(topic: str, what: str) -> str:
    if len(topic) != 66 or topic[:26] != "0x" + "0" * 24:
        raise WireError(f"{what} {topic[:80]!r} is not an address in 32 bytes")
    return json_fields.wallet("0x" + topic[26:], what)


def _hash(written: str, what: str) -> str:
    if len(written) != 66:
        raise WireError(f"{what} {written[:80]!r} is not a hash of 32 bytes")
    return json_fields.hexadecimal(written, what)


def _log(payload: bytes) -> WireLog:
    try:
        return _LOG.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a log: {error}") from error
