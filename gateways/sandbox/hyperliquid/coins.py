"""The coins of the sandbox and the venue's tick rule.

A price has at most 5 significant figures and at most `6 - szDecimals` decimals (whole numbers are always allowed);
a size has at most `szDecimals` decimals.
"""

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Final

_SIGNIFICANT_FIGURES: Final = 5
_PERP_DECIMALS: Final = 6


@dataclass(frozen=True)
class Coin:
    """A perpetual: `xyz:SP500` belongs to the dex `xyz`, a name without a colon to the main dex `""`."""

    name: str
    sz_decimals: int
    max_leverage: int
    opening_px: Decimal = Decimal(1)

    @property
    def dex(self) -> str:
        return self.name.partition(":")[0] if ":" in self.name else ""

    @property
    def lot(self) -> Decimal:
        """The smallest size, in base units."""
        return Decimal(1).scaleb(-self.sz_decimals)

    def tick(self, px: Decimal) -> Decimal:
        """The price step allowed at `px`, in USD."""
        by_figures = _SIGNIFICANT_FIGURES - 1 - px.adjusted()
        return Decimal(1).scaleb(-max(0, min(by_figures, _PERP_DECIMALS - self.sz_decimals)))

    def snap(self, px: Decimal, rounding: str) -> Decimal:
        """`px` moved to an allowed price in the direction of `rounding` (a `decimal` rounding mode)."""
        return px.quantize(self.tick(px), rounding=rounding)

    def size(self, usd: Decimal, px: Decimal) -> Decimal:
        """The base units that `usd` buys at `px`, rounded down to whole lots but never below one."""
        return max(self.lot, (usd / px).quantize(self.lot, rounding=ROUND_DOWN))


COINS: Final[tuple[Coin, ...]] = (
    Coin("BTC", 5, 40, Decimal("66405")),
    Coin("ETH", 4, 25, Decimal("1903.9")),
    Coin("SOL", 2, 20, Decimal("84.12")),
    Coin("BNB", 3, 10, Decimal("642.35")),
    Coin("DOGE", 0, 10, Decimal("0.073512")),
    Coin("kPEPE", 0, 10, Decimal("0.011824")),
    Coin("XRP", 0, 20, Decimal("1.1462")),
    Coin("LINK", 1, 10, Decimal("14.327")),
    Coin("AVAX", 2, 10, Decimal("17.468")),
    Coin("SUI", 1, 10, Decimal("2.2784")),
    Coin("HYPE", 2, 10, Decimal("38.455")),
    Coin("PUMP", 0, 10, Decimal("0.005483")),
    Coin("xyz:SP500", 3, 20, Decimal("6512.4")),
)

BY_NAME: Final[dict[str, Coin]] = {coin.name: coin for coin in COINS}
