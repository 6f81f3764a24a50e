"""Properties of every decision (docs/design.md, decisions): no clamp, exposure or band is ever exceeded, what was
estimated is filled, and the same arguments decide the same.
"""

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from domain.decision import decide
from domain.events import (
    BreakerLimit,
    CopyDecided,
    Decision,
    Event,
    ExecutionRequested,
    Level,
    Mode,
    OrderFilled,
    PortfolioScope,
    PositionState,
    RequestedQuote,
    Sizing,
    Terms,
    TradeSide,
    Venue,
)
from domain.guardrails import Policy, allowance
from domain.mark_prices import Asset, Mark, MarkPrices
from domain.micros import MICRO, fraction
from domain.paper_execution import fill_on_paper
from domain.paper_fills import fees, inside, walk
from domain.portfolio import NOTHING, Portfolio, equity, expected_copied, free_cash, part_of
from domain.position import Position
from domain.reason_codes import Reason
from domain.signals import action_of
from domain.testing import given
from tests.domain.decision_specs import tripped
from tests.domain.facts import BUY, PORTFOLIO, SELL, at, decided, deposited, executed, filled, fixed, inputs, requested
from tests.domain.portfolio_specs import marked
from tests.domain.reference.order_book import beyond, needed, worth


def mostly(usual: int, *others: int) -> st.SearchStrategy[int]:
    return st.sampled_from([usual] * 20 + list(others))


