"""What the venue refuses, in its own words. The end of an order's text, ` asset=N`, is added where it is refused."""

from typing import Final


class Refused(Exception):  # noqa: N818 - the venue refuses
    """An action or an order is refused with this text; `status` is what the order's history then shows."""

    def __init__(self, text: str, status: str = "rejected") -> None:
        super().__init__(text)
        self.status = status


class InvalidPayload(Refused):
    """An order that is wrong whatever the market is: the venue then answers one error for the whole batch."""


NEVER_PLACED: Final = "Order was never placed, already canceled, or filled."
NO_MATCH: Final = "Order could not immediately match against any resting orders."
REDUCE_ONLY: Final = "Reduce only order would increase position."
MINIMUM: Final = "Order must have minimum value of $10."
MARGIN: Final = "Insufficient margin to place order."
FAR_PRICE: Final = "Order price cannot be more than 80% away from the reference price"
TICK: Final = "Price must be divisible by tick size."

TEXTS: Final = {
    "tick": (TICK, "tickRejected"),
    "minimum": (MINIMUM, "minTradeNtlRejected"),
    "margin": (MARGIN, "perpMarginRejected"),
    "reduce_only": (REDUCE_ONLY, "reduceOnlyRejected"),
    "no_match": (NO_MATCH, "iocCancelRejected"),
    "no_liquidity": ("No liquidity available for market order.", "marketOrderNoLiquidityRejected"),
    "open_interest": (
        "Order would increase open interest while open interest is capped",
        "positionIncreaseAtOpenInterestCapRejected",
    ),
    "open_interest_price": (
        "Order rejected due to price more aggressive than oracle while at open interest cap",
        "tooAggressiveAtOpenInterestCapRejected",
    ),
    "open_interest_speed": ("Order would increase open interest too quickly", "openInterestIncreaseRejected"),
    "spot_balance": ("Order has insufficient spot balance to trade", "insufficientSpotBalanceRejected"),
    "oracle": ("Order price too far from oracle", "oracleRejected"),
    "far_price": (FAR_PRICE, "rejected"),
    "margin_tier": (
        "Order would cause position to exceed margin tier limit at current leverage",
        "perpMaxPositionRejected",
    ),
    "size": ("Order has invalid size.", "rejected"),
    "zero_size": ("Order has zero size.", "rejected"),
    "price": ("Order has invalid price.", "rejected"),
    "trigger": ("Invalid TP/SL price.", "badTriggerPxRejected"),
    "upgrade": ("Only post-only orders allowed immediately after a network upgrade.", "rejected"),
    "builder_fee": ("Builder fee has not been approved", "rejected"),
}
"""By the names with which the fault `exchange_errors` orders them: the text, and the order's status in its history."""
