"""What happens at the venue, before any block: the vocabulary of the order flow.

`offset_ms` counts from the origin of the scenario; what lies before it has a negative one.
"""

from dataclasses import dataclass

from gateways.sandbox.polymarket.books import Book
from gateways.sandbox.polymarket.ledger import Entry
from gateways.sandbox.polymarket.markets import Listing


@dataclass(frozen=True)
class Order:
    """One order's fill inside a match: its ledger entry and the id its contract event carries."""

    entry: Entry
    order_hash: str


@dataclass(frozen=True)
class Match:
    """One settlement transaction: the makers' fills in the order in which they were met, and the taker's.

    `price_micros` is the first level touched, of the taker's outcome. `book` is the first outcome's afterwards.
    """

    offset_ms: int
    actor: str
    listing: Listing
    makers: tuple[Order, ...]
    taker: Order
    price_micros: int
    book: Book
    transaction: str


@dataclass(frozen=True)
class Move:
    """A transaction of one wallet alone: SPLIT, MERGE, REDEEM, DEPOSIT or MAKER_REBATE."""

    offset_ms: int
    actor: str
    entries: tuple[Entry, ...]
    transaction: str


@dataclass(frozen=True)
class Quote:
    """An order is placed or cancelled: `share_micros` now rest at `price_micros` of the first outcome; 0: none."""

    offset_ms: int
    listing: Listing
    buying: bool
    price_micros: int
    share_micros: int


@dataclass(frozen=True)
class Close:
    """Trading in a market ends."""

    offset_ms: int
    listing: Listing


@dataclass(frozen=True)
class Resolve:
    """A market is resolved for good: what one share of each outcome pays, in micros."""

    offset_ms: int
    listing: Listing
    payouts: tuple[int, int]


Action = Match | Move | Quote | Close | Resolve
