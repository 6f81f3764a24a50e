"""Order books made anew after a trade: the same (seed, market, action) always gives the same book.

One book serves both outcomes: buying the first at p is selling the second at 1 - p. Most books are ones a copier
can trade in. A known share is hostile on purpose: about 6 % wide, about 5 % nearly empty near the top.
"""

import hashlib
import random
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from domain.micros import decimal_text
from gateways.sandbox.polymarket.markets import MIN_SHARE_MICROS, ONE, Listing

Level = tuple[int, int]
"""(price, shares), both micros."""
Disturbance = Literal["normal", "crossed", "empty", "no_asks", "no_bids"]

LEVELS: Final = 14
_WIDE_SHARE: Final = 0.06
_THIN_SHARE: Final = 0.05
_CENT_SHARE: Final = 10_000


@dataclass(frozen=True)
class Book:
    """Resting orders, best first: bids fall, asks rise."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]

    @property
    def mid(self) -> int | None:
        """Halfway between best bid and best ask in micros, rounded down; None while a side is empty."""
        return (self.bids[0][0] + self.asks[0][0]) // 2 if self.bids and self.asks else None

    def mirrored(self) -> "Book":
        """The same orders seen from the other outcome."""
        return Book(_flip(self.asks), _flip(self.bids))

    def with_level(self, buying: bool, price: int, shares: int) -> "Book":
        """The book once `shares` rest at `price` on one side; 0 removes the level."""
        side = self.bids if buying else self.asks
        levels = [level for level in side if level[0] != price] + ([(price, shares)] if shares else [])
        ordered = tuple(sorted(levels, reverse=buying))
        return Book(ordered, self.asks) if buying else Book(self.bids, ordered)

    def disturbed(self, how: Disturbance) -> "Book":
        """The book as a fault shows it; a crossed one has its best bid on its third ask."""
        match how:
            case "crossed" if len(self.asks) > 2 and self.bids:
                return Book(((self.asks[2][0], self.bids[0][1]), *self.bids), self.asks)
            case "empty":
                return Book((), ())
            case "no_asks":
                return Book(self.bids, ())
            case "no_bids":
                return Book((), self.asks)
        return self


def _flip(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    return tuple((ONE - price, shares) for price, shares in levels)


def book_after(seed: int, listing: Listing, index: int, mid: int) -> Book:
    """The book of the first outcome that action `index` leaves, around `mid` micros."""
    # Seeding with text hashes it with SHA-512, which is the same in every process; hash() of a tuple is not.
    rng = random.Random(f"pm book {seed}:{listing.name}:{index}")
    wide, thin = rng.random() < _WIDE_SHARE, rng.random() < _THIN_SHARE
    tick = listing.tick_micros
    fine = tick < _CENT_SHARE
    spread = (
        tick * (rng.randint(25, 50) if fine else rng.randint(4, 6))
        if wide
        else tick * (rng.randint(1, 5) if fine else rng.choice((1, 1, 1, 2)))
    )
    bid = listing.snapped(mid - spread // 2)
    ask = listing.snapped(bid + spread)
    return Book(
        bids=_side(rng, bid, -tick, fine=fine, thin=thin),
        asks=_side(rng, ask, tick, fine=fine, thin=thin),
    )


def _side(rng: random.Random, best: int, step: int, *, fine: bool, thin: bool) -> tuple[Level, ...]:
    levels: list[Level] = []
    price, tick = best, abs(step)
    for depth in range(LEVELS):
        if depth:
            price += step * (rng.randint(1, 4) if fine else rng.choice((1, 1, 2)))
        if not tick <= price <= ONE - tick:
            break
        cents = rng.randint(300, 2_500) if thin and depth < 2 else rng.randint(30_000, 600_000)
        levels.append((price, cents * _CENT_SHARE))
    return tuple(levels)


def wire_levels(levels: tuple[Level, ...]) -> list[dict[str, str]]:
    """Levels as the venue sends them: the best one is LAST on both sides."""
    return [{"price": decimal_text(price), "size": decimal_text(shares)} for price, shares in reversed(levels)]


def book_wire(listing: Listing, outcome: int, book: Book, time_ms: int, last_price: int | None) -> dict[str, object]:
    """The body of `/book`, `book` being the outcome's own; its `hash` is the venue's over everything else."""
    body: dict[str, object] = {
        "market": listing.condition,
        "asset_id": listing.tokens[outcome],
        "timestamp": str(time_ms),
        "hash": "",
        "bids": wire_levels(book.bids),
        "asks": wire_levels(book.asks),
        "min_order_size": decimal_text(MIN_SHARE_MICROS),
        "tick_size": decimal_text(listing.tick_micros),
        "neg_risk": listing.neg_risk,
        "last_trade_price": "" if last_price is None else decimal_text(last_price),
    }
    return body | {"hash": book_hash(body)}


def book_hash(body: dict[str, object]) -> str:
    """SHA-1 of the compact JSON of a `/book` body whose `hash` is empty."""
    return hashlib.sha1(msgspec.json.encode(body | {"hash": ""}), usedforsecurity=False).hexdigest()
