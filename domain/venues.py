"""The venues, and their table: every rule of copying that differs between venues."""

from enum import StrEnum

from msgspec import Struct

from domain.micros import MICRO


class Venue(StrEnum):
    """The venues, by the names that events and subjects store."""

    HYPERLIQUID = "hyperliquid"
    POLYMARKET = "polymarket"


class PriceLimit(StrEnum):
    """How the price guardrails of a venue are measured: in basis points of a price, or in dollars."""

    BPS = "BPS"
    DOLLARS = "DOLLARS"


class VenueRules(Struct, frozen=True):
    """What copying has to know of a venue.

    `group_window_ns` is how long signals are collected into one group; `min_notional_micros` the venue's own minimum
    order value; `paid_in_full` whether an opening needs its whole cost in cash; `short_allowed` whether a position may
    be negative; `worst_move_micros` the part of its notional that an opening can lose before anyone acts, None where
    the guardrail `assumed_move_micros` says it; `book_ends_with_market` whether a missing book means that the market
    has ended; `book_time_is_current` whether the time in a book is when the venue read it, not when it last changed.
    """

    group_window_ns: int
    min_notional_micros: int
    price_limit: PriceLimit
    paid_in_full: bool
    short_allowed: bool
    worst_move_micros: int | None
    book_ends_with_market: bool
    book_time_is_current: bool


VENUES: dict[Venue, VenueRules] = {
    Venue.HYPERLIQUID: VenueRules(
        group_window_ns=250_000_000,
        min_notional_micros=10_000_000,
        price_limit=PriceLimit.BPS,
        paid_in_full=False,
        short_allowed=True,
        worst_move_micros=None,
        book_ends_with_market=False,
        book_time_is_current=True,
    ),
    Venue.POLYMARKET: VenueRules(
        group_window_ns=2_000_000_000,
        min_notional_micros=1_000_000,
        price_limit=PriceLimit.DOLLARS,
        paid_in_full=True,
        short_allowed=False,
        worst_move_micros=MICRO,
        book_ends_with_market=True,
        book_time_is_current=False,
    ),
}
