"""A user's own fills, as userFillsByTime and userTwapSliceFillsByTime return them (docs/venues/hyperliquid.md, fills).

A fill has more fields than the public trade of which it is a side: the position before it, the fee, the order, a
liquidation. It has the same id as that side of the trade, so that the one that comes second is recognised. Rows without
a trade (dust conversions have tid 0, rows of 2023 have none) get an id made of their own fields.
"""

from hashlib import blake2b

import msgspec
from msgspec import Raw, Struct

from domain.events import TradeSide, Venue
from domain.micros import NotExactError, micros, times
from domain.signals import Trade
from gateways.hyperliquid.parsing import MILLISECOND, ZERO_HASH, TradeHead, exact, positive, raw_id
from gateways.venue_errors import WireError

FILLS_CHANNEL = "userFills"
LONGEST_COIN = 100

_DOLLARS = frozenset({"USDC", "USDH", "USDT0", "USDE"})
"""Fee tokens that are the quote of a market: a fee in them is in the same dollars as its prices."""
_SIDES = {"B": TradeSide.BUY, "A": TradeSide.SELL}
_ORDER_TYPES = {
    "Auto-Deleveraging": "adl",
    "Settlement": "settlement",
    "Spot Dust Conversion": "dust_conversion",
    "Net Child Vaults": "netting",
    "Split Outcome": "outcome",
    "Merge Outcome": "outcome",
    "Merge Question": "outcome",
    "Negate Outcome": "outcome",
}
"""`dir` of what the venue does by itself, without an order. Such a row may have a price of zero."""


class WireLiquidation(Struct):
    liquidatedUser: str | None = None  # noqa: N815 - the venue's name
    method: str = ""


class WireFill(Struct):
    """One fill; `side` is this user's own. Fields that the venue does not always send have defaults."""

    coin: str
    px: str
    sz: str
    side: str
    time: int
    crossed: bool
    startPosition: str | None = None  # noqa: N815
    dir: str = ""
    hash: str = ""
    oid: int | None = None
    fee: str | None = None
    tid: int | None = None
    feeToken: str | None = None  # noqa: N815
    twapId: int | None = None  # noqa: N815
    liquidation: WireLiquidation | None = None


class _Slice(Struct):
    """A row of the TWAP query wraps its fill."""

    fill: WireFill | None = None
    twapId: int | None = None  # noqa: N815


_FILL = msgspec.json.Decoder(WireFill)
_SLICE = msgspec.json.Decoder(_Slice)


def read_fill(row: bytes | Raw) -> WireFill:
    """One row of either query, with a coin and a time that fit into an id. Raises WireError."""
    try:
        wrapped = _SLICE.decode(row)
        wire = wrapped.fill or _FILL.decode(row)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a fill: {error}") from error
    if wrapped.fill is not None and wire.twapId is None:
        wire.twapId = wrapped.twapId
    if not 0 < len(wire.coin) <= LONGEST_COIN or not wire.coin.isprintable() or wire.time <= 0:
        raise WireError(f"a fill of coin {wire.coin[:LONGEST_COIN]!r} at time {wire.time}")
    if wire.side not in _SIDES:
        raise WireError(f"side {wire.side!r} is neither 'A' nor 'B'")
    return wire


def fill_id(row: bytes | Raw | WireFill, address: str) -> str:
    """The id of a fill: that of its side of the public trade, or one of its own where there is none. Raises WireError.

    `address` is lower case.
    """
    wire = row if isinstance(row, WireFill) else read_fill(row)
    side = _SIDES[wire.side]
    if wire.tid:
        return raw_id(TradeHead(wire.coin, wire.side, wire.time, wire.tid, ("", "")), address, side)
    # The position before differs between rows that are equal otherwise; the order of fields differs between answers.
    fields = "\x1f".join(map(str, (wire.oid, wire.px, wire.sz, wire.startPosition, wire.dir, wire.hash)))
    digest = blake2b(fields.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"hl:{wire.coin}:{wire.time}:x{digest}:{address}:{wire.side}"


def is_perpetual(coin: str) -> bool:
    """False for spot pairs ('@107', 'PURR/USDC') and outcomes ('#516')."""
    return "/" not in coin and coin[:1] not in ("@", "#", "+")


def parse_fill(
    payload: bytes | Raw, *, source_event_id: str, influencer_id: str, address: str, detect_time: int
) -> Trade:
    """One fill of `address`. Raises WireError.

    `start_micros` is None for spot and outcomes: fees and transfers move these balances too, so one fill does not begin
    where the last one ended. `fee_micros` is None for a fee in another token; `metadata` has it then.
    """
    wire = read_fill(payload)
    if fill_id(wire, address) != source_event_id:
        raise WireError(f"the fill {fill_id(wire, address)} came as {source_event_id}")
    size = positive(wire.sz, "size")
    price = exact(wire.px, "price") if wire.dir in _ORDER_TYPES else positive(wire.px, "price")
    if price < 0:
        raise WireError(f"price {wire.px!r} is below zero")
    start = None
    if wire.startPosition is not None and is_perpetual(wire.coin):
        start = exact(wire.startPosition, "startPosition")
    return Trade(
        source_event_id=source_event_id,
        venue=Venue.HYPERLIQUID,
        influencer_id=influencer_id,
        address=address,
        asset=wire.coin,
        market=wire.coin,
        trade_side=_SIDES[wire.side],
        share_micros=size,
        price_micros=price,
        notional_micros=times(price, size),
        taker=wire.crossed,
        event_time=wire.time * MILLISECOND,
        detect_time=detect_time,
        metadata=_metadata(wire),
        start_micros=start,
        twin_id=f"{source_event_id[:-1]}{'A' if wire.side == 'B' else 'B'}",
        fee_micros=_fee(wire),
        order_type=_order_type(wire, address),
    )


def _fee(wire: WireFill) -> int | None:
    if wire.fee is None or (wire.feeToken or "USDC") not in _DOLLARS:
        return None
    try:
        return micros(wire.fee)
    except NotExactError:
        return None


def _order_type(wire: WireFill, address: str) -> str | None:
    # The fill of the account on the other side of a liquidation has these fields too, yet was its own order.
    if wire.liquidation is not None and (wire.liquidation.liquidatedUser or address).lower() == address:
        return "liquidation"
    if wire.twapId is not None:
        return "twap"
    return _ORDER_TYPES.get(wire.dir)


def _metadata(wire: WireFill) -> dict[str, str]:
    found = {"tid": str(wire.tid or 0), "hash": wire.hash}
    if wire.twapId is not None or wire.hash == ZERO_HASH:
        found["twap"] = "1"
    if wire.twapId is not None:
        found["twap_id"] = str(wire.twapId)
    if wire.oid is not None:
        found["oid"] = str(wire.oid)
    if wire.dir in _ORDER_TYPES:
        found["dir"] = wire.dir
        found.pop("twap", None)
    if wire.liquidation is not None:
        found["liquidation"] = wire.liquidation.method
        if wire.liquidation.liquidatedUser:
            found["liquidated"] = wire.liquidation.liquidatedUser.lower()
    if wire.fee is not None and _fee(wire) is None:
        found["fee"] = f"{wire.fee} {wire.feeToken or 'USDC'}"
    return found
