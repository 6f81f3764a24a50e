"""Portfolios (docs/design.md, portfolio): prices, exposure, pending orders, settlements, and repeated events."""

import pytest
from msgspec import structs

from domain.events import Decision
from domain.mark_prices import Asset, Mark
from domain.micros import micros
from domain.portfolio import (
    Portfolio,
    Residual,
    copy,
    equity,
    expected_copied,
    free_cash,
    realized,
    settlements,
)
from domain.portfolio import evolve as fold
from domain.valuation import Exposure, price_of
from tests.domain.facts import (
    SELL,
    at,
    bought,
    completed,
    decided,
    deposited,
    executed,
    signal,
    sold,
)
from tests.domain.portfolio_specs import BTC, ETH, NO_MARKS, PM, YES, after, evolve, marked, more, usd
from tests.domain.strategies import corrected, settled

# --- prices and equity -------------------------------------------------------------------------------------


def test_a_position_is_worth_the_mid_of_its_newest_decision() -> None:
    portfolio = after(deposited("1000"), *executed(bought("BTC", "2", "100")))
    assert equity(portfolio, NO_MARKS) == micros("1000")
    marked = evolve(portfolio, decided(mid="130", decision=Decision.SKIP))
    assert equity(marked, NO_MARKS) == micros("1060")
    no_quote = decided(mid="0", decision=Decision.SKIP, attempt_id="att-2")
    assert equity(evolve(marked, no_quote), NO_MARKS) == micros("1060"), "without a quote the price stays"
    elsewhere = decided(mid="7", decision=Decision.SKIP, attempt_id="att-3", asset="ETH")
    assert equity(evolve(marked, elsewhere), NO_MARKS) == micros("1060")


def test_a_fill_does_not_move_the_price() -> None:
    order, fill = decided("1", mid="130", attempt_id="att-9"), bought("BTC", "1", "150", attempt="att-9")
    portfolio = after(deposited("1000"), *executed(bought("BTC", "2", "100")), order)
    assert equity(portfolio, NO_MARKS) == micros("1060")
    assert equity(evolve(portfolio, fill), NO_MARKS) == micros("1040")


def test_a_falling_price_gains_for_a_short() -> None:
    short = after(deposited("1000"), *executed(sold("BTC", "2", "100")))
    assert equity(evolve(short, decided(mid="90", decision=Decision.SKIP)), NO_MARKS) == micros("1020")


@pytest.mark.parametrize(("ms", "price"), [(999, "130"), (1000, "90"), (1001, "90")])
def test_the_newer_of_the_mark_and_a_decisions_mid_is_the_price(ms: int, price: str) -> None:
    portfolio = evolve(after(*executed(bought("BTC", "2", "100"))), decided(mid="130", decision=Decision.SKIP))
    assert price_of(portfolio.holdings[BTC].position, Mark(1, micros("90"), at(ms))) == micros(price)


def test_a_decision_and_an_earlier_ones_fill_may_be_folded_in_either_order() -> None:
    # Live, a fill may arrive after the next decision was made; replayed, it comes before it.
    first, fill = decided("0.5", mid="100"), bought("BTC", "0.5", "101", attempt="att-1")
    then = decided(mid="120", decision=Decision.SKIP, attempt_id="att-2", decided_at=at(1500))
    replayed = after(deposited(), first, fill, then)
    assert replayed == after(deposited(), first, then, fill)
    assert price_of(replayed.holdings[BTC].position, None) == micros("120")


# --- copied shares, pending orders, exposure ----------------------------------------------------------------


def test_positions_are_split_by_the_subscription_they_were_copied_for() -> None:
    portfolio = after(
        *executed(bought("BTC", "2", "100"), sold("BTC", "3", "100", subscription="sam-bob", influencer="bob"))
    )
    assert portfolio.positions[BTC].share_micros == micros("-1")
    assert expected_copied(portfolio, "sam-ann", BTC) == micros("2")
    assert expected_copied(portfolio, "sam-bob", BTC) == micros("-3")
    assert expected_copied(portfolio, "sam-ann", ETH) == 0


def at_risk(portfolio: Portfolio, asset: Asset = BTC, market: str = "BTC", influencer: str = "ann") -> Exposure:
    return portfolio.valuation.at(NO_MARKS).exposure(asset, market, influencer)


def test_an_order_counts_as_filled_until_its_result_is_known() -> None:
    portfolio = after(deposited(), decided("0.5"))
    assert expected_copied(portfolio, "sam-ann", BTC) == micros("0.5")
    assert at_risk(portfolio) == Exposure(*usd("50", "50", "50"))
    partly = evolve(portfolio, bought("BTC", "0.2", "100", attempt="att-1"))
    assert expected_copied(partly, "sam-ann", BTC) == micros("0.5"), "neither lost nor counted twice"
    assert at_risk(partly) == Exposure(*usd("50", "50", "50"))
    over = evolve(partly, completed())
    assert expected_copied(over, "sam-ann", BTC) == micros("0.2")
    assert at_risk(over) == Exposure(*usd("20", "20", "20"))
    assert over.holdings[BTC].orders == {}


