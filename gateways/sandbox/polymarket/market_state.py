"""One market while the venue runs: its book, its last trade, and how far it is on its way to the end."""

from dataclasses import dataclass, field
from typing import Final

from gateways.sandbox.polymarket.books import Book, Disturbance, Level, book_wire
from gateways.sandbox.polymarket.markets import ONE, Listing

NO_LAST: Final = ONE // 2


@dataclass
class MarketState:
    """`book` is the first outcome's, as it is; `shown` says how a fault makes it look. Times in ns.

    `payouts` are what one share of each outcome pays; only `final` ones count, others are proposed.
    """

    listing: Listing
    book: Book
    opened_ns: int
    closes_ns: int
    updated_ms: int
    accepting: bool = True
    closed: bool = False
    final: bool = False
    disputed: bool = False
    payouts: tuple[int, int] | None = None
    ended_ns: int | None = None
    resolved_block: int | None = None
    transaction: str | None = None
    shown: Disturbance = "normal"
    last: tuple[int, bool] | None = None
    """Price of the first outcome and whether the taker bought it."""
    volume_micros: int = 0
    traders: set[str] = field(default_factory=set)

    @property
    def has_book(self) -> bool:
        return self.accepting and not self.closed

    @property
    def stage(self) -> str:
        """The oracle's word: initialized, proposed, disputed or resolved."""
        if self.final:
            return "resolved"
        if self.payouts is None:
            return "initialized"
        return "disputed" if self.disputed else "proposed"

    def view(self, outcome: int) -> Book:
        """The book of one outcome as the venue shows it."""
        book = self.book.disturbed(self.shown)
        return book.mirrored() if outcome else book

    def best(self, outcome: int) -> tuple[Level | None, Level | None]:
        book = self.view(outcome)
        return (book.bids[0] if book.bids else None, book.asks[0] if book.asks else None)

    def wire(self, outcome: int) -> dict[str, object]:
        """The body of `/book` and of a `book` frame."""
        return book_wire(self.listing, outcome, self.view(outcome), self.updated_ms, self.last_price(outcome))

    def last_price(self, outcome: int) -> int | None:
        """The price of the last trade in micros, seen from `outcome`."""
        if self.last is None:
            return None
        return ONE - self.last[0] if outcome else self.last[0]

    def price(self, outcome: int) -> int:
        """What one share counts for in micros: the payout, the middle of the book, or the last trade."""
        if self.final and self.payouts is not None:
            return self.payouts[outcome]
        first = self.book.mid if self.has_book and self.book.mid is not None else self.last_price(0)
        first = self.listing.opening_micros if first is None else first
        return ONE - first if outcome else first

    def traded(self, price: int, bought: bool, shares: int, at_ms: int) -> None:
        """Take note of a trade at `price` of the first outcome."""
        self.last = (price, bought)
        self.volume_micros += shares
        self.updated_ms = at_ms

    def end(self, payouts: tuple[int, int] | None, at_ns: int, *, final: bool) -> None:
        """Stop trading; with payouts they are proposed or, when `final`, paid."""
        self.accepting = False
        if payouts is None:
            return
        if self.payouts is not None and self.payouts != payouts:
            self.disputed = True
        self.closed = True
        self.payouts, self.final = payouts, final
        self.ended_ns = at_ns
