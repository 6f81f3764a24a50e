"""Portfolio arithmetic: the ledger formula, average cost, marks, exposure, and the invariants that tie them."""

import itertools

from hypothesis import given as given_any
from hypothesis import strategies as st
from msgspec import structs

from domain.events import CopyDecided, Decision, ExecutionCompleted, OrderFilled, Venue
from domain.micros import micros, times
from domain.portfolio import (
    Exposure,
    Portfolio,
    Position,
    cash_delta,
    equity,
    evolve,
    expected_copied,
    exposure,
    fill_position,
    initial,
)
from tests.domain.facts import BUY, PORTFOLIO, SELL, at, bought, decided, deposited, filled, sold
from tests.given import given

BTC, ETH = ("hyperliquid", "BTC"), ("hyperliquid", "ETH")


def position(portfolio: Portfolio, asset: tuple[str, str] = BTC) -> tuple[int, int, int]:
    held = portfolio.positions[asset]
    return held.share_micros, held.cost_micros, held.realized_micros


def usd(*texts: str) -> tuple[int, ...]:
    return tuple(micros(text) for text in texts)


def completed(attempt: str = "att-1") -> ExecutionCompleted:
    return ExecutionCompleted(
        order_id="ord-1",
        attempt_id=attempt,
        subscription_id="sam-ann",
        subscriber_id="sam",
        venue=Venue.HYPERLIQUID,
        asset="BTC",
        requested_micros=1,
        filled_micros=0,
        notional_micros=0,
        fee_micros=0,
        average_price_micros=0,
        reasons=(),
        completed_at=at(1001),
    )


# --- the ledger formula ------------------------------------------------------------------------------------


def test_a_buy_pays_notional_and_fee() -> None:
    portfolio = given(PORTFOLIO, deposited("1000"), bought("BTC", "2", "100", fee="0.09")).state
    assert portfolio.cash_micros == micros("799.91")
    assert portfolio.fees_micros == micros("0.09")
    assert position(portfolio) == usd("2", "200", "0")


def test_a_sell_receives_notional_less_fee() -> None:
    portfolio = given(PORTFOLIO, deposited("1000"), sold("BTC", "2", "100", fee="0.09")).state
    assert portfolio.cash_micros == micros("1199.91")
    assert position(portfolio) == usd("-2", "-200", "0")


def test_the_cash_of_a_fill_is_the_formula() -> None:
    assert cash_delta(BUY, 100, 3) == -103
    assert cash_delta(SELL, 100, 3) == 97


def test_deposits_add_up_and_may_be_taken_back() -> None:
    portfolio = given(PORTFOLIO, deposited("1000"), deposited("-300.5")).state
    assert (portfolio.deposits_micros, portfolio.cash_micros) == usd("699.5", "699.5")


# --- average cost ------------------------------------------------------------------------------------------


def test_adding_averages_the_cost() -> None:
    portfolio = given(PORTFOLIO, bought("BTC", "1", "100"), bought("BTC", "3", "200")).state
    assert position(portfolio) == usd("4", "700", "0")
    assert portfolio.positions[BTC].average_price_micros == micros("175")


def test_reducing_a_long_realizes_at_average_cost() -> None:
    portfolio = given(PORTFOLIO, bought("BTC", "4", "175"), sold("BTC", "1", "200")).state
    assert position(portfolio) == usd("3", "525", "25")


def test_reducing_a_short_realizes_at_average_cost() -> None:
    portfolio = given(PORTFOLIO, sold("BTC", "4", "175"), bought("BTC", "1", "200")).state
    assert position(portfolio) == usd("-3", "-525", "-25")


def test_closing_leaves_no_cost() -> None:
    portfolio = given(PORTFOLIO, bought("BTC", "4", "175"), sold("BTC", "4", "170")).state
    assert position(portfolio) == usd("0", "0", "-20")
    assert portfolio.positions[BTC].average_price_micros == 0


def test_a_flip_realizes_the_whole_old_side_then_opens() -> None:
    portfolio = given(PORTFOLIO, bought("BTC", "2", "100"), sold("BTC", "5", "110")).state
    assert position(portfolio) == usd("-3", "-330", "20")
    back = evolve(portfolio, bought("BTC", "4", "90"))
    assert position(back) == usd("1", "90", "80")


def test_a_share_of_the_cost_that_does_not_divide_stays_in_the_position() -> None:
    third = fill_position(Position(share_micros=3, cost_micros=100), -1, 40)
    assert third == Position(share_micros=2, cost_micros=67, realized_micros=7)


# --- marks and equity --------------------------------------------------------------------------------------


