"""What the decisions on one group have in common: its quote inside the price band, and the guardrails that shape it
(docs/design.md, decisions).
"""

from operator import attrgetter
from typing import NamedTuple

from domain.decision_inputs import DecisionInputs
from domain.events import Action, ControlState, RequestedQuote, TradeSide
from domain.exits import PLAIN, Widening
from domain.guardrails import Policy, allowance
from domain.mark_prices import Asset
from domain.micros import MICRO, fraction
from domain.order_book import Book
from domain.paper_fills import Fees, inside, venue_price
from domain.sizing import Group, opening_notional
from domain.venues import VENUES


class Limits(NamedTuple):
    """The guardrails that shape what is common: policies that agree in these share it. Named and documented as in
    Policy."""

    influencer_price_micros: int
    influencer_price_bps: int
    mid_price_micros: int
    mid_price_bps: int
    reduction_band_micros: int
    spread_micros: int
    spread_bps: int
    max_signal_age_ms: int
    max_quote_age_ms: int
    close_guard_ms: int
    close_guard_share_micros: int
    taker_fee_micros: int
    exits_while_paused: int


_of_policy = attrgetter(*Limits._fields)


def limits_of(policy: Policy) -> Limits:
    """The guardrails of a policy that shape what is common."""
    return Limits(*_of_policy(policy))


class Band(NamedTuple):
    """The worst acceptable price, the best of the book, and the two limits that the first comes from, in micros.

    `book` holds the levels inside the band; when there are none, the best price with nothing at it.
    """

    limit_micros: int
    best_micros: int
    near_influencer_micros: int
    near_mid_micros: int
    book: Book


class Assessment:
    """One group at its quote, under some limits, at the time `now` (ns) with these inputs.

    A round of tries of owed exits is a group too; `widening` is how far these of its tries may go from the price.
    """

    def __init__(
        self, group: Group, limits: Limits, inputs: DecisionInputs, now: int, widening: Widening = PLAIN
    ) -> None:
        self.group = group
        self.limits = limits
        self.inputs = inputs
        self.now = now
        self.asset: Asset = (group.venue.value, group.asset)
        self.sign = group.trade_side.sign
        self.widening = widening
        self.opens = group.action not in (Action.DECREASE, Action.CLOSE)
        # What is owed is done after a pause, whenever it was detected; what opened in a pause is not copied later.
        self.paused = inputs.engine is ControlState.PAUSED if group.exit is not None else inputs.stopped
        only_opens = group.action in (Action.OPEN, Action.INCREASE)
        self.stopped = self.paused and (only_opens or not limits.exits_while_paused)
        self.opening_notional_micros = opening_notional(group)
        self.paid_in_full = VENUES[group.venue].paid_in_full
        quote = group.quote
        self.quote: RequestedQuote | None = None if self.stopped else quote
        """The quote to decide with: none where a pause of the engine stops the group."""
        self.mid_micros = quote.mid_micros if quote else 0
        self.fees = Fees(quote.terms.fee_rate_micros if quote and quote.terms else None, limits.taker_fee_micros)
        self.band = _band(self, self.quote) if self.quote is not None else None


def _band(of: Assessment, quote: RequestedQuote) -> Band:
    group, limits = of.group, of.limits
    sign, terms = of.sign, quote.terms
    # A reduction may go further than an opening, by the factor of its guardrail.
    factor = MICRO if of.opens else limits.reduction_band_micros
    beyond_influencer = allowance(
        group.price_micros, group.venue, limits.influencer_price_micros, limits.influencer_price_bps
    )
    beyond_mid = allowance(quote.mid_micros, group.venue, limits.mid_price_micros, limits.mid_price_bps)
    wider = of.widening
    of_influencer = allowance(group.price_micros, group.venue, wider.absolute_micros, wider.bps)
    of_mid = allowance(quote.mid_micros, group.venue, wider.absolute_micros, wider.bps)
    near_influencer = group.price_micros + sign * max(fraction(beyond_influencer, factor, MICRO), of_influencer)
    near_mid = quote.mid_micros + sign * max(fraction(beyond_mid, factor, MICRO), of_mid)
    if not group.price_micros:
        near_influencer = near_mid  # the influencer did not trade
    buying = group.trade_side is TradeSide.BUY
    limit = min(near_influencer, near_mid) if buying else max(near_influencer, near_mid)
    limit = venue_price(limit, group.trade_side, terms) if terms else limit
    if wider.at_market:
        limit = near_influencer = near_mid = quote.levels[-1][0]
    best = quote.ask_micros if buying else quote.bid_micros
    levels = inside(quote.levels, group.trade_side, limit) or ((best, 0),)
    return Band(limit, best, near_influencer, near_mid, Book(levels, of.fees))
