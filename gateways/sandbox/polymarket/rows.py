"""Rows of the Data API: what one ledger entry looks like in its four shapes.

Numbers go out as JSON numbers, a whole one without a point. `""`, 0 and 999 stand for null where a row has no outcome.
"""

from dataclasses import dataclass
from typing import Final

from gateways.sandbox.polymarket.ledger import Entry, Kind
from gateways.sandbox.polymarket.markets import ONE, Listing
from gateways.sandbox.polymarket.traders import PROFILES, Profile

Number = int | float
UNLABELED: Final = 999
_ICON: Final = "https://polymarket-upload.example/{}.png"


def number(micros: int) -> Number:
    """Micros as a JSON number, exact to the last decimal."""
    return micros // ONE if micros % ONE == 0 else micros / ONE


def ratio(part: int, whole: int) -> Number:
    """A quotient with ten decimals, as the venue writes average prices."""
    if not whole:
        return 0
    return part // whole if part % whole == 0 else round(part / whole, 10)


@dataclass(frozen=True)
class About:
    """The fields of a row about its market; empty for rows without one."""

    title: str = ""
    slug: str = ""
    icon: str = ""
    event_slug: str = ""
    event_id: str = ""


def about(listing: Listing | None) -> About:
    if listing is None:
        return About()
    return About(listing.question, listing.slug, _ICON.format(listing.slug), listing.event_slug, listing.event_id)


@dataclass(frozen=True)
class Row:
    """`timestamp` is the block time in seconds; `sequence` orders rows within it and is never shown."""

    sequence: int
    timestamp: int
    kind: str
    wallet: str
    market: str
    asset: str
    side: str
    size: Number
    price: Number
    usdc_size: Number
    outcome: str
    outcome_index: int
    transaction: str
    taker: bool
    about: About
    profile: Profile

    def trade_v1(self) -> dict[str, object]:
        return {
            "proxyWallet": self.wallet,
            "side": self.side,
            "asset": self.asset,
            "conditionId": self.market,
            "size": self.size,
            "price": self.price,
            "timestamp": self.timestamp,
            "title": self.about.title,
            "slug": self.about.slug,
            "icon": self.about.icon,
            "eventSlug": self.about.event_slug,
            "outcome": self.outcome,
            "outcomeIndex": self.outcome_index,
            "name": self.profile.name,
            "pseudonym": self.profile.pseudonym,
            "bio": "",
            "profileImage": "",
            "profileImageOptimized": "",
            "transactionHash": self.transaction,
        }

    def activity_v1(self) -> dict[str, object]:
        return {
            "proxyWallet": self.wallet,
            "timestamp": self.timestamp,
            "conditionId": self.market,
            "type": self.kind,
            "size": self.size,
            "usdcSize": self.usdc_size,
            "transactionHash": self.transaction,
            "price": self.price,
            "asset": self.asset,
            "side": self.side,
            "outcomeIndex": self.outcome_index,
            "title": self.about.title,
            "slug": self.about.slug,
            "icon": self.about.icon,
            "eventSlug": self.about.event_slug,
            "outcome": self.outcome,
            "name": self.profile.name,
            "pseudonym": self.profile.pseudonym,
            "bio": "",
            "profileImage": "",
            "profileImageOptimized": "",
        }

    def trade_v2(self) -> dict[str, object]:
        return {_SNAKE.get(key, key): value for key, value in self.trade_v1().items()}

    def activity_v2(self) -> dict[str, object]:
        return {_SNAKE.get(key, key): value for key, value in self.activity_v1().items()}


_SNAKE: Final = {
    "proxyWallet": "proxy_wallet",
    "asset": "token_id",
    "conditionId": "condition_id",
    "eventSlug": "event_slug",
    "outcomeIndex": "outcome_index",
    "usdcSize": "usdc_size",
    "profileImage": "profile_image",
    "profileImageOptimized": "profile_image_optimized",
    "transactionHash": "transaction_hash",
}


def row_of(entry: Entry, sequence: int, timestamp: int, transaction: str) -> Row:
    """The row of one ledger entry. `usdcSize` of a trade has the fee in it: added on BUY, taken off on SELL."""
    listing, outcome = entry.listing, entry.outcome
    trade = entry.kind is Kind.TRADE
    named = listing is not None and outcome is not None
    return Row(
        sequence=sequence,
        timestamp=timestamp,
        kind=entry.kind.value,
        wallet=entry.wallet,
        market=listing.condition if listing else "",
        asset=listing.tokens[outcome] if listing is not None and outcome is not None else "",
        side=("BUY" if entry.buying else "SELL") if trade else "",
        size=number(entry.share_micros),
        price=ratio(entry.usdc_micros, entry.share_micros) if trade else 0,
        usdc_size=number(abs(entry.cash_micros)),
        outcome=listing.outcomes[outcome] if listing is not None and outcome is not None else "",
        outcome_index=outcome if named and outcome is not None else UNLABELED,
        transaction=transaction,
        taker=entry.taker,
        about=about(listing),
        profile=PROFILES.get(entry.wallet, Profile()),
    )
