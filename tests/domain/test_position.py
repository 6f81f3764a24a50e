"""The arithmetic of a position (docs/design.md, portfolio): the ledger formula, and average cost."""

from domain.micros import micros
from domain.portfolio import (
    realized,
)
from domain.position import Position, cash_delta, fill_position
from tests.domain.facts import (
    BUY,
    SELL,
    bought,
    deposited,
    executed,
    sold,
)
from tests.domain.portfolio_specs import BTC, after, more, position, usd

# --- the ledger formula ------------------------------------------------------------------------------------


def test_a_buy_pays_notional_and_fee() -> None:
    portfolio = after(deposited("1000"), *executed(bought("BTC", "2", "100", fee="0.09")))
    assert portfolio.cash_micros == micros("799.91")
    assert portfolio.fees_micros == micros("0.09")
    assert position(portfolio) == usd("2", "200", "0")


def test_a_sell_receives_notional_less_fee() -> None:
    portfolio = after(deposited("1000"), *executed(sold("BTC", "2", "100", fee="0.09")))
    assert portfolio.cash_micros == micros("1199.91")
    assert position(portfolio) == usd("-2", "-200", "0")


def test_the_cash_of_a_fill_is_the_formula() -> None:
    assert cash_delta(BUY, 100, 3) == -103
    assert cash_delta(SELL, 100, 3) == 97


def test_deposits_add_up_and_may_be_taken_back() -> None:
    portfolio = after(deposited("1000", id="dep-1"), deposited("-300.5", id="dep-2"))
    assert (portfolio.deposits_micros, portfolio.cash_micros) == usd("699.5", "699.5")


# --- average cost ------------------------------------------------------------------------------------------


def test_adding_averages_the_cost() -> None:
    portfolio = after(*executed(bought("BTC", "1", "100"), bought("BTC", "3", "200")))
    assert position(portfolio) == usd("4", "700", "0")
    assert portfolio.positions[BTC].average_price_micros == micros("175")


def test_reducing_a_long_realizes_at_average_cost() -> None:
    assert position(after(*executed(bought("BTC", "4", "175"), sold("BTC", "1", "200")))) == usd("3", "525", "25")


def test_reducing_a_short_realizes_at_average_cost() -> None:
    assert position(after(*executed(sold("BTC", "4", "175"), bought("BTC", "1", "200")))) == usd("-3", "-525", "-25")


def test_closing_leaves_nothing_but_the_profit() -> None:
    portfolio = after(*executed(bought("BTC", "4", "175"), sold("BTC", "4", "170")))
    assert (portfolio.holdings, realized(portfolio)) == ({}, micros("-20"))
    again = more(portfolio, *executed(bought("BTC", "1", "100"), sold("BTC", "1", "103"), ms=2000))
    assert realized(again) == micros("-17")
    assert fill_position(Position(4, 700), -4, 680) == Position(0, 0, -20)
    assert fill_position(Position(4, 700), -4, 680).average_price_micros == 0


def test_a_flip_realizes_the_whole_old_side_then_opens() -> None:
    portfolio = after(*executed(bought("BTC", "2", "100"), sold("BTC", "5", "110")))
    assert position(portfolio) == usd("-3", "-330", "20")
    assert position(more(portfolio, *executed(bought("BTC", "4", "90"), ms=2000))) == usd("1", "90", "80")


def test_a_share_of_the_cost_that_does_not_divide_stays_in_the_position() -> None:
    third = fill_position(Position(share_micros=3, cost_micros=100), -1, 40)
    assert third == Position(share_micros=2, cost_micros=67, realized_micros=7)
