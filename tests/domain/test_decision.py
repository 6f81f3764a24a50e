"""The decision (docs/design.md, decisions): what is executed, and which obstacles stop openings but never reductions.

The checks have their own specs in test_checks.py, residuals in test_residuals.py; properties of every decision are in
test_decisions_of_subscribers.py. EXEC_GLOBAL names its caps (last section).
"""

from typing import Any

import pytest
from msgspec import Struct, structs

from domain.events import (
    BreakerLimit,
    Check,
    CopyDecided,
    Decision,
    Event,
    PortfolioScope,
    PositionState,
    Terms,
)
from domain.guardrails import Policy
from domain.micros import micros
from domain.portfolio import Portfolio
from domain.reason_codes import Reason
from domain.testing import Result, like
from tests.domain.decision_specs import GONE, deciding, executes, failed, the, tripped
from tests.domain.facts import (
    at,
    bought,
    decided,
    executed,
    fixed,
    inputs,
    levels,
    on_polymarket,
    requested,
    sold,
    terms,
)

# --- what is executed --------------------------------------------------------------------------------------


def test_an_opening_inside_every_limit_executes_and_lists_every_check() -> None:
    outcome = deciding(requested())
    outcome.then(
        like(
            CopyDecided,
            decision=Decision.EXECUTE,
            reasons=(),
            share_micros=micros("0.499"),
            reduce_micros=0,
            target_notional_micros=micros("50"),
            reference_price_micros=micros("100"),
            limit_price_micros=micros("100.10"),
            mid_micros=micros("100"),
            levels=levels("100.05 x 5"),
            equity_micros=micros("10000"),
            config_sequence=7,
            marks_sequence=5,
            policy_hash="policy-1",
            quote_id="quo-1",
            decided_at=at(1000),
        )
    )
    order, worth = micros("49.92495"), micros("49.9")  # 0.499 at 100.05, and at the mid
    assert the(outcome).checks == (
        Check("engine", "running", "running", True),
        Check("quote", "quo-1", None, True),
        Check("market", "open", "open", True),
        Check("price_vs_influencer_micros", micros("100.05"), micros("100.1"), True),
        Check("price_vs_mid_micros", micros("100.05"), micros("100.15"), True),
        Check("liquidity_in_band_micros", micros("1501.25"), 1, True),
        Check("equity_micros", micros("10000"), 1, True),
        Check("signal_age_ms", 1000, 60_000, True),
        Check("quote_age_ms", 90, 5_000, True),
        Check("switches", "on", "on", True),
        Check("filters", "wanted", "wanted", True),
        Check("position_state", "KNOWN", "KNOWN", True),
        Check("breaker", None, None, True),
        Check("spread_micros", micros("0.1"), micros("0.2"), True),
        Check("depth_in_band_micros", micros("1501.25"), order * 5 // 4, True),
        Check("exposure_total_micros", worth, micros("7000"), True),
        Check("exposure_market_micros", worth, micros("500"), True),
        Check("exposure_influencer_micros", worth, micros("2000"), True),
        Check("order_notional_micros", order, micros("10"), True),
    )


def test_an_opening_on_polymarket_checks_its_close_its_cash_and_its_smallest_size_too() -> None:
    request = on_polymarket(terms=terms(closes_at=at(1000 + 1_800_000)))
    outcome = deciding(request)
    executes(outcome, "98.03")  # 50 / 0.51
    assert the(outcome).limit_price_micros == micros("0.51")
    cost = micros("49.9953") + micros("1.22488")  # 5 % of 98.03 x 0.51 x 0.49
    checks = the(outcome).checks
    for check in (
        Check("ms_to_close", 1_800_000, 1_800_000, True),
        Check("cash_micros", cost, micros("10000"), True),
        Check("order_min_share_micros", micros("98.03"), micros("5"), True),
    ):
        assert check in checks


def test_an_opening_of_a_short_takes_the_bids() -> None:
    outcome = deciding(requested(before="0", after="-1"))
    executes(outcome, "0.5")  # 50 / 99.95 = 0.50025
    assert the(outcome).limit_price_micros == micros("99.90")
    assert the(outcome).levels == levels("99.95 x 5")


def test_the_levels_of_a_decision_are_those_that_the_order_can_reach() -> None:
    asks = levels("100.05 x 0.3", "100.06 x 0.1", "100.07 x 0.2", "100.08 x 9")
    assert the(deciding(requested(asks=asks))).levels == asks[:3]


def test_a_decrease_gives_up_the_same_fraction() -> None:
    executes(deciding(requested(before="2", after="1"), *executed(bought("BTC", "0.4", "100"))), "0.2", reduce="0.2")


def test_a_close_closes_all_however_little_it_is_worth() -> None:
    held = executed(bought("BTC", "0.004", "100"))
    executes(deciding(requested(before="1", after="0"), *held), "0.004", reduce="0.004")


def test_a_short_is_closed_by_buying() -> None:
    executes(deciding(requested(before="-1", after="0"), *executed(sold("BTC", "0.4", "100"))), "0.4", reduce="0.4")


def test_a_close_sells_only_what_this_subscription_copied() -> None:
    other = bought("BTC", "3", "100", subscription="sam-bob", influencer="bob")
    held = executed(bought("BTC", "0.4", "100"), other)
    executes(deciding(requested(before="1", after="0"), *held), "0.4", reduce="0.4")


def test_an_order_on_its_way_counts_as_held() -> None:
    executes(deciding(requested(before="1", after="0"), decided("0.3")), "0.3", reduce="0.3")


def test_a_flip_closes_what_is_held_and_opens_the_rest() -> None:
    outcome = deciding(requested(before="1", after="-1"), *executed(bought("BTC", "0.4", "100")))
    executes(outcome, "0.9", reduce="0.4")
    assert the(outcome).target_notional_micros == micros("50")


def test_a_flip_of_what_was_never_copied_only_opens() -> None:
    executes(deciding(requested(before="1", after="-2")), "0.5")


def test_a_flip_opens_at_the_levels_that_its_reduction_leaves() -> None:
    bids = levels("99.95 x 0.5", "99.90 x 10")
    flip = requested(before="1", after="-1", bids=bids, lot="0.000001")
    outcome = deciding(flip, *executed(bought("BTC", "0.4", "100")))
    executes(outcome, "0.90045", reduce="0.4")  # 0.1 at 99.95 for 9.995, and 0.40045 at 99.90 for 40.005
    assert the(outcome).levels == bids


def test_limits_are_inclusive() -> None:
    asks = levels("100.10 x 0.625")
    bids = levels("99.90 x 5")
    exact = Policy(
        depth_ratio_micros=1_250_000,
        min_notional_micros=micros("50.05"),
        market_exposure_micros=5_000,
        max_quote_age_ms=59_090,
    )
    request = requested(asks=asks, bids=bids, sizing=fixed("50.05"))
    executes(deciding(request, policy=exact, ms=60_000), "0.5")


# --- obstacles to openings ----------------------------------------------------------------------------------


class Obstacle(Struct, frozen=True):
    """Something that stops what opens, for one reason."""

    reason: Reason
    policy: Policy = Policy()
    request: dict[str, Any] = {}
    history: tuple[Event, ...] = ()
    inputs: dict[str, Any] = {}
    ms: int = 1000
    terms: dict[str, Any] = {}


OBSTACLES = {
    "signal_age": Obstacle(Reason.STALE_SIGNAL, Policy(max_quote_age_ms=0), ms=60_001),
    "quote_age": Obstacle(Reason.STALE_QUOTE, ms=5_911),
    "filters": Obstacle(Reason.FILTERED, request={"opening_blocked": "SIDE_NOT_WANTED"}),
    "influencer_disabled": Obstacle(Reason.INFLUENCER_DISABLED, inputs={"disabled": Reason.INFLUENCER_DISABLED}),
    "subscriber_disabled": Obstacle(Reason.SUBSCRIBER_DISABLED, inputs={"disabled": Reason.SUBSCRIBER_DISABLED}),
    "market_blocked": Obstacle(Reason.MARKET_BLOCKED, inputs={"disabled": Reason.MARKET_BLOCKED}),
    "position_unknown": Obstacle(Reason.POSITION_UNKNOWN, request={"position_state": PositionState.ASSUMED}),
    "close_guard": Obstacle(Reason.MARKET_CLOSING, terms={"closes_at": at(1000 + 1_799_999)}),
    "daily_loss": Obstacle(Reason.BREAKER_DAILY_LOSS, history=(tripped(BreakerLimit.DAILY_LOSS),)),
    "weekly_loss": Obstacle(Reason.BREAKER_WEEKLY_LOSS, history=(tripped(BreakerLimit.WEEKLY_LOSS),)),
    "drawdown": Obstacle(Reason.BREAKER_DRAWDOWN, history=(tripped(BreakerLimit.DRAWDOWN),)),
    "spread": Obstacle(Reason.SPREAD_TOO_WIDE, Policy(spread_bps=9)),
    "depth": Obstacle(Reason.INSUFFICIENT_DEPTH, Policy(depth_ratio_micros=100_000_000)),
    "exposure_total": Obstacle(Reason.EXPOSURE_TOTAL, Policy(total_exposure_micros=1_000)),
    "exposure_market": Obstacle(Reason.EXPOSURE_MARKET, Policy(market_exposure_micros=1_000)),
    "exposure_influencer": Obstacle(Reason.EXPOSURE_INFLUENCER, Policy(influencer_exposure_micros=1_000)),
    "max_leverage": Obstacle(Reason.EXPOSURE_TOTAL, Policy(max_leverage_micros=500)),
    "notional_cap": Obstacle(Reason.NOTIONAL_CAP, Policy(notional_cap_micros=micros("9"))),
    "equity": Obstacle(Reason.NO_EQUITY, history=(GONE,)),
    "minimum": Obstacle(Reason.BELOW_MINIMUM, Policy(accumulate=0), request={"sizing": fixed("5")}),
    "residual": Obstacle(Reason.ACCUMULATED, request={"sizing": fixed("5")}),
}


def against(obstacle: Obstacle, before: str, after: str) -> Result[Portfolio]:
    request = requested(before=before, after=after, **obstacle.request)
    assert request.quote is not None
    quote = structs.replace(request.quote, terms=Terms(size_step_micros=1_000, **obstacle.terms))
    return deciding(
        structs.replace(request, quote=quote),
        *executed(bought("BTC", "0.4", "100")),
        *obstacle.history,
        policy=obstacle.policy,
        ms=obstacle.ms,
        inputs=inputs(**obstacle.inputs),
    )


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES)
def test_an_obstacle_to_an_opening_skips_it(obstacle: Obstacle) -> None:
    outcome = against(obstacle, "1", "2")
    outcome.then(like(CopyDecided, decision=Decision.SKIP, reasons=(obstacle.reason,), share_micros=0, levels=()))
    assert len(failed(outcome)) == 1


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES)
def test_obstacles_to_openings_let_reductions_through(obstacle: Obstacle) -> None:
    executes(against(obstacle, "4", "1"), "0.3", reduce="0.3")
    executes(against(obstacle, "1", "0"), "0.4", reduce="0.4")


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES)
def test_a_flip_whose_opening_is_refused_only_closes_with_the_reason(obstacle: Obstacle) -> None:
    executes(against(obstacle, "1", "-1"), "0.4", reduce="0.4", despite=(obstacle.reason,))