def test_a_position_is_marked_at_its_first_fill_then_at_the_mid_of_every_decision() -> None:
    portfolio = given(PORTFOLIO, deposited("1000"), bought("BTC", "2", "100")).state
    assert equity(portfolio) == micros("1000")
    marked = evolve(portfolio, decided(mid="130", decision=Decision.SKIP))
    assert equity(marked) == micros("1060")
    assert equity(evolve(marked, bought("BTC", "1", "150"))) == micros("1040"), "a fill does not move a mark"
    assert equity(evolve(marked, decided(mid="0", decision=Decision.SKIP))) == micros("1060"), "no quote, no mark"


def test_a_falling_mark_gains_for_a_short() -> None:
    short = given(PORTFOLIO, deposited("1000"), sold("BTC", "2", "100")).state
    assert equity(evolve(short, decided(mid="90", decision=Decision.SKIP))) == micros("1020")


# --- what is copied, what is on its way, what is at risk ---------------------------------------------------


def test_positions_are_split_by_the_subscription_they_were_copied_for() -> None:
    portfolio = given(
        PORTFOLIO,
        bought("BTC", "2", "100"),
        sold("BTC", "3", "100", subscription="sam-bob", influencer="bob"),
    ).state
    assert portfolio.positions[BTC].share_micros == micros("-1")
    assert expected_copied(portfolio, "sam-ann", BTC) == micros("2")
    assert expected_copied(portfolio, "sam-bob", BTC) == micros("-3")
    assert expected_copied(portfolio, "sam-ann", ETH) == 0


def test_an_order_counts_as_filled_until_its_result_is_known() -> None:
    portfolio = given(PORTFOLIO, deposited(), decided("0.5")).state
    assert expected_copied(portfolio, "sam-ann", BTC) == micros("0.5")
    assert exposure(portfolio, BTC, "ann") == Exposure(*usd("50", "50", "50"))
    partly = evolve(portfolio, bought("BTC", "0.2", "100", attempt="att-1"))
    assert expected_copied(partly, "sam-ann", BTC) == micros("0.5"), "neither lost nor counted twice"
    assert exposure(partly, BTC, "ann") == Exposure(*usd("50", "50", "50"))
    over = evolve(partly, completed())
    assert expected_copied(over, "sam-ann", BTC) == micros("0.2")
    assert exposure(over, BTC, "ann") == Exposure(*usd("20", "20", "20"))
    assert over.pending == {}


def test_a_skip_promises_nothing() -> None:
    portfolio = given(PORTFOLIO, deposited(), decided("0.5", decision=Decision.SKIP)).state
    assert portfolio.pending == {}


def test_a_reduction_on_its_way_is_no_exposure() -> None:
    held = given(PORTFOLIO, deposited(), bought("BTC", "1", "100")).state
    closing = evolve(held, decided("1", reduce="1", side=SELL))
    assert expected_copied(closing, "sam-ann", BTC) == 0
    assert exposure(closing, BTC, "ann") == Exposure(*usd("100", "100", "100"))


def test_exposure_is_the_size_of_what_is_held_whichever_way_it_points() -> None:
    portfolio = given(
        PORTFOLIO,
        bought("BTC", "2", "100"),
        sold("ETH", "3", "10"),
        sold("SOL", "1", "7", subscription="sam-bob", influencer="bob"),
    ).state
    assert exposure(portfolio, BTC, "ann") == Exposure(*usd("237", "200", "230"))
    assert exposure(portfolio, ETH, "bob") == Exposure(*usd("237", "30", "7"))


def test_what_two_influencers_hold_against_each_other_is_at_risk_for_each() -> None:
    portfolio = given(
        PORTFOLIO, bought("BTC", "2", "100"), sold("BTC", "2", "100", subscription="sam-bob", influencer="bob")
    ).state
    assert exposure(portfolio, BTC, "ann") == Exposure(*usd("0", "0", "200"))


# --- invariants --------------------------------------------------------------------------------------------

ASSETS = ("BTC", "ETH", "xyz:SP500")

fills = st.lists(
    st.builds(
        lambda asset, side, share, notional, fee, subscription: filled(
            side, share, notional, fee_micros=fee, asset=asset, subscription=subscription
        ),
        st.sampled_from(ASSETS),
        st.sampled_from([BUY, SELL]),
        st.integers(1, 12) | st.integers(1, 10**12),
        st.integers(0, 100) | st.integers(0, 10**13),
        st.integers(0, 10**7),
        st.sampled_from(["sam-ann", "sam-bob"]),
    ),
    max_size=12,
)


