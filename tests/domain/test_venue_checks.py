"""Checks of what a venue takes (docs/design.md, decisions): minimum order, lot, position, equity, mode."""

from typing import Any

from domain.events import (
    Check,
    Mode,
    Sizing,
)
from domain.guardrails import Policy
from domain.micros import micros
from domain.reason_codes import Reason
from tests.domain.decision_specs import GONE, deciding, executes, skips
from tests.domain.facts import (
    bought,
    executed,
    fixed,
    levels,
    on_polymarket,
    requested,
    terms,
)


def test_venue_no_position_of_this_subscription_to_reduce() -> None:
    nothing = (Reason.NO_POSITION, Check("copied_position_micros", 0, 1, False))
    skips(deciding(requested(before="1", after="0")), nothing)
    skips(deciding(requested(before="2", after="1")), nothing)
    of_another = executed(bought("BTC", "1", "100", subscription="sam-bob", influencer="bob"))
    skips(deciding(requested(before="1", after="0"), *of_another), nothing)


def test_venue_no_equity_opens_nothing() -> None:
    broke = deciding(requested(), GONE)
    skips(broke, (Reason.NO_EQUITY, Check("equity_micros", 0, 1, False)))


NEVER = Policy(accumulate=0)


def test_venue_minimum_notional_of_hyperliquid() -> None:
    order = micros("9.904950")  # 0.099 at 100.05
    small = (Reason.BELOW_MINIMUM, Check("order_notional_micros", order, micros("10"), False))
    skips(deciding(requested(sizing=fixed("9.99")), policy=NEVER), small)


def test_venue_minimum_notional_of_the_policy() -> None:
    small = (Reason.BELOW_MINIMUM, Check("order_notional_micros", micros("49.92495"), micros("50.5"), False))
    skips(deciding(requested(), policy=Policy(min_notional_micros=micros("50.5"), accumulate=0)), small)


def test_venue_minimum_size_of_polymarket() -> None:
    dear: dict[str, Any] = {"price": "0.94", "bids": levels("0.94 x 900"), "asks": levels("0.95 x 900")}
    four = on_polymarket(sizing=fixed("4.70"), terms=terms(), **dear)
    outcome = deciding(four, policy=Policy(min_notional_micros=0, accumulate=0))
    skips(outcome, (Reason.BELOW_MINIMUM, Check("order_min_share_micros", micros("4.94"), micros("5"), False)))


def test_venue_minimum_of_a_partial_reduction() -> None:
    small = (Reason.BELOW_MINIMUM, Check("reduction_notional_micros", micros("9.995"), micros("10"), False))
    skips(deciding(requested(before="2", after="1"), *executed(bought("BTC", "0.2", "100")), policy=NEVER), small)


def test_venue_minimum_of_a_partial_reduction_is_compared_before_it_is_rounded_to_lots() -> None:
    """A third of 0.3003 is 0.1001: worth 10.005, and 9.995 in whole lots of 0.001."""
    held = executed(bought("BTC", "0.3003", "100"))
    third = requested(before="3", after="2", bids=levels("99.95 x 50"), asks=levels("100.05 x 50"))
    executes(deciding(third, *held, policy=NEVER), "0.101", reduce="0.101")
    less = requested(before="3", after="2.01", bids=levels("99.95 x 50"), asks=levels("100.05 x 50"))
    small = (Reason.BELOW_MINIMUM, Check("reduction_notional_micros", micros("9.904945"), micros("10"), False))
    skips(deciding(less, *held, policy=NEVER), small)


def test_venue_lot_a_position_below_it_cannot_be_closed() -> None:
    dust = executed(bought("BTC", "0.0004", "100"))
    less = (Reason.BELOW_MINIMUM, Check("reduction_notional_micros", micros("0.03998"), micros("10"), False))
    skips(deciding(requested(before="1", after="0"), *dust), less)


def test_venue_lot_nothing_is_left_of_a_reduction_of_less_than_a_micro() -> None:
    held = executed(bought("BTC", "0.4", "100"))
    nothing = (Reason.BELOW_MINIMUM, Check("order_share_micros", 0, 1, False))
    skips(deciding(requested(before="1", after="0.999999"), *held, policy=NEVER), nothing)


def test_venue_proportion_of_an_unknown_equity() -> None:
    sizing = Sizing("proportional", percent_micros=100_000_000)
    unknown = (Reason.INFLUENCER_EQUITY_UNKNOWN, Check("influencer_equity_micros", None, 1, False))
    skips(deciding(requested(sizing=sizing)), unknown)
    ruined = (Reason.INFLUENCER_EQUITY_UNKNOWN, Check("influencer_equity_micros", 0, 1, False))
    skips(deciding(requested(sizing=sizing, influencer_equity_micros=0)), ruined)
    known = requested(sizing=sizing, influencer_equity_micros=micros("20000"))
    executes(deciding(known), "0.499")  # 0.5 % of 20,000, so 50 of 10,000


def test_venue_live_needs_an_account() -> None:
    live = (Reason.LIVE_NOT_AVAILABLE, Check("account", None, None, False))
    skips(deciding(requested(mode=Mode.LIVE)), live)