def test_a_skip_leaves_no_pending_order() -> None:
    assert after(deposited(), decided("0.5", decision=Decision.SKIP)).holdings == {}


def test_a_fill_without_a_decision_changes_nothing() -> None:
    assert after(deposited(), bought("BTC", "1", "100")) == after(deposited())


def test_a_pending_reduction_is_no_exposure() -> None:
    held = after(deposited(), *executed(bought("BTC", "1", "100")))
    closing = evolve(held, decided("1", reduce="1", side=SELL))
    assert expected_copied(closing, "sam-ann", BTC) == 0
    assert at_risk(closing) == Exposure(*usd("100", "100", "100"))


def test_of_a_pending_flip_only_the_rest_opens() -> None:
    held = after(deposited(), *executed(bought("BTC", "2", "100")))
    flipping = evolve(held, decided("5", reduce="2", side=SELL))
    assert at_risk(flipping) == Exposure(*usd("500", "500", "500")), "2 held and 3 to open"
    partly = evolve(flipping, sold("BTC", "1", "100", attempt="att-1"))
    assert at_risk(partly) == Exposure(*usd("400", "400", "400")), "fills reduce first"


def test_exposure_is_the_size_of_what_is_held_whichever_way_it_points() -> None:
    portfolio = after(
        *executed(
            bought("BTC", "2", "100"),
            sold("ETH", "3", "10"),
            sold("SOL", "1", "7", subscription="sam-bob", influencer="bob"),
        )
    )
    assert at_risk(portfolio) == Exposure(*usd("237", "200", "230"))
    assert at_risk(portfolio, ETH, "ETH", "bob") == Exposure(*usd("237", "30", "7"))


def test_what_two_influencers_hold_against_each_other_is_at_risk_for_each() -> None:
    against = sold("BTC", "2", "100", subscription="sam-bob", influencer="bob")
    portfolio = after(*executed(bought("BTC", "2", "100"), against))
    assert at_risk(portfolio) == Exposure(*usd("0", "0", "200"))
    assert at_risk(portfolio, influencer="bob") == Exposure(*usd("0", "0", "200"))
    assert equity(portfolio, NO_MARKS) == 0


def test_all_outcomes_of_a_market_are_one_risk() -> None:
    held = (bought("yes", "10", "0.40", venue=PM), bought("no", "5", "0.60", venue=PM))
    portfolio = after(*executed(*held, market="race"))
    assert at_risk(portfolio, YES, "race") == Exposure(*usd("7", "7", "7"))
    assert at_risk(portfolio, YES, "") == Exposure(*usd("7", "4", "7")), "an unknown market is the asset alone"
    assert at_risk(portfolio, BTC, "race").market_micros == 0, "markets of two venues are two"


def test_a_mark_values_what_is_at_risk() -> None:
    portfolio = after(*executed(bought("BTC", "2", "100")))
    doubled = portfolio.valuation.at(marked({BTC: Mark(1, micros("200"), at(2000))}))
    assert doubled.exposure(BTC, "BTC", "ann") == Exposure(*usd("400", "400", "400"))


def test_a_pending_order_of_outcome_tokens_reserves_what_it_can_cost() -> None:
    buying = decided("10", mid="0.5", venue=PM, asset="yes", reserved_micros=micros("5.20"))
    portfolio = after(deposited("100"), buying)
    assert free_cash(portfolio) == micros("94.80")
    other = decided(
        "10", mid="0.3", venue=PM, asset="yes", attempt_id="att-2", request_id="req-2", decision=Decision.SKIP
    )
    assert free_cash(evolve(portfolio, other)) == micros("94.80"), "a mid that moves frees no cash"
    partly = evolve(portfolio, bought("yes", "4", "0.5", attempt="att-1", venue=PM))
    assert free_cash(partly) == micros("98") - micros("3.12")
    assert free_cash(evolve(partly, completed(venue=PM, asset="yes"))) == micros("98")
    assert free_cash(after(deposited("100"), decided("0.5"))) == micros("100"), "perpetuals are not paid in full"


# --- residuals ---------------------------------------------------------------------------------------------


def test_the_residual_is_that_of_the_newest_decision() -> None:
    waiting = decided(decision=Decision.SKIP, residual_micros=-3, residual_share_micros=4)
    portfolio = after(deposited(), waiting)
    assert portfolio.residuals == {("sam-ann", BTC): Residual(-3, 4)}
    elsewhere = decided(decision=Decision.SKIP, attempt_id="att-2", subscription_id="sam-bob", residual_micros=9)
    assert len(evolve(portfolio, elsewhere).residuals) == 2
    assert evolve(portfolio, decided(attempt_id="att-3")).residuals == {}


def owed(portfolio: Portfolio) -> tuple[tuple[str, int], ...]:
    return tuple((who, part.share_micros) for who, part in settlements(portfolio, YES))


