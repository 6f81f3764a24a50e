"""What a followed wallet may intend to do next."""

from dataclasses import dataclass

from gateways.sandbox.polymarket.ledger import Kind
from gateways.sandbox.polymarket.markets import Listing


@dataclass(frozen=True)
class Idle:
    """Nothing this time."""


@dataclass(frozen=True)
class Take:
    """Cross the spread for `share_micros`."""

    listing: Listing
    outcome: int
    buying: bool
    share_micros: int


@dataclass(frozen=True)
class Hit:
    """Be hit by one taker on resting orders of these sizes, all at the best price."""

    listing: Listing
    outcome: int
    maker_buys: bool
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Regroup:
    """SPLIT collateral into both outcomes or MERGE both back."""

    kind: Kind
    listing: Listing
    share_micros: int


Intent = Idle | Take | Hit | Regroup
