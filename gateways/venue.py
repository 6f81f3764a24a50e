"""What all venues' gateways speak of: a wrong payload, a venue that does not answer, a book with its terms."""

from typing import NamedTuple

from domain.events import Level, MarkSource, Terms


class WireError(ValueError):
    """A payload that is not what the venue documents."""


class VenueUnavailableError(Exception):
    """The venue did not answer usefully: network, 429 or 5xx. Worth another try."""


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
