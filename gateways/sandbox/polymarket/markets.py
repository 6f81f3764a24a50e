"""The six markets of the sandbox: what never changes about them.

Every market is binary. Its ids are derived from its name, so they are the same for every seed. Prices are micros of a
dollar per share; the price of the second outcome is always one dollar less the first's.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

ONE: Final = 1_000_000
MIN_SHARE_MICROS: Final = 5 * ONE


@dataclass(frozen=True)
class Listing:
    """`fee_rate_micros` r means a taker fee of r x shares x p x (1 - p); `opening_micros` is where the price starts."""

    name: str
    question: str
    slug: str
    event_slug: str
    outcomes: tuple[str, str]
    tick_micros: int
    fee_rate_micros: int
    fee_type: str
    opening_micros: int
    neg_risk: bool = False
    brief: bool = False

    @cached_property
    def condition(self) -> str:
        return "0x" + _digest(f"{self.name} condition").hex()

    @cached_property
    def question_id(self) -> str:
        return "0x" + _digest(f"{self.name} question").hex()

    @cached_property
    def tokens(self) -> tuple[str, str]:
        """The token ids of both outcomes: decimal, 256 bits."""
        first, second = (str(int.from_bytes(_digest(f"{self.name} token {side}")) | 1 << 255) for side in (0, 1))
        return first, second

    @cached_property
    def gamma_id(self) -> str:
        return str(3_000_000 + int.from_bytes(_digest(self.name)[:2]))

    @cached_property
    def event_id(self) -> str:
        return str(700_000 + int.from_bytes(_digest(f"{self.event_slug} event")[:2]))

    def snapped(self, price_micros: int) -> int:
        """`price_micros` on the tick below, kept inside the allowed range."""
        tick = self.tick_micros
        return max(tick, min(ONE - tick, price_micros // tick * tick))


def _digest(what: str) -> bytes:
    return hashlib.blake2b(f"vibe sandbox polymarket {what}".encode(), digest_size=32).digest()


MARKETS: Final[tuple[Listing, ...]] = (
    Listing(
        "btc-updown",
        "Bitcoin Up or Down - sandbox minute",
        "btc-updown-sandbox",
        "btc-updown-sandbox",
        ("Up", "Down"),
        10_000,
        70_000,
        "crypto_fees_v2",
        500_000,
        brief=True,
    ),
    Listing(
        "rovers-athletic",
        "Rovers vs. Athletic: Team to Advance",
        "cup-rov-ath-team-to-advance",
        "cup-rov-ath",
        ("Rovers", "Athletic"),
        1_000,
        50_000,
        "sports_fees",
        620_000,
    ),
    Listing(
        "wellington-rain",
        "Will it rain in Wellington tomorrow?",
        "will-it-rain-in-wellington-tomorrow",
        "rain-in-wellington",
        ("Yes", "No"),
        1_000,
        50_000,
        "weather_fees",
        340_000,
    ),
    Listing(
        "budget-vote",
        "Will the budget pass this month?",
        "will-the-budget-pass-this-month",
        "budget-this-month",
        ("Yes", "No"),
        10_000,
        40_000,
        "politics_fees",
        450_000,
    ),
    Listing(
        "border-reopens",
        "Will the border reopen by the end of the year?",
        "will-the-border-reopen-by-end-of-year",
        "border-reopens",
        ("Yes", "No"),
        10_000,
        0,
        "",
        270_000,
    ),
    Listing(
        "mayor-green",
        "Will the Green candidate become mayor?",
        "will-the-green-candidate-become-mayor",
        "next-mayor",
        ("Yes", "No"),
        1_000,
        40_000,
        "politics_fees",
        560_000,
        neg_risk=True,
    ),
)

BY_NAME: Final[dict[str, Listing]] = {listing.name: listing for listing in MARKETS}
BY_CONDITION: Final[dict[str, Listing]] = {listing.condition: listing for listing in MARKETS}
BY_TOKEN: Final[dict[str, tuple[Listing, int]]] = {
    token: (listing, side) for listing in MARKETS for side, token in enumerate(listing.tokens)
}
BRIEF: Final = next(listing for listing in MARKETS if listing.brief)
"""The market that closes and resolves within a scenario."""
CANCELLED: Final = BY_NAME["rovers-athletic"]
"""The market that ends 50/50 in a scenario that asks for it."""


def found(key: str) -> Listing | None:
    """The market that `key` names: its name, slug, condition id or a token id."""
    for listing in MARKETS:
        if key in (listing.name, listing.slug, listing.condition, *listing.tokens):
            return listing
    return None


def taker_fee(rate_micros: int, share_micros: int, usdc_micros: int) -> int:
    """The fee of a taker in micros: rate x C x p x (1 - p) with p = usdc / C, cut to 5 decimals, 0.00001 at least."""
    if not rate_micros or not share_micros:
        return 0
    scaled = rate_micros * usdc_micros * (share_micros - usdc_micros)
    return max(10, scaled // (share_micros * ONE * 10) * 10)
