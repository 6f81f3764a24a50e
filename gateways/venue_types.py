"""What every venue gateway returns: a book, the book with its trading terms, a price."""

from typing import NamedTuple

from domain.events import Level, MarkSource, Terms


class Book(NamedTuple):
    """Best first: bids fall, asks rise. `time` in ns."""

    time: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class Captured(NamedTuple):
    """A book, and what the venue asks of an order in its asset."""

    book: Book
    terms: Terms


class Price(NamedTuple):
    """What an asset is worth now: in micros, where that comes from, and when the venue said it (ns)."""

    price_micros: int
    source: MarkSource
    time: int