def marked(portfolio: Portfolio, marks: list[int]) -> Portfolio:
    """The portfolio after every asset was decided upon at some mid."""
    for asset, mark in zip(ASSETS, marks, strict=True):
        portfolio = evolve(portfolio, decided(mid="0", mid_micros=mark, asset=asset, decision=Decision.SKIP))
    return portfolio


@given_any(st.integers(0, 10**13), fills, st.lists(st.integers(1, 10**11), min_size=3, max_size=3))
def test_the_books_balance_to_the_micro(deposit: int, traded: list[OrderFilled], marks: list[int]) -> None:
    start = structs.replace(deposited(), cash_delta_micros=deposit)
    portfolio = marked(given(PORTFOLIO, start, *traded).state, marks)
    positions = portfolio.positions.values()
    realized = sum(p.realized_micros for p in positions)
    unrealized = sum(times(p.mark_micros, p.share_micros) - p.cost_micros for p in positions)

    assert portfolio.cash_micros == deposit + sum(fill.cash_delta_micros for fill in traded)
    assert portfolio.fees_micros == sum(fill.fee_micros for fill in traded)
    assert portfolio.cash_micros + sum(p.cost_micros for p in positions) == deposit + realized - portfolio.fees_micros
    assert equity(portfolio) - deposit + portfolio.fees_micros == realized + unrealized
    for asset in ASSETS:
        held = portfolio.positions.get(("hyperliquid", asset), Position()).share_micros
        assert held == sum(fill.share_delta_micros for fill in traded if fill.asset == asset)
        assert held == sum(share for (_, key), share in portfolio.copied.items() if key[1] == asset)


@given_any(fills, st.integers(0, 10**9))
def test_closing_everything_leaves_no_cost_and_cash_says_what_was_earned(traded: list[OrderFilled], price: int) -> None:
    portfolio = given(PORTFOLIO, *traded).state
    for (_, asset), held in portfolio.positions.items():
        if held.share_micros:
            side = SELL if held.share_micros > 0 else BUY
            share = abs(held.share_micros)
            portfolio = evolve(portfolio, filled(side, share, times(price, share), price_micros=price, asset=asset))
    positions = portfolio.positions.values()
    assert all((p.share_micros, p.cost_micros) == (0, 0) for p in positions)
    assert portfolio.cash_micros == sum(p.realized_micros for p in positions) - portfolio.fees_micros


@given_any(fills)
def test_cost_points_the_way_the_position_does(traded: list[OrderFilled]) -> None:
    for held in given(PORTFOLIO, *traded).state.positions.values():
        assert held.cost_micros * held.share_micros >= 0
        assert held.share_micros or not held.cost_micros


@given_any(fills)
def test_the_order_of_independent_assets_does_not_matter(traded: list[OrderFilled]) -> None:
    by_asset = {asset: [fill for fill in traded if fill.asset == asset] for asset in ASSETS}
    sorted_by_asset = list(itertools.chain(*by_asset.values()))
    assert given(PORTFOLIO, *sorted_by_asset).state == given(PORTFOLIO, *traded).state


@given_any(fills)
def test_a_fill_of_an_order_on_its_way_never_changes_what_is_expected(traded: list[OrderFilled]) -> None:
    """Decide, fill in parts, complete: what is expected to be held is what comes to be held."""
    portfolio = initial
    for number, fill in enumerate(traded):
        attempt = f"att-{number}"
        promise = decided(
            side=fill.trade_side,
            share_micros=fill.share_micros,
            asset=fill.asset,
            subscription_id=fill.subscription_id,
            attempt_id=attempt,
        )
        assert isinstance(promise, CopyDecided)
        key = ("hyperliquid", fill.asset)
        portfolio = evolve(portfolio, promise)
        expected = expected_copied(portfolio, fill.subscription_id, key)
        portfolio = evolve(portfolio, structs.replace(fill, attempt_id=attempt))
        assert expected_copied(portfolio, fill.subscription_id, key) == expected
        portfolio = evolve(portfolio, completed(attempt))
        assert expected_copied(portfolio, fill.subscription_id, key) == expected
    assert portfolio.pending == {}


def test_a_decision_and_an_earlier_ones_fill_may_be_seen_in_either_order() -> None:
    # Live, a fill may arrive after the next decision was made; replayed, it stands before it.
    first, fill = decided("0.5", mid="100"), bought("BTC", "0.5", "101")
    then = decided(mid="120", decision=Decision.SKIP)
    start = given(PORTFOLIO, deposited()).state
    replayed = evolve(evolve(evolve(start, first), fill), then)
    live = evolve(evolve(evolve(start, first), then), fill)
    assert replayed.positions == live.positions
    assert equity(replayed) == equity(live)
