"""What every venue gateway returns: a decoded RAW event, a book, the book with its trading terms, a price."""

from typing import NamedTuple

from domain.events import (
    AccountModeStated,
    AccountSeeded,
    GapDetected,
    Level,
    MarketDescribed,
    MarketResolved,
    MarkSource,
    Terms,
)
from domain.influencer_account import Movement
from domain.signals import Trade

DecodedRaw = Trade | Movement | AccountSeeded | AccountModeStated | MarketDescribed | GapDetected | None
"""What one RAW event holds; None where it changes no position."""


class Book(NamedTuple):
    """Best first: bids fall, asks rise. `time` in ns."""

    time: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class Captured(NamedTuple):
    """A book, and the venue's limits for an order in its asset."""

    book: Book
    terms: Terms


class ListedMarket(NamedTuple):
    """A market as the venue lists it now: its description and, once it is final, its resolution.

    `description_id` is the same at every reading: a market's first description is stored under it, once.
    """

    description_id: str
    description: MarketDescribed
    resolution: MarketResolved | None
    closed: bool


class Price(NamedTuple):
    """The current price of an asset in micros, where it comes from, and the time (ns) at which it was read."""

    price_micros: int
    source: MarkSource
    time: int
