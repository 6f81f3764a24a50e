"""Values that events of several streams share. Units are those of the package's docstring."""

from enum import StrEnum

from msgspec import Struct


class Action(StrEnum):
    """What a change does to a position."""

    OPEN = "OPEN"
    INCREASE = "INCREASE"
    DECREASE = "DECREASE"
    CLOSE = "CLOSE"
    FLIP = "FLIP"
    SPLIT = "SPLIT"
    MERGE = "MERGE"
    REDEEM = "REDEEM"


class GroupCause(StrEnum):
    """How a group's change came about: by trades, by a SPLIT, MERGE or REDEEM, or found later in what the venue states;
    ORDERED is no group's: an operator or the configuration closed the copy.

    Only trades have a price and can open anything.
    """

    TRADE = "TRADE"
    MOVEMENT = "MOVEMENT"
    GAP = "GAP"
    ORDERED = "ORDERED"


class Side(StrEnum):
    """Which way a position points."""

    LONG = "LONG"
    SHORT = "SHORT"
    FLAT = "FLAT"


class TradeSide(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        return 1 if self is TradeSide.BUY else -1


class PositionState(StrEnum):
    """How certain an influencer's position is: stated by the venue, folded from nothing, or older than its snapshot."""

    KNOWN = "KNOWN"
    ASSUMED = "ASSUMED"
    HISTORIC = "HISTORIC"


class PortfolioScope(StrEnum):
    """Whose portfolio it is: a subscriber's own, one of the two that come with an influencer, or the influencer's."""

    SUBSCRIBER = "SUBSCRIBER"
    EXEC_USER = "EXEC_USER"
    EXEC_GLOBAL = "EXEC_GLOBAL"
    SHADOW_USER = "SHADOW_USER"


class Mode(StrEnum):
    PAPER = "paper"
    LIVE = "live"
    RECORD_ONLY = "record_only"


class Decision(StrEnum):
    EXECUTE = "EXECUTE"
    SKIP = "SKIP"


Level = tuple[int, int]
"""One book level: (price_micros, share_micros)."""


class Terms(Struct, frozen=True, omit_defaults=True):
    """A venue's terms for orders in one asset.

    `fee_rate_micros` r means a taker fee of r x shares x p x (1 - p) (Polymarket); None means the policy's share of
    notional. `closes_at` is when trading is to end (ns), `opens_at` when what the market is about begins, or else when
    it was listed; `accepting` whether the venue takes orders now; `market` is what the asset belongs to. A price is a
    multiple of `tick_micros` with at most `significant_digits` (0: any number); whole dollars may have more.
    """

    size_step_micros: int
    tick_micros: int = 1
    min_share_micros: int = 0
    min_notional_micros: int = 0
    fee_rate_micros: int | None = None
    closes_at: int | None = None
    accepting: bool = True
    market: str = ""
    significant_digits: int = 0
    opens_at: int | None = None
