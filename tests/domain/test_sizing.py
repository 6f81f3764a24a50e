"""Sizing (docs/design.md, sizing): modes (`sizing`), ceilings (`clamp`), what is given up (`reductions`).

Residuals are in test_residuals.py.
"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.events import ExecutionRequested, Level, Sizing, Terms, Venue
from domain.guardrails import Policy
from domain.micros import MICRO, decimal_text, micros
from domain.order_book import Book
from domain.paper_fills import Fees
from domain.portfolio import NOTHING, Residual
from domain.sizing import (
    SIZING_MODES,
    Clamp,
    Opening,
    Reduction,
    by_notional,
    clamp,
    lots_of,
    opening,
    opening_notional,
    reduction,
    target,
    whole_lots,
)
from domain.valuation import Exposure
from tests.domain.decision_specs import deciding, executes
from tests.domain.facts import bought, executed, fixed, levels, on_polymarket, requested, sold, terms

RICH = micros("1000000")
NO_RISK = Exposure(0, 0, 0)
OPEN_END = Clamp("max_notional", RICH)
ALL_OR_NOTHING = Policy(accumulate=0, min_notional_micros=0)


def worth(book: tuple[Level, ...], share_micros: int) -> int:
    return Book(book, Fees(None, 0)).worth(share_micros)


def target_of(request: ExecutionRequested, notional_micros: int, equity_micros: int) -> int | None:
    return target(request, request.sizing, notional_micros, equity_micros)


def opened_by(
    request: ExecutionRequested,
    target_micros: int,
    book: tuple[Level, ...],
    ceiling: Clamp,
    waiting: Residual,
    policy: Policy,
) -> Opening:
    lots = lots_of(request, policy)
    return opening(request.trade_side.sign, target_micros, Book(book, Fees(None, 0)), 0, ceiling, waiting, lots)


def given_up_by(
    request: ExecutionRequested,
    copied_micros: int,
    price_micros: int,
    equity_micros: int,
    waiting: Residual,
    policy: Policy,
) -> Reduction:
    return reduction(
        request,
        request.sizing,
        copied_micros,
        price_micros,
        equity_micros,
        waiting,
        lots_of(request, policy),
        owed_micros=0,
        notional=by_notional(request, policy),
    )


def percent(mode: str, text: str) -> Sizing:
    return Sizing(mode, percent_micros=micros(text))


# --- modes -------------------------------------------------------------------------------------------------


def test_sizing_copy_percent_takes_a_share_of_the_influencers_notional_rounded_down() -> None:
    one = requested(sizing=percent("copy_percent", "1"))
    assert target_of(one, micros("300.03"), RICH) == micros("3.0003")
    assert target_of(one, 199, RICH) == 1
    assert target_of(one, 99, RICH) == 0


def test_sizing_fixed_notional_takes_the_amount() -> None:
    assert target_of(requested(sizing=fixed("50")), micros("1"), RICH) == micros("50")


def test_sizing_percent_of_equity_takes_a_share_of_the_copiers_equity() -> None:
    half = requested(sizing=percent("percent_of_equity", "0.5"))
    assert target_of(half, micros("1"), micros("8000")) == micros("40")
    assert target_of(half, micros("1"), micros("-8000")) == 0, "never less than nothing"


@pytest.mark.parametrize(
    ("percents", "theirs", "mine", "expected"),
    [
        ("100", "20000", "10000", "50"),  # 100 of 20,000 is half a percent
        ("50", "20000", "10000", "25"),
        ("200", "20000", "10000", "100"),
        ("100", "30000", "10000", "33.333333"),  # rounded down
        ("100", "0.5", "10000", "2000000"),
    ],
)
def test_sizing_proportional_applies_the_influencers_fraction_of_its_own_equity(
    percents: str, theirs: str, mine: str, expected: str
) -> None:
    request = requested(sizing=percent("proportional", percents), influencer_equity_micros=micros(theirs))
    assert target_of(request, micros("100"), micros(mine)) == micros(expected)


@pytest.mark.parametrize("equity", [None, 0, -1])
def test_sizing_proportional_has_no_target_without_the_influencers_equity(equity: int | None) -> None:
    request = requested(sizing=percent("proportional", "100"), influencer_equity_micros=equity)
    assert target_of(request, micros("100"), RICH) is None


def test_sizing_proportional_stays_within_what_can_be_stored() -> None:
    request = requested(sizing=percent("proportional", "100"), influencer_equity_micros=micros("0.01"))
    assert target_of(request, micros("10000000"), micros("10000")) == 10**18 < 2**63


def test_sizing_every_mode_has_a_spec() -> None:
    specs = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [mode for mode in SIZING_MODES if f"def test_sizing_{mode}_" not in specs] == []


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
def test_sizing_works_on_the_part_of_the_influencers_notional_that_opens(before: str, after: str, opens: str) -> None:
    assert opening_notional(requested(before=before, after=after)) == micros(opens)


# --- ceilings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("equity", "name", "limit"),
    [
        ("10000", "max_equity_fraction", "75"),
        ("33333.333333", "max_equity_fraction", "249.999999"),
        ("40000", "max_notional", "250"),
        ("0", "max_equity_fraction", "0"),
        ("-500", "max_equity_fraction", "0"),
    ],
)
def test_clamp_is_250_usd_and_three_quarters_of_a_percent_of_equity(equity: str, name: str, limit: str) -> None:
    assert clamp(Venue.HYPERLIQUID, micros(equity), Policy(), NO_RISK) == Clamp(name, micros(limit))


FREE = {"max_notional_micros": RICH, "max_equity_fraction_micros": MICRO, "max_leverage_micros": 0}


@pytest.mark.parametrize(
    ("policy", "at_risk", "name", "limit"),
    [
        ({"notional_cap_micros": micros("100")}, Exposure(RICH, micros("30"), RICH), "notional_cap", "70"),
        ({"notional_cap_micros": micros("100")}, Exposure(0, micros("130"), 0), "notional_cap", "0"),
        ({"max_leverage_micros": 3 * MICRO}, Exposure(micros("29000"), 0, 0), "max_leverage", "1000"),
        ({"max_leverage_micros": 3 * MICRO}, Exposure(micros("31000"), 0, 0), "max_leverage", "0"),
        ({"max_loss_micros": micros("10")}, NO_RISK, "max_loss", "100"),  # it is assumed to move 10 %
        ({"max_loss_micros": micros("10"), "assumed_move_micros": 20_000}, NO_RISK, "max_loss", "500"),
    ],
)
def test_clamp_by_guardrail(policy: dict[str, int], at_risk: Exposure, name: str, limit: str) -> None:
    found = clamp(Venue.HYPERLIQUID, micros("10000"), Policy(**(FREE | policy)), at_risk)
    assert found == Clamp(name, micros(limit))


def test_clamp_max_loss_of_an_outcome_is_all_that_it_costs() -> None:
    policy = Policy(**FREE, max_loss_micros=micros("10"))
    assert clamp(Venue.POLYMARKET, micros("10000"), policy, NO_RISK) == Clamp("max_loss", micros("10"))


def test_clamp_zero_switches_the_optional_ones_off() -> None:
    off = Policy(**FREE, notional_cap_micros=0, max_loss_micros=0)
    assert clamp(Venue.HYPERLIQUID, RICH * 9, off, Exposure(RICH, RICH, RICH)) == Clamp("max_notional", RICH)


def test_clamp_shapes_the_order_and_is_recorded() -> None:
    outcome = deciding(requested(sizing=fixed("1000")))
    executes(outcome, "0.749")  # 75 USD at 100.05
    (decision,) = outcome.events
    noted = [(c.input, c.limit, c.passed) for c in decision.checks if c.name == "max_equity_fraction_micros"]  # type: ignore[attr-defined]
    assert noted == [(micros("1000"), micros("75"), True)]


def test_clamp_holds_for_every_level_that_is_taken() -> None:
    """250 USD at the best of 0.05 would cost 300 where most is offered at 0.06."""
    book = levels("0.05 x 10", "0.06 x 100000")
    request = on_polymarket(asks=book, sizing=fixed("1000"))
    opened = opened_by(request, micros("1000"), book, Clamp("max_notional", micros("250")), NOTHING, Policy())
    assert opened.share_micros == micros("4168.33")  # 10 for 0.50, the rest for 249.4998
    assert opened.worth_micros == micros("249.9998") == worth(book, opened.share_micros)


@pytest.mark.parametrize(
    ("request_", "policy", "minimum"),
    [
        (requested(), Policy(), "10"),
        (requested(), Policy(min_notional_micros=micros("12")), "12"),
        (on_polymarket(), Policy(), "5"),
        (on_polymarket(), Policy(min_notional_micros=0), "1"),
        (on_polymarket(terms=terms(min_notional_micros=micros("7"))), Policy(), "7"),
    ],
)
def test_clamp_minimum_is_the_policys_or_the_venues_whichever_is_larger(
    request_: Any, policy: Policy, minimum: str
) -> None:
    assert lots_of(request_, policy).min_notional_micros == micros(minimum)


@given_any(st.integers(0, 10**15), st.integers(0, 7).map(lambda places: 10**places))
def test_sizing_lots_are_whole_and_never_more_than_asked(share: int, lot: int) -> None:
    lots = whole_lots(share, lot)
    assert lots % lot == 0
    assert share - lot < lots <= share


books = st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**10)), min_size=1, max_size=6).map(
    lambda found: tuple(sorted(found))
)
amounts = st.integers(0, 10**9)


@given_any(books, amounts, amounts, st.integers(-(10**8), 10**8), st.booleans(), st.integers(0, 6))
def test_clamp_is_never_exceeded_and_little_is_left_out(
    book: tuple[tuple[int, int], ...], wanted: int, limit: int, waits: int, accumulate: bool, places: int
) -> None:
    lot = 10**places
    request = on_polymarket(asks=book, terms=Terms(size_step_micros=lot, min_share_micros=5))
    assert request.quote is not None
    request = requested(venue=Venue.POLYMARKET, asks=book, lot=decimal_text(lot))
    policy = Policy(accumulate=int(accumulate), min_notional_micros=0)
    opened = opened_by(request, wanted, book, Clamp("max_notional", limit), Residual(waits), policy)
    assert opened.worth_micros == worth(book, opened.share_micros) <= max(0, limit)
    if opened.worth_micros > max(0, wanted + waits):
        assert worth(book, opened.share_micros - lot) < MICRO, "one lot more, because the minimum needs it"
    assert opened.share_micros % lot == 0
    assert not (opened.accumulated and opened.share_micros)
    if opened.accumulated:
        assert accumulate
        assert opened.residual_micros == wanted + waits, "nothing is lost"
    elif opened.worth_micros >= MICRO:
        assert opened.residual_micros == 0
        assert worth(book, opened.share_micros + lot + 1) + len(book) >= opened.clamped_micros
    else:
        assert opened.residual_micros == waits


@pytest.mark.parametrize(
    ("notional", "ceiling", "opened"),
    [
        ("500", "250", "9.81"),  # 1 % is 5 USD: 9.80 shares at 0.51 are 4.998 USD, below the minimum of 5
        ("500", "5.0031", "9.81"),
        ("500", "5.003", "0"),  # not above the ceiling
        ("499.99", "250", "0"),  # the target itself is below the minimum
        ("600", "250", "11.76"),  # above it lots are rounded down
    ],
)
def test_a_target_of_the_minimum_is_not_refused_because_of_lots(notional: str, ceiling: str, opened: str) -> None:
    ask = ((micros("0.51"), micros("1000")),)
    limit = Clamp("max_notional", micros(ceiling))
    policy = Policy(accumulate=0)
    found = opened_by(on_polymarket(asks=ask), micros(notional) // 100, ask, limit, NOTHING, policy)
    enough = found.worth_micros >= micros("5")
    assert (found.share_micros if enough else 0) == micros(opened)


# --- what is given up --------------------------------------------------------------------------------------

PRICE = micros("100")


@pytest.mark.parametrize(
    ("before", "after", "copied", "given_up"),
    [
        ("4", "3", "2", "0.5"),  # a quarter
        ("-4", "-1", "-2", "1.5"),  # three quarters of a short
        ("3", "2", "1", "0.333"),  # rounded down to the lot
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
def test_reductions_of_a_perpetual_are_by_the_fraction_that_the_influencer_closed(
    before: str, after: str, copied: str, given_up: str
) -> None:
    found = given_up_by(requested(before=before, after=after), micros(copied), PRICE, RICH, NOTHING, ALL_OR_NOTHING)
    assert (found.share_micros, found.residual_micros) == (micros(given_up), 0)


@pytest.mark.parametrize(
    ("sizing", "after", "held", "given_up"),
    [
        (percent("copy_percent", "10"), "880", "200", "12.24"),  # 10 % of 60 USD at 0.49
        (percent("copy_percent", "10"), "900", "10.2", "10.2"),
        (percent("copy_percent", "10"), "900", "7", "7"),  # capped by the position
        (percent("copy_percent", "10"), "0", "200", "102.04"),  # a close too: 10 % of 500 USD
        (fixed("49"), "999", "200", "100"),
        (percent("percent_of_equity", "0.49"), "999", "200", "100"),
        (percent("proportional", "100"), "750", "200", "50"),  # unknown equity: a quarter, as on perpetuals
    ],
)
def test_reductions_by_notional_are_capped_by_the_position(
    sizing: Sizing, after: str, held: str, given_up: str
) -> None:
    request = on_polymarket(before="1000", after=after, sizing=sizing)
    policy = Policy(accumulate=0, reduce_by_notional=1)
    found = given_up_by(request, micros(held), micros("0.49"), micros("10000"), NOTHING, policy)
    assert found.share_micros == micros(given_up)


@pytest.mark.parametrize(
    "sizing",
    [
        percent("copy_percent", "10"),
        fixed("49"),
        percent("percent_of_equity", "0.49"),
        percent("proportional", "100"),
    ],
)
@pytest.mark.parametrize(("after", "given_up"), [("990", "2"), ("900", "20"), ("250", "150"), ("0", "200")])
def test_reductions_give_up_the_fraction_that_the_influencer_gave_up_in_every_mode_on_both_venues(
    sizing: Sizing, after: str, given_up: str
) -> None:
    never = Policy(accumulate=0, min_notional_micros=0)
    outcome_tokens = on_polymarket(before="1000", after=after, sizing=sizing, terms=terms(min_share_micros=0))
    perpetuals = requested(before="1000", after=after, sizing=sizing)
    for request, price in ((outcome_tokens, "0.49"), (perpetuals, "100")):
        found = given_up_by(request, micros("200"), micros(price), micros("10000"), NOTHING, never)
        assert found.wanted_micros == micros(given_up)


def test_reductions_of_a_part_must_be_worth_the_minimum_but_all_may_always_be_closed() -> None:
    never = Policy(accumulate=0)
    part = given_up_by(requested(before="2", after="1"), micros("0.199"), PRICE, RICH, NOTHING, never)
    assert (part.share_micros, part.wanted_micros) == (0, micros("0.0995"))
    closed = given_up_by(requested(before="2", after="0"), micros("0.001"), PRICE, RICH, NOTHING, never)
    assert closed.share_micros == micros("0.001")
    rest = on_polymarket(before="1000", after="0", sizing=fixed("50"))
    assert given_up_by(rest, micros("2"), micros("0.49"), RICH, NOTHING, never).share_micros == micros("2")


def test_reductions_close_before_a_flip_opens() -> None:
    held = executed(bought("BTC", "0.4", "100"))
    executes(deciding(requested(before="1", after="-3"), *held), "0.9", reduce="0.4")
    short = executed(sold("BTC", "0.4", "100"))
    executes(deciding(requested(before="-1", after="3"), *short), "0.899", reduce="0.4")


nonzero = st.integers(-(10**12), 10**12).filter(bool)
whole = st.integers(-(10**12), 10**12)


@given_any(nonzero, whole, whole, st.integers(0, 10**12), st.booleans())
def test_reductions_never_exceed_what_is_held(
    before: int, after: int, copied: int, waits: int, on_polymarket_: bool
) -> None:
    if before == after:
        return
    venue = Venue.POLYMARKET if on_polymarket_ else Venue.HYPERLIQUID
    request = requested(before=decimal_text(before), after=decimal_text(after), venue=venue)
    given_up = given_up_by(request, copied, PRICE, RICH, Residual(0, waits), Policy())
    assert 0 <= given_up.share_micros <= given_up.wanted_micros <= abs(copied)
    assert given_up.residual_micros in (0, waits, given_up.wanted_micros)
    if given_up.share_micros:
        assert (copied > 0) == (request.trade_side.sign < 0), "giving up trades against what is held"
        assert given_up.residual_micros == 0
