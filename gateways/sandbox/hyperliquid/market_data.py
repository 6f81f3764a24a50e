"""What the venue prints: trades, fills and books, with their exact wire shapes.

Prices are USD and sizes base units, both `Decimal`; on the wire they are decimal strings without an exponent.
`time` is the block time in ms; `side` is `B` (buy) or `A` (sell).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final

# The venue prints no transaction for TWAP slices.
ZERO_HASH: Final = "0x" + "0" * 64
_ZERO: Final = Decimal(0)


def text(number: Decimal) -> str:
    """A decimal as the venue writes it: no exponent, no trailing zeros, one decimal at least (`66405.0`)."""
    if not number:
        return "0.0"
    plain = f"{number.normalize():f}"
    return plain if "." in plain else plain + ".0"


@dataclass(frozen=True)
class Trade:
    """One match. `side` is the aggressor's; `users` is (buyer, seller), so the taker is `users[side == "A"]`."""

    coin: str
    side: str
    px: Decimal
    sz: Decimal
    time: int
    hash: str
    tid: int
    users: tuple[str, str]

    def wire(self) -> dict[str, object]:
        return {
            "coin": self.coin,
            "side": self.side,
            "px": text(self.px),
            "sz": text(self.sz),
            "time": self.time,
            "hash": self.hash,
            "tid": self.tid,
            "users": list(self.users),
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "Trade":
        buyer, seller = wire["users"]
        return cls(
            coin=wire["coin"],
            side=wire["side"],
            px=Decimal(wire["px"]),
            sz=Decimal(wire["sz"]),
            time=wire["time"],
            hash=wire["hash"],
            tid=wire["tid"],
            users=(buyer, seller),
        )


@dataclass(frozen=True)
class Liquidation:
    """Why a position was closed by force; `method` is `market` or `backstop`. It is on the fills of both sides."""

    user: str
    mark: Decimal
    method: str

    def wire(self) -> dict[str, object]:
        return {"liquidatedUser": self.user, "markPx": text(self.mark), "method": self.method}


@dataclass(frozen=True)
class Fill:
    """One side of a trade as its owner sees it. `side` is the owner's; `start_position` is signed, before the fill."""

    coin: str
    px: Decimal
    sz: Decimal
    side: str
    time: int
    start_position: Decimal
    dir: str
    closed_pnl: Decimal
    hash: str
    oid: int
    crossed: bool
    fee: Decimal
    tid: int
    twap_id: int | None = None
    cloid: str | None = None
    liquidation: Liquidation | None = None

    def wire(self) -> dict[str, object]:
        named: dict[str, object] = {} if self.cloid is None else {"cloid": self.cloid}
        if self.liquidation is not None:
            named["liquidation"] = self.liquidation.wire()
        return named | {
            "coin": self.coin,
            "px": text(self.px),
            "sz": text(self.sz),
            "side": self.side,
            "time": self.time,
            "startPosition": text(self.start_position),
            "dir": self.dir,
            "closedPnl": text(self.closed_pnl),
            "hash": self.hash,
            "oid": self.oid,
            "crossed": self.crossed,
            "fee": text(self.fee),
            "tid": self.tid,
            "feeToken": "USDC",
            "twapId": self.twap_id,
        }


@dataclass(frozen=True)
class Funding:
    """What one position paid (`usdc` below zero) or received at `time` in ms. `size` is signed, in base units."""

    time: int
    coin: str
    usdc: Decimal
    size: Decimal
    rate: Decimal

    def wire(self) -> dict[str, object]:
        """As the socket sends it; `/info` nests it."""
        return {
            "time": self.time,
            "coin": self.coin,
            "usdc": text(self.usdc),
            "szi": text(self.size),
            "fundingRate": text(self.rate),
            "nSamples": None,
        }


@dataclass(frozen=True)
class Level:
    """`n` orders that together rest `sz` at `px`."""

    px: Decimal
    sz: Decimal
    n: int

    def wire(self) -> dict[str, object]:
        return {"px": text(self.px), "sz": text(self.sz), "n": self.n}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "Level":
        return cls(Decimal(wire["px"]), Decimal(wire["sz"]), wire["n"])


@dataclass(frozen=True)
class Book:
    """Resting orders: bids descending, asks ascending, never crossed."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]

    @property
    def top(self) -> tuple[Level | None, Level | None]:
        return (self.bids[0] if self.bids else None, self.asks[0] if self.asks else None)

    @property
    def mid(self) -> Decimal | None:
        """Halfway between best bid and best ask; None while a side is empty."""
        return (self.bids[0].px + self.asks[0].px) / 2 if self.bids and self.asks else None

    def with_top(self, bid: Level | None, ask: Level | None) -> "Book":
        """The book after a newer best bid and ask: whatever they contradict is gone."""
        bids = () if bid is None else (bid, *(level for level in self.bids if level.px < bid.px))
        asks = () if ask is None else (ask, *(level for level in self.asks if level.px > ask.px))
        return Book(bids, asks)

    def rounded(self, figures: int, mantissa: int = 1) -> "Book":
        """Levels merged away from the mid: `figures` significant figures, in steps of `mantissa` units of the last."""
        return Book(
            _merged(self.bids, figures, mantissa, ROUND_FLOOR), _merged(self.asks, figures, mantissa, ROUND_CEILING)
        )


def _merged(levels: Iterable[Level], figures: int, mantissa: int, rounding: str) -> tuple[Level, ...]:
    merged: dict[Decimal, tuple[Decimal, int]] = {}
    for level in levels:
        step = Decimal(mantissa).scaleb(level.px.adjusted() - figures + 1)
        px = (level.px / step).to_integral_value(rounding) * step
        size, orders = merged.get(px, (_ZERO, 0))
        merged[px] = (size + level.sz, orders + level.n)
    return tuple(Level(px, size, orders) for px, (size, orders) in merged.items())