@st.composite
def books(draw: st.DrawFn, mids: st.SearchStrategy[int]) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    """Bids and asks at most 25 bps apart, some levels worth next to nothing."""
    mid = draw(mids)
    half = max(1, mid * draw(st.integers(0, 25)) // 20_000)
    notionals = st.sampled_from([10**8, 10**9, 10**10]) | st.integers(1, 10**9)
    deeper = st.lists(st.tuples(st.integers(1, 8), notionals), min_size=1, max_size=6)
    sides = []
    for sign in (-1, 1):
        price, side = mid + sign * half, []
        for bps, notional in draw(deeper):
            side.append((price, max(1, notional * 10**6 // price)))
            price += sign * max(1, mid * bps // 10_000)
        sides.append(tuple(side))
    return sides[0], sides[1]


PERPETUALS = st.sampled_from([10**5, 10**8, 66_405 * 10**6]) | st.integers(1_000, 10**11)
OUTCOMES = st.sampled_from([500_000, 40_000, 960_000]) | st.integers(1_000, 990_000)


@st.composite
def requests(draw: st.DrawFn, venue: Venue) -> ExecutionRequested:
    bids, asks = draw(books(OUTCOMES if venue is Venue.POLYMARKET else PERPETUALS))
    mid = (bids[0][0] + asks[0][0]) // 2
    lot = 10 ** draw(st.integers(0, 6))
    while lot > 1 and lot * mid > 50 * 10**12:
        lot //= 10
    usual = st.sampled_from([(0, 40), (0, -40), (2, 4), (4, 1), (4, 0), (-4, 0), (-4, -1), (4, -2), (-4, 6)])
    long = st.sampled_from([(0, 40), (2, 4), (2, 9), (4, 1), (4, 0)])
    any_two = st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
    ways = long if venue is Venue.POLYMARKET else usual | any_two.filter(lambda pair: pair[0] != pair[1])
    before, after = draw(ways)
    side = BUY if after > before else SELL
    price = max(1, mid + mid * draw(st.integers(-8, 8)) // 10_000)
    percents = st.sampled_from([10**9, 10**8, 10**9, 10**6])
    sizing = draw(
        st.one_of(
            st.builds(fixed, st.sampled_from(["50", "100", "150"])),
            st.builds(fixed, st.sampled_from(["50", "11", "9.99", "4", "0"])),
            st.builds(Sizing, st.just("copy_percent"), percent_micros=percents),
            st.builds(Sizing, st.just("percent_of_equity"), percent_micros=st.sampled_from([10**6, 10**7, 1])),
            st.builds(Sizing, st.just("proportional"), percent_micros=percents),
        )
    )
    terms = Terms(
        size_step_micros=lot,
        tick_micros=draw(mostly(1, 10, max(1, mid // 5_000))),
        min_share_micros=draw(mostly(0, 5 * MICRO)),
        fee_rate_micros=draw(st.sampled_from([0, 40_000, 50_000, 70_000])) if venue is Venue.POLYMARKET else None,
        closes_at=draw(st.sampled_from([None] * 20 + [at(10_000_000), at(0)])),
    )
    levels = asks if side is BUY else bids
    quote = RequestedQuote(
        "quo-1",
        bids[0][0],
        asks[0][0],
        levels,
        lot,
        at(910),
        terms if draw(st.booleans()) or terms.fee_rate_micros else None,
    )
    has_quote = draw(st.sampled_from([True] * 30 + [False]))
    return requested(
        sizing=sizing,
        venue=venue,
        mode=draw(st.sampled_from([Mode.PAPER] * 18 + [Mode.LIVE, Mode.RECORD_ONLY])),
        scope=draw(st.sampled_from([PortfolioScope.SUBSCRIBER, PortfolioScope.EXEC_GLOBAL])),
        action=action_of(before, after),
        trade_side=side,
        before_micros=before * lot,
        after_micros=after * lot,
        notional_micros=draw(st.sampled_from([10**9, 10**10, 10**8]) | st.integers(1, 10**12)),
        price_micros=price,
        quote=quote if has_quote else None,
        quote_reason=None if has_quote else draw(st.sampled_from([None, Reason.BOOK_EMPTY])),
        opening_blocked=draw(st.sampled_from([None] * 20 + ["SIDE_NOT_WANTED"])),
        position_state=draw(st.sampled_from([PositionState.KNOWN] * 20 + [PositionState.ASSUMED])),
        influencer_equity_micros=draw(st.sampled_from([10**10] * 8 + [10**12, 0, None])),
    )


@st.composite
def histories(draw: st.DrawFn, usual: Venue) -> list[Event]:
    """A deposit, positions, pending orders, now and then a tripped breaker, and residuals."""
    events: list[Event] = [deposited(str(draw(mostly(10_000, -1_000, 0, 1_000_000))))]
    for number in range(draw(st.sampled_from([2, 1, 3, 0, 4]))):
        side: TradeSide = draw(st.sampled_from([BUY, BUY, SELL]))
        share, notional = draw(st.integers(1, 10**9)), draw(st.sampled_from([10**7, 10**8]) | st.integers(1, 10**9))
        subscription, who = draw(st.sampled_from([("sam-ann", "ann")] * 3 + [("sam-bob", "bob")]))
        asset = draw(st.sampled_from(["BTC", "BTC", "BTC", "ETH"]))
        venue = draw(st.sampled_from([usual] * 4 + list(Venue)))
        fill = filled(
            BUY if venue is Venue.POLYMARKET else side,
            share,
            notional,
            asset=asset,
            subscription=subscription,
            influencer=who,
            attempt=f"att-{number}",
            venue=venue,
        )
        decision, filling, result = executed(fill)
        events += [decision, filling, result] if draw(st.booleans()) else [decision]
    waiting = decided(
        attempt_id="att-w",
        decision=Decision.SKIP,
        share_micros=0,
        mid_micros=0,
        residual_micros=draw(mostly(0, 4 * MICRO, -4 * MICRO, 9_990_000)),
        residual_share_micros=draw(mostly(0, 1_000)),
    )
    limit = draw(st.sampled_from([None] * 20 + list(BreakerLimit)))
    return [*events, waiting, *([tripped(limit)] if limit else [])]


policies = st.builds(
    Policy,
    influencer_price_bps=mostly(20, 0, 5, 40),
    influencer_price_micros=mostly(10**6, 0, 10_000),
    mid_price_bps=mostly(20, 0, 5, 40),
    mid_price_micros=mostly(10**6, 0, 10_000),
    spread_bps=mostly(25, 0, 10),
    spread_micros=mostly(10**9, 0, 10_000),
    depth_ratio_micros=mostly(500_000, 0, 1_250_000),
    min_notional_micros=mostly(5_000_000, 0, 50_000_000),
    max_notional_micros=mostly(250_000_000, 0, 10**10),
    max_equity_fraction_micros=mostly(100_000, 0, 7_500, 10**6),
    total_exposure_micros=mostly(3_000_000, 0, 10_000),
    market_exposure_micros=mostly(3_000_000, 0, 10_000),
    influencer_exposure_micros=mostly(3_000_000, 0, 10_000),
    notional_cap_micros=mostly(0, 10**7, 10**8, 10**9),
    max_leverage_micros=mostly(5_000_000, 0, 100_000),
    max_loss_micros=mostly(0, 10**7, 10**6),
    reduction_band_micros=mostly(1_000_000, 0, 2_000_000),
    accumulate=mostly(1, 0),
)

cases = st.sampled_from(Venue).flatmap(lambda venue: st.tuples(histories(venue), requests(venue)))

INPUTS: dict[Decision, int] = dict.fromkeys(Decision, 0)


def signed_band(request: ExecutionRequested, policy: Policy) -> int:
    """The worst price allowed, signed so that less is better."""
    assert request.quote is not None
    reduces_only = request.action.value in ("DECREASE", "CLOSE")
    sign, part = request.trade_side.sign, policy.reduction_band_micros if reduces_only else MICRO
    return min(
        sign * price + fraction(allowance(price, request.venue, dollars, bps), part, MICRO)
        for price, dollars, bps in (
            (request.price_micros, policy.influencer_price_micros, policy.influencer_price_bps),
            (request.quote.mid_micros, policy.mid_price_micros, policy.mid_price_bps),
        )
    )


@settings(max_examples=600)
@given_any(cases, policies, mostly(1_000, 60_000, 60_001))
def test_what_holds_of_every_decision(
    case: tuple[list[Event], ExecutionRequested], policy: Policy, age_ms: int
) -> None:
    history, request = case
    asset: Asset = (request.venue.value, request.asset)
    mid = request.quote.mid_micros if request.quote else 0

    saw = inputs(marks=marked({asset: Mark(4, mid, at(100_000))} if mid else {}))
    before = given(PORTFOLIO, *history).state
    made = decide(before, request, policy, saw, now=at(age_ms))
    again = decide(given(PORTFOLIO, *history).state, request, policy, saw, now=at(age_ms))
    assert made == again, "a function of its arguments"
    assert before == given(PORTFOLIO, *history).state, "that changes none of them"
    INPUTS[made.decision] += 1

    assert (made.decision is Decision.EXECUTE) == (made.share_micros > 0)
    blocked = [reason for reason in made.reasons if reason is not Reason.RISK_CAP_GLOBAL]
    assert len(set(made.reasons)) == len(made.reasons)
    failed = {"minimum" if check.name.startswith("order_") else check.name for check in made.checks if not check.passed}
    # A ceiling of the portfolio below the minimum gives the reason of its own check.
    assert len(failed) - ("minimum" in failed) <= len(blocked) <= len(failed), "every failed check is a reason"
    if made.decision is Decision.SKIP:
        assert made.reasons
        assert (made.reduce_micros, made.levels) == (0, ())
    else:
        assert request.mode is Mode.PAPER
        stays_inside_its_band(made, request, policy)
        stays_below_its_ceilings(made, request, policy, before, saw.marks)
        fills_as_estimated(made, request, policy, history, saw.marks)


def stays_inside_its_band(made: CopyDecided, request: ExecutionRequested, policy: Policy) -> None:
    assert request.quote is not None
    sign, lot = request.trade_side.sign, request.quote.size_step_micros
    tick = request.quote.terms.tick_micros if request.quote.terms else 1
    worst = signed_band(request, policy)
    assert worst - tick < sign * made.limit_price_micros <= worst
    assert made.limit_price_micros % tick == 0
    assert made.levels
    assert all(sign * price <= sign * made.limit_price_micros for price, _ in made.levels)
    assert made.share_micros % lot == made.reduce_micros % lot == 0


def stays_below_its_ceilings(
    made: CopyDecided, request: ExecutionRequested, policy: Policy, before: Portfolio, marks: MarkPrices
) -> None:
    assert request.quote is not None
    asset: Asset = (request.venue.value, request.asset)
    assert 0 <= made.reduce_micros <= made.share_micros
    assert made.reduce_micros <= abs(expected_copied(before, request.subscription_id, asset))
    opened = made.share_micros - made.reduce_micros
    if not opened:
        return
    band = inside(request.quote.levels, request.trade_side, made.limit_price_micros)
    cost = worth(beyond(band, made.reduce_micros) or band[-1:], opened)
    waits = before.residuals.get((request.subscription_id, asset), NOTHING).notional_micros
    released = request.trade_side.sign * waits if request.action.value != "FLIP" else 0
    assert cost <= made.target_notional_micros + released
    assert cost <= policy.max_notional_micros
    assert cost <= fraction(made.equity_micros, policy.max_equity_fraction_micros, MICRO)
    assert made.residual_micros == 0
    if policy.max_loss_micros:
        move = MICRO if request.venue is Venue.POLYMARKET else policy.assumed_move_micros
        assert fraction(cost, move, MICRO) <= policy.max_loss_micros
    if request.venue is Venue.POLYMARKET:
        paid = walk(band, opened, fees(request.quote.terms, policy))
        assert sum(one.notional_micros + one.fee_micros for one in paid) <= free_cash(before)


def fills_as_estimated(
    made: CopyDecided, request: ExecutionRequested, policy: Policy, history: list[Event], marks: MarkPrices
) -> None:
    """The fills are those that the whole band would give, in whole lots; when all is filled, no exposure is above its
    limit."""
    assert request.quote is not None
    asset: Asset = (request.venue.value, request.asset)
    # Pending orders may fill or not; here they do not.
    settled = [event for event in history if not (isinstance(event, CopyDecided) and _unfilled(event, history))]
    state = given(PORTFOLIO, *settled).state
    copied = part_of(state, request.subscription_id, asset).share_micros
    events = fill_on_paper(made, state.positions.get(asset, Position()), copied, policy, now=made.decided_at)
    fills = [event for event in events if isinstance(event, OrderFilled)]
    asked = made.share_micros - made.reduce_micros + min(made.reduce_micros, max(0, -request.trade_side.sign * copied))
    band = inside(request.quote.levels, request.trade_side, made.limit_price_micros)
    band = needed(band, made.share_micros, request.quote.size_step_micros)
    estimate = walk(band, asked, fees(request.quote.terms, policy))
    assert [(one.price_micros, one.share_micros, one.fee_micros) for one in fills] == [
        (one.price_micros, one.share_micros, one.fee_micros) for one in estimate
    ]
    if len(settled) < len(history) or sum(one.share_micros for one in fills) < made.share_micros:
        return
    if made.share_micros == made.reduce_micros or _against_each_other(state, asset):
        return
    after = given(PORTFOLIO, *settled, made, *events).state
    at_risk = after.valuation.at(marks).exposure(asset, request.market, request.influencer_id)
    for now, share in (
        (at_risk.total_micros, policy.total_exposure_micros),
        (at_risk.market_micros, policy.market_exposure_micros),
        (at_risk.influencer_micros, policy.influencer_exposure_micros),
    ):
        assert now <= fraction(made.equity_micros, share, MICRO) + 4, "a micro of rounding for each position"
    if policy.max_leverage_micros:
        assert at_risk.total_micros <= max(
            fraction(made.equity_micros, policy.max_leverage_micros, MICRO) + 4 + _spread(made, request), 0
        )
    if policy.notional_cap_micros:
        assert at_risk.market_micros <= policy.notional_cap_micros + 4 + _spread(made, request)
    assert equity(after, marks) <= made.equity_micros + _spread(made, request) + 4


def _spread(made: CopyDecided, request: ExecutionRequested) -> int:
    """By how much a sale brings less than its worth at the mid: ceilings limit what is paid."""
    return sum(abs(price - made.mid_micros) * size // MICRO + 1 for price, size in made.levels)


def _unfilled(decision: CopyDecided, history: list[Event]) -> bool:
    filled_ones = {event.attempt_id for event in history if isinstance(event, OrderFilled)}
    return decision.decision is Decision.EXECUTE and decision.attempt_id not in filled_ones


def _against_each_other(portfolio: Portfolio, asset: Asset) -> bool:
    holding = portfolio.holdings.get(asset)
    signs = {part.share_micros > 0 for part in holding.parts.values()} if holding else set()
    return len(signs) > 1


def test_the_decisions_above_are_of_both_kinds() -> None:
    if not any(INPUTS.values()):
        pytest.skip("the property did not run in this selection")
    assert min(INPUTS.values()) > 50, INPUTS
