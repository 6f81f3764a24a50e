"""Requests to copy an influencer, and the other inputs of a decision."""

from typing import Any

from msgspec import structs

from domain.decision_inputs import DecisionInputs
from domain.events import ControlState, ExecutionRequested, Level, Mode, RequestedQuote, Sizing, Terms, Venue
from domain.mark_prices import MarkPrices
from domain.micros import micros
from tests.domain.facts.influencers import ASKS, BIDS, group_closed
from tests.domain.facts.values import BUY, at, levels


def requested(
    *,
    before: str = "0",
    after: str = "1",
    price: str = "100",
    bids: tuple[Level, ...] = BIDS,
    asks: tuple[Level, ...] = ASKS,
    lot: str = "0.001",
    sizing: Sizing | None = None,
    mode: Mode = Mode.PAPER,
    **changes: Any,
) -> ExecutionRequested:
    """A request to copy an influencer who goes from `before` to `after`."""
    group = group_closed(before=before, after=after, price=price)
    taken = asks if group.trade_side is BUY else bids
    made = ExecutionRequested(
        request_id="req-1",
        subscription_id="sam-ann",
        subscriber_id="sam",
        influencer_id="ann",
        mode=mode,
        group_id=group.group_id,
        venue=group.venue,
        asset=group.asset,
        market=group.market,
        action=group.action,
        trade_side=group.trade_side,
        before_micros=group.before_micros,
        after_micros=group.after_micros,
        notional_micros=group.notional_micros,
        price_micros=group.price_micros,
        event_time=group.event_time,
        detect_time=group.detect_time,
        quote=RequestedQuote("quo-1", bids[0][0], asks[0][0], taken, micros(lot), at(910)),
        quote_reason=None,
        sizing=sizing or fixed("50"),
        policy_hash="policy-1",
        config_sequence=7,
    )
    return structs.replace(made, **changes)


PM_BIDS = levels("0.49 x 1000", "0.48 x 2000")
PM_ASKS = levels("0.51 x 1000", "0.52 x 2000")


def terms(**changes: Any) -> Terms:
    """Polymarket's terms for an order: two decimals of shares, at least five, a tick of a cent, 5 % of p (1 - p)."""
    usual = Terms(
        size_step_micros=10_000,
        tick_micros=10_000,
        min_share_micros=micros("5"),
        min_notional_micros=micros("1"),
        fee_rate_micros=50_000,
        market="race",
    )
    return structs.replace(usual, **changes)


def on_polymarket(
    *,
    before: str = "0",
    after: str = "1000",
    price: str = "0.50",
    bids: tuple[Level, ...] = PM_BIDS,
    asks: tuple[Level, ...] = PM_ASKS,
    terms: Terms | None = terms(),  # noqa: B008 - frozen
    **changes: Any,
) -> ExecutionRequested:
    """A request to copy an influencer who goes from `before` to `after` shares of one outcome of a race."""
    made = requested(before=before, after=after, price=price, bids=bids, asks=asks, lot="0.01", **changes)
    quote = structs.replace(made.quote, terms=terms) if made.quote else None
    usual = {"venue": Venue.POLYMARKET, "asset": "yes", "market": "race", "quote": quote}
    return structs.replace(made, **{**usual, **changes})


def inputs(**changes: Any) -> DecisionInputs:
    """Nothing is switched off, marked or resolved; sequences: CONFIG 7, marks 5."""
    usual = DecisionInputs(ControlState.RUNNING, False, None, False, MarkPrices(), 7, 5)
    return usual._replace(**changes)


def fixed(usd: str) -> Sizing:
    return Sizing("fixed_notional", notional_micros=micros(usd))
