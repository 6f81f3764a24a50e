"""Cash on a venue that is paid in full: pending orders reserve what they can cost, and cash is never below zero."""

from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec import structs

from domain.decision import decide
from domain.events import CopyDecided, Decision
from domain.guardrails import Policy
from domain.micros import MICRO, micros
from domain.paper_execution import fill_on_paper
from domain.paper_fills import Fees, walk
from domain.portfolio import Portfolio, free_cash
from domain.position import Position
from tests.domain.facts import at, deposited, fixed, inputs, levels, on_polymarket
from tests.domain.portfolio_specs import after, evolve, more

NO_OTHER_LIMIT = Policy(
    max_equity_fraction_micros=1_000_000,
    max_notional_micros=10**12,
    total_exposure_micros=10**7,
    market_exposure_micros=10**7,
    influencer_exposure_micros=10**7,
    max_leverage_micros=0,
    daily_loss_micros=0,
    weekly_loss_micros=0,
    drawdown_micros=0,
)


def decided(portfolio: Portfolio, number: int, usd: str, asset: str, bid: int, ask: int) -> CopyDecided:
    """The decision on one group of a race, at a book of these prices in cents."""
    request = on_polymarket(
        sizing=fixed(usd),
        asset=asset,
        price=f"0.{ask:02}",
        bids=levels(f"0.{bid:02} x 1000"),
        asks=levels(f"0.{ask:02} x 1000"),
    )
    named = structs.replace(request, request_id=f"req-{number}", group_id=f"grp-{number}")
    return decide(portfolio, named, NO_OTHER_LIMIT, inputs(), now=at(1000))


def filled(portfolio: Portfolio, decision: CopyDecided) -> Portfolio:
    return more(portfolio, *fill_on_paper(decision, Position(), 0, NO_OTHER_LIMIT, now=at(1001)))


def test_two_orders_of_one_batch_never_cost_more_than_there_is() -> None:
    portfolio = after(deposited("100"))
    first = decided(portfolio, 1, "50", "yes", 49, 51)
    portfolio = evolve(portfolio, first)
    second = decided(portfolio, 2, "50", "no", 49, 51)
    portfolio = evolve(portfolio, second)
    assert (first.decision, second.decision) == (Decision.EXECUTE, Decision.SKIP), "the first may cost more than 50"
    assert filled(portfolio, first).cash_micros >= 0


def test_a_mid_that_falls_frees_no_cash() -> None:
    portfolio = after(deposited("100"))
    first = decided(portfolio, 1, "90", "yes", 49, 51)
    portfolio = evolve(portfolio, first)
    free = free_cash(portfolio)
    portfolio = evolve(portfolio, decided(portfolio, 2, "60", "yes", 29, 31))
    assert free_cash(portfolio) == free < micros("10")


orders = st.tuples(
    st.integers(2, 60).map(str), st.sampled_from(["yes", "no", "other"]), st.integers(2, 96), st.booleans()
)


@given_any(st.lists(orders, min_size=1, max_size=8))
def test_cash_is_never_below_zero(placed: list[tuple[str, str, int, bool]]) -> None:
    """Orders of any sizes at moving prices, some filled at once and some all together at the end."""
    portfolio, waiting = after(deposited("100")), []
    for number, (usd, asset, bid, at_once) in enumerate(placed):
        decision = decided(portfolio, number, usd, asset, bid, bid + 2)
        portfolio = evolve(portfolio, decision)
        assert free_cash(portfolio) >= 0
        if decision.decision is Decision.EXECUTE:
            if at_once:
                portfolio = filled(portfolio, decision)
            else:
                waiting.append(decision)
        assert portfolio.cash_micros >= 0
    for decision in waiting:
        portfolio = filled(portfolio, decision)
        assert portfolio.cash_micros >= 0
        assert free_cash(portfolio) >= 0


@given_any(
    st.integers(1, MICRO - 1),
    st.lists(st.tuples(st.integers(1, MICRO - 1), st.integers(1, 10**9)), min_size=1, max_size=5),
    st.integers(1, 10**9),
    st.sampled_from([None, 0, 10_000, 70_000, MICRO]),
)
def test_no_walk_inside_the_limit_costs_more_than_the_most(
    limit: int, book: list[tuple[int, int]], share: int, rate: int | None
) -> None:
    fees = Fees(rate, 450)
    inside = tuple(sorted((price, size) for price, size in book if price <= limit))
    taken = walk(inside, share, fees)
    cost = sum(fill.notional_micros + fill.fee_micros for fill in taken)
    assert cost <= fees.most(limit, share)
