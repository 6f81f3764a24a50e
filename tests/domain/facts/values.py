"""Names, times and numbers that facts share."""

from domain.events import Level, TradeSide
from domain.micros import micros

T0 = 1_784_683_600_000_000_000
MS = 1_000_000
ANN = "0x" + "a" * 40
BOB = "0x" + "b" * 40

BUY, SELL = TradeSide.BUY, TradeSide.SELL


def at(ms: int) -> int:
    """A time: milliseconds after the beginning of every spec, in ns."""
    return T0 + ms * MS


def levels(*texts: str) -> tuple[Level, ...]:
    """'100.05 x 3' -> (100_050_000, 3_000_000)."""
    pairs = (text.split(" x ") for text in texts)
    return tuple((micros(price), micros(size)) for price, size in pairs)