# --- the portfolio that copies everyone --------------------------------------------------------------------

CAPS = {
    name: obstacle
    for name, obstacle in OBSTACLES.items()
    if name.startswith(("exposure", "max_leverage", "notional_cap", "daily", "weekly", "drawdown"))
}
OF_EVERYONE: dict[str, Any] = {"scope": PortfolioScope.EXEC_GLOBAL}


@pytest.mark.parametrize("cap", CAPS.values(), ids=CAPS)
def test_exec_global_names_the_cap_that_blocked(cap: Obstacle) -> None:
    of_everyone = structs.replace(cap, request=OF_EVERYONE)
    assert the(against(of_everyone, "1", "2")).reasons == (Reason.RISK_CAP_GLOBAL, cap.reason)
    executes(against(of_everyone, "1", "0"), "0.4", reduce="0.4")
    flipped = the(against(of_everyone, "1", "-1"))
    assert (flipped.decision, flipped.reasons) == (Decision.EXECUTE, (Reason.RISK_CAP_GLOBAL, cap.reason))


@pytest.mark.parametrize("other", sorted(OBSTACLES.keys() - CAPS.keys()))
def test_exec_global_names_no_cap_that_did_not_block(other: str) -> None:
    of_everyone = structs.replace(OBSTACLES[other], request=OBSTACLES[other].request | OF_EVERYONE)
    assert the(against(of_everyone, "1", "2")).reasons == (OBSTACLES[other].reason,)


def test_exec_global_without_the_cash_for_an_outcome() -> None:
    spent = executed(bought("ETH", "99.5", "100", subscription="sam-bob", influencer="bob"))
    leveraged = Policy(total_exposure_micros=2_000_000)
    outcome = deciding(on_polymarket(**OF_EVERYONE), *spent, policy=leveraged)
    assert the(outcome).reasons == (Reason.RISK_CAP_GLOBAL, Reason.INSUFFICIENT_CASH)
