"""Sizing: how much of a group a subscription opens or gives up."""

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import Sizing, Venue
from domain.micros import decimal_text, micros
from domain.policy import Policy
from domain.sizing import TARGETS, minimum_notional, opening_notional, opening_target, reduction, whole_lots
from tests.domain.facts import fixed, requested

RICH = micros("1000000")
FREE = Policy(max_notional_micros=RICH, max_equity_fraction_micros=1_000_000)


def copy_percent(text: str) -> Sizing:
    return Sizing("copy_percent", percent_micros=micros(text))


def percent_of_equity(text: str) -> Sizing:
    return Sizing("percent_of_equity", percent_micros=micros(text))


# --- modes -------------------------------------------------------------------------------------------------


def test_copy_percent_takes_a_share_of_the_influencers_notional_rounded_down() -> None:
    request = requested(after="3", price="100.01", sizing=copy_percent("1"))
    assert opening_target(request, RICH, FREE) == micros("3.0003")
    tiny = requested(sizing=copy_percent("1"), notional_micros=199)
    assert opening_target(tiny, RICH, FREE) == 1


def test_fixed_notional_takes_the_amount() -> None:
    assert opening_target(requested(after="1000", sizing=fixed("50")), RICH, FREE) == micros("50")


def test_percent_of_equity_takes_a_share_of_the_copiers_equity() -> None:
    assert opening_target(requested(sizing=percent_of_equity("0.5")), micros("8000"), FREE) == micros("40")


def test_every_mode_is_specified_here() -> None:
    assert set(TARGETS) == {"copy_percent", "fixed_notional", "percent_of_equity"}


# --- clamps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("equity", "target"),
    [("10000", "75"), ("33333.333333", "249.999999"), ("40000", "250"), ("0", "0"), ("-500", "0")],
)
def test_an_opening_is_at_most_250_usd_and_three_quarters_of_a_percent_of_equity(equity: str, target: str) -> None:
    assert opening_target(requested(sizing=fixed("1000")), micros(equity), Policy()) == micros(target)


def test_the_minimum_is_the_policys_or_the_venues_whichever_is_larger() -> None:
    on_hyperliquid, on_polymarket = requested(), requested(venue=Venue.POLYMARKET)
    assert minimum_notional(on_hyperliquid, Policy()) == micros("10")
    assert minimum_notional(on_polymarket, Policy()) == micros("5")
    assert minimum_notional(on_hyperliquid, Policy(min_notional_micros=micros("12"))) == micros("12")


@given_any(st.integers(0, 10**15), st.integers(0, 7).map(lambda places: 10**places))
def test_lots_are_whole_and_never_more_than_asked(share: int, lot: int) -> None:
    lots = whole_lots(share, lot)
    assert lots % lot == 0
    assert share - lot < lots <= share


# --- which part opens --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "opens"),
    [
        ("0", "1", "100"),
        ("0", "-1", "100"),
        ("2", "3", "100"),
        ("-2", "-3", "100"),
        ("3", "1", "0"),
        ("-3", "-1", "0"),
        ("3", "0", "0"),
        ("1", "-3", "300"),  # 4 traded, 3 of them open
        ("-3", "1", "100"),
    ],
)
def test_the_part_of_the_influencers_notional_that_opens(before: str, after: str, opens: str) -> None:
    assert opening_notional(requested(before=before, after=after)) == micros(opens)


def test_what_only_reduces_opens_nothing_whatever_the_mode() -> None:
    assert opening_target(requested(before="2", after="1", sizing=fixed("50")), RICH, FREE) == 0
    assert opening_target(requested(before="2", after="0", sizing=percent_of_equity("1")), RICH, FREE) == 0


# --- what is given up --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "copied", "given_up"),
    [
        ("4", "3", "2", "0.5"),  # a quarter
        ("-4", "-1", "-2", "1.5"),  # three quarters of a short
        ("3", "2", "1", "0.333333"),  # rounded down
        ("4", "0", "2", "2"),  # a close closes all
        ("-4", "0", "-2", "2"),
        ("4", "-4", "2", "2"),  # a flip closes all first
        ("4", "-0.000001", "2", "2"),
        ("0", "1", "2", "0"),  # what opens gives nothing up
        ("1", "2", "-2", "0"),
        ("4", "3", "0", "0"),  # nothing was copied
        ("4", "3", "-2", "0"),  # what is held points the other way already
        ("4", "0", "-2", "0"),
    ],
)
def test_what_is_given_up_of_what_was_copied(before: str, after: str, copied: str, given_up: str) -> None:
    assert reduction(requested(before=before, after=after), micros(copied)) == micros(given_up)


nonzero = st.integers(-(10**12), 10**12).filter(bool)


@given_any(nonzero, st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_never_more_is_given_up_than_is_held(before: int, after: int, copied: int) -> None:
    if before == after:
        return
    request = requested(before=decimal_text(before), after=decimal_text(after))
    given_up = reduction(request, copied)
    assert 0 <= given_up <= abs(copied)
    if given_up:
        assert (copied > 0) == (request.trade_side.sign < 0), "giving up trades against what is held"
