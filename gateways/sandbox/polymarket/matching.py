"""Matching an order against the resting book: what every order in the settlement transaction gets.

A taker who buys is met by a maker who sells the same token, or by one who buys the other token: then the exchange mints
complete sets. A taker who sells is met by a buyer of the same token or by a seller of the other one, whose sets are
merged. As on the venue, most makers stand on the other token.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.micros import times
from gateways.sandbox.polymarket.actions import Order
from gateways.sandbox.polymarket.books import Book
from gateways.sandbox.polymarket.ledger import Entry, Kind, Ledger
from gateways.sandbox.polymarket.markets import Listing, taker_fee

_OTHER_TOKEN_SHARE: Final = 0.78
# A followed maker trades the token his order names: that is the maker's choice, not the crowd's.
_OTHER_TOKEN_SHARE_OF_FOLLOWED: Final = 0.4


@dataclass(frozen=True)
class Part:
    """A piece of a taker's order at one price, with the wallet whose resting order it meets."""

    maker: str
    price_micros: int
    share_micros: int
    followed: bool = False


def parts(book: Book, buying: bool, shares: int, maker_of: Sequence[str]) -> list[Part]:
    """Walk `book`, the outcome's own, until `shares` are found or it ends; `maker_of` names a maker for each level."""
    found: list[Part] = []
    left = shares
    for (price, resting), maker in zip(book.asks if buying else book.bids, maker_of, strict=False):
        share = min(left, resting)
        if share <= 0:
            break
        found.append(Part(maker, price, share))
        left -= share
    return found


class Matcher:
    """Makes the orders of a match, looking at what the makers hold."""

    def __init__(self, seed: int, rng: random.Random, ledger: Ledger) -> None:
        self._seed = seed
        self._rng = rng
        self._ledger = ledger

    def match(
        self, index: int, taker: str, listing: Listing, outcome: int, buying: bool, found: Sequence[Part]
    ) -> tuple[tuple[Order, ...], Order]:
        """The makers' orders, one a part, and the taker's order over all of them. The ledger has them all."""
        makers: list[Order] = []
        usdc = 0
        for number, part in enumerate(found):
            entry = self._maker_entry(part, listing, outcome, buying)
            self._ledger.apply(entry)
            same_token = entry.outcome == outcome
            usdc += entry.usdc_micros if same_token else part.share_micros - entry.usdc_micros
            makers.append(Order(entry, self._hash(f"{index}:{number}")))
        shares = sum(part.share_micros for part in found)
        fee = taker_fee(listing.fee_rate_micros, shares, usdc)
        taken = Entry(taker, Kind.TRADE, listing, outcome, buying, shares, usdc, fee, taker=True)
        self._ledger.apply(taken)
        return tuple(makers), Order(taken, self._hash(f"{index}:taker"))

    def _maker_entry(self, part: Part, listing: Listing, outcome: int, taker_buys: bool) -> Entry:
        account = self._ledger.account(part.maker)
        usdc = times(part.price_micros, part.share_micros)
        other = self._rng.random() < (_OTHER_TOKEN_SHARE_OF_FOLLOWED if part.followed else _OTHER_TOKEN_SHARE)
        if taker_buys:
            sells_same = not other and account.shares(listing, outcome) >= part.share_micros
            if sells_same:
                return Entry(part.maker, Kind.TRADE, listing, outcome, False, part.share_micros, usdc)
            return Entry(
                part.maker, Kind.TRADE, listing, 1 - outcome, True, part.share_micros, part.share_micros - usdc
            )
        sells_other = other and not part.followed and account.shares(listing, 1 - outcome) >= part.share_micros
        if sells_other:
            return Entry(
                part.maker, Kind.TRADE, listing, 1 - outcome, False, part.share_micros, part.share_micros - usdc
            )
        return Entry(part.maker, Kind.TRADE, listing, outcome, True, part.share_micros, usdc)

    def _hash(self, what: str) -> str:
        return "0x" + hashlib.blake2b(f"pm order {self._seed}:{what}".encode(), digest_size=32).hexdigest()
