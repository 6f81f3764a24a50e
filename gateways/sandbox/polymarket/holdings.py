"""What a wallet holds as the Data API values it: by the middle of the book, or by the payout once there is one."""

from dataclasses import dataclass

from gateways.sandbox.polymarket.ledger import Position, payout_of
from gateways.sandbox.polymarket.markets import MARKETS, Listing
from gateways.sandbox.polymarket.rows import Number, about, ratio
from gateways.sandbox.polymarket.times import day
from gateways.sandbox.polymarket.venue import Venue


@dataclass(frozen=True)
class Holding:
    """One outcome that a wallet holds or held; `place` orders the outcomes."""

    wallet: str
    listing: Listing
    outcome: int
    position: Position
    price_micros: int
    resolved: bool
    mergeable: bool
    end_date: str
    place: int

    @property
    def value_micros(self) -> int:
        return payout_of(self.position.share_micros, self.price_micros)

    @property
    def average(self) -> Number:
        return ratio(self.position.cost_micros, self.position.share_micros)

    @property
    def percent(self) -> Number:
        return ratio(100 * (self.value_micros - self.position.cost_micros), self.position.cost_micros)

    @property
    def percent_realized(self) -> Number:
        return ratio(100 * self.position.realized_micros, self.position.cost_micros)

    @property
    def icon(self) -> str:
        return about(self.listing).icon

    @property
    def status(self) -> str:
        """OPEN, CLOSED when nothing is left, REDEEMABLE or REDEEMABLE_LOST once the market has paid out."""
        if not self.position.share_micros:
            return "CLOSED"
        if not self.resolved:
            return "OPEN"
        return "REDEEMABLE" if self.price_micros else "REDEEMABLE_LOST"


def holdings(venue: Venue, wallet: str) -> list[Holding]:
    """Everything `wallet` has ever bought, by the rows served until now."""
    account = venue.feed.ledger.accounts.get(wallet)
    if account is None:
        return []
    found = []
    for place, (listing, outcome) in enumerate((listing, outcome) for listing in MARKETS for outcome in (0, 1)):
        position = account.positions.get((listing.name, outcome))
        if position is None or not position.bought_micros:
            continue
        state = venue.markets[listing.name]
        found.append(
            Holding(
                wallet=wallet,
                listing=listing,
                outcome=outcome,
                position=position,
                price_micros=state.price(outcome),
                resolved=state.final,
                mergeable=not state.final and account.both(listing) > 0,
                end_date=day(state.closes_ns),
                place=place,
            )
        )
    return found


def worth(held: list[Holding]) -> int:
    """What the holdings are worth together, in micros."""
    return sum(one.value_micros for one in held)