# --- settlement --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pays", "cash", "profit"), [("1", "106", "6"), ("0", "96", "-4"), ("0.5", "101", "1")])
def test_a_settlement_pays_out_what_is_held(pays: str, cash: str, profit: str) -> None:
    held = after(deposited("100"), *executed(bought("yes", "10", "0.4", venue=PM)))
    assert owed(held) == (("sam-ann", micros("10")),)
    paid = evolve(held, settled("yes", micros("10"), micros(pays)))
    assert (paid.cash_micros, realized(paid)) == usd(cash, profit)
    assert paid.holdings == {}
    assert equity(paid, NO_MARKS) == micros(cash)
    assert owed(paid) == ()


def test_every_subscription_that_holds_the_asset_is_paid() -> None:
    both = executed(bought("yes", "10", "0.4", venue=PM), bought("yes", "3", "0.6", venue=PM, subscription="sam-bob"))
    held = after(deposited("100"), *both)
    assert owed(held) == (("sam-ann", micros("10")), ("sam-bob", micros("3")))
    first = evolve(held, settled("yes", micros("10"), micros("1")))
    assert owed(first) == (("sam-bob", micros("3")),)
    paid = evolve(first, settled("yes", micros("3"), micros("1"), subscription="sam-bob"))
    assert (paid.cash_micros, realized(paid), paid.positions) == (micros("107.2"), micros("7.2"), {})


def test_a_corrected_payout_moves_cash_and_profit_by_the_difference() -> None:
    held = after(deposited("1000"), *executed(bought("yes", "10", "0.4", venue=PM)))
    paid = evolve(held, settled("yes", micros("10"), micros("1")))
    right = evolve(paid, corrected("yes", micros("10"), micros("1"), micros("0.25")))
    assert (right.cash_micros, realized(right)) == (micros("998.5"), -micros("1.5"))
    assert right.cash_micros == right.deposits_micros + realized(right) - right.fees_micros
    assert right.settled["sam-ann", YES].price_micros == micros("0.25")


def test_a_week_later_a_payout_is_forgotten() -> None:
    held = after(deposited("1000"), *executed(bought("yes", "10", "0.4", venue=PM)))
    paid = evolve(held, settled("yes", micros("10"), micros("1")))
    bought_no = executed(bought("no", "10", "0.4", venue=PM, attempt="att-2"))
    for event in bought_no:
        paid = evolve(paid, event)
    day, later = 86_400 * 1_000_000_000, settled("no", micros("10"), 0)
    for days, kept in ((6, {"yes", "no"}), (7, {"no"})):
        state = evolve(paid, structs.replace(later, settled_at=later.settled_at + days * day))
        assert {asset for _, (_, asset) in state.settled} == kept


def test_what_is_held_against_each_other_is_settled_too() -> None:
    both = executed(bought("yes", "10", "0.4", venue=PM), sold("yes", "10", "0.5", venue=PM, subscription="sam-bob"))
    held = after(*both)
    assert held.positions[YES].share_micros == 0
    paid = more(
        held,
        *(settled("yes", part.share_micros, micros("1"), subscription=who) for who, part in settlements(held, YES)),
    )
    assert (paid.holdings, realized(paid)) == ({}, micros("1"))


def test_a_pending_order_is_settled_after_its_result() -> None:
    held = after(*executed(bought("yes", "10", "0.4", venue=PM)), decided("5", venue=PM, asset="yes"))
    assert owed(held) == ()
    assert owed(evolve(held, completed(venue=PM, asset="yes"))) == (("sam-ann", micros("10")),)


def test_a_settlement_drops_the_residual() -> None:
    held = after(*executed(bought("yes", "10", "0.4", venue=PM)))
    waiting = evolve(
        held, decided(decision=Decision.SKIP, attempt_id="att-2", venue=PM, asset="yes", residual_micros=3)
    )
    assert waiting.residuals
    assert evolve(waiting, settled("yes", micros("10"), micros("1"))).residuals == {}


# --- folding -----------------------------------------------------------------------------------------------


def test_a_copy_keeps_the_state_before_an_event() -> None:
    held = after(deposited(), *executed(bought("BTC", "1", "100")), decided(residual_micros=3, attempt_id="att-2"))
    before, again = copy(held), copy(held)
    for event in (deposited("5", id="dep-2"), *executed(sold("BTC", "2", "100"), bought("ETH", "1", "7"), ms=2000)):
        fold(held, event)
    fold(held, completed("att-2"))
    assert before == again != held


def test_an_order_may_have_two_fills() -> None:
    fill = bought("BTC", "1", "100", attempt="att-1")
    portfolio = after(deposited(), decided("2"), fill, structs.replace(fill, fill_id="fil-2"))
    assert portfolio.positions[BTC].share_micros == micros("2")


def test_other_events_change_no_portfolio() -> None:
    portfolio = after(deposited())
    assert evolve(portfolio, signal()) == portfolio
