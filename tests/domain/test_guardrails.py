"""Guardrails (docs/design.md, guardrails): their defaults, precedence, hashes and allowances."""

import pytest
from msgspec import structs

from domain.events import PolicyMaterialized, Venue
from domain.guardrails import GUARDRAILS, Policy, allowance, as_stored, evaluate, hash_of
from domain.micros import micros
from domain.reason_codes import Reason
from tests.domain.decision_specs import deciding, executes, the
from tests.domain.facts import at, bought, configuration, executed, fixed, requested, terms


def test_policy_the_defaults_are_those_that_were_promised() -> None:
    assert structs.asdict(Policy()) == {
        "influencer_price_micros": micros("0.01"),
        "influencer_price_bps": 10,
        "mid_price_micros": micros("0.015"),
        "mid_price_bps": 15,
        "spread_micros": micros("0.02"),
        "spread_bps": 20,
        "depth_ratio_micros": micros("1.25"),
        "latency_ms": 750,
        "latency_jitter_ms": 250,
        "max_signal_age_ms": 60_000,
        "max_quote_age_ms": 5_000,
        "min_notional_micros": micros("5"),
        "max_notional_micros": micros("250"),
        "max_equity_fraction_micros": micros("0.0075"),
        "total_exposure_micros": micros("0.70"),
        "market_exposure_micros": micros("0.05"),
        "influencer_exposure_micros": micros("0.20"),
        "taker_fee_micros": micros("0.00045"),
        "notional_cap_micros": 0,
        "max_leverage_micros": micros("5"),
        "max_loss_micros": 0,
        "assumed_move_micros": micros("0.10"),
        "close_guard_ms": 30 * 60_000,
        "close_guard_share_micros": micros("0.25"),
        "daily_loss_micros": micros("0.03"),
        "weekly_loss_micros": micros("0.08"),
        "drawdown_micros": micros("0.12"),
        "reduction_band_micros": micros("1"),
        "reduce_by_notional": 0,
        "accumulate": 1,
        "exit_widening": 1,
        "exits_while_paused": 0,
        **EXITS,
    }


def test_policy_of_the_stronger_layer_wins_name_by_name() -> None:
    everywhere = {"spread_bps": 1, "mid_price_bps": 1, "latency_ms": 1, "latency_jitter_ms": 1}
    of_influencer = {"spread_bps": 2, "mid_price_bps": 2, "latency_ms": 2}
    of_subscriber = {"spread_bps": 3, "mid_price_bps": 3}
    of_subscription = {"spread_bps": 4}
    assert evaluate() == Policy()
    assert evaluate(everywhere, of_influencer, of_subscriber, of_subscription) == Policy(
        spread_bps=4, mid_price_bps=3, latency_ms=2, latency_jitter_ms=1
    )
    assert evaluate({}, {}, {}, of_subscription) == Policy(spread_bps=4)


def test_policy_an_unknown_name_is_no_policy() -> None:
    with pytest.raises(TypeError, match="spred_bps"):
        evaluate({"spred_bps": 1})


def test_policy_every_guardrail_has_a_name_that_configuration_may_use() -> None:
    assert set(GUARDRAILS) == set(structs.asdict(Policy()))


def test_policy_the_hash_never_changes() -> None:
    """Decisions in logs name it. A new guardrail changes it for all: its `before` says what it means in old ones."""
    assert hash_of(Policy()) == "a7a5d4a9ce361de86f74"
    assert hash_of(Policy(spread_bps=3)) == "09178bdf16d13ed79024"


EXITS = {
    "exit_max_band_micros": micros("0.10"),
    "exit_max_band_bps": 800,
    "exit_step_1_micros": micros("0.03125"),
    "exit_step_2_micros": micros("0.0625"),
    "exit_step_3_micros": micros("0.125"),
    "exit_step_4_micros": micros("0.25"),
    "exit_step_5_micros": micros("0.5"),
    "exit_step_6_micros": micros("1"),
    "exit_wait_1_ms": 1_000,
    "exit_wait_2_ms": 2_000,
    "exit_wait_3_ms": 5_000,
    "exit_wait_4_ms": 10_000,
    "exit_wait_5_ms": 30_000,
    "exit_wait_6_ms": 60_000,
}
"""The schedule of owed exits; whether their bands widen is a guardrail of its own."""

FIRST = {
    "influencer_price_micros": 10_000,
    "influencer_price_bps": 10,
    "mid_price_micros": 15_000,
    "mid_price_bps": 15,
    "spread_micros": 20_000,
    "spread_bps": 20,
    "depth_ratio_micros": 1_250_000,
    "latency_ms": 750,
    "latency_jitter_ms": 250,
    "max_signal_age_ms": 60_000,
    "min_notional_micros": 5_000_000,
    "max_notional_micros": 250_000_000,
    "max_equity_fraction_micros": 7_500,
    "total_exposure_micros": 700_000,
    "market_exposure_micros": 50_000,
    "influencer_exposure_micros": 200_000,
    "taker_fee_micros": 450,
}
"""Every guardrail of the first policies, as logs hold them under the hash 2a5ae6537ffcda9dc113."""


def test_policy_that_was_stored_before_a_guardrail_existed_is_not_affected_by_it() -> None:
    old = configuration(PolicyMaterialized(hash="2a5ae6537ffcda9dc113", values=FIRST)).policy_named(
        "2a5ae6537ffcda9dc113"
    )
    assert old is not None
    came_later = {name: value for name, value in structs.asdict(old).items() if name not in FIRST}
    assert came_later == {
        "notional_cap_micros": 0,
        "max_leverage_micros": 0,
        "max_loss_micros": 0,
        "assumed_move_micros": 100_000,  # of max_loss, which is off
        "close_guard_ms": 0,
        "close_guard_share_micros": 0,
        "daily_loss_micros": 0,
        "weekly_loss_micros": 0,
        "drawdown_micros": 0,
        "reduction_band_micros": 1_000_000,
        "accumulate": 0,
        "reduce_by_notional": 0,
        "max_quote_age_ms": 0,
        "exit_widening": 0,
        "exits_while_paused": 0,
        **EXITS,
    }
    assert {name: value for name, value in structs.asdict(old).items() if name in FIRST} == FIRST


def test_policy_that_was_stored_keeps_every_guardrail_it_names() -> None:
    now = structs.asdict(Policy())
    assert as_stored(now) == Policy()
    assert as_stored(now | {"accumulate": 0, "drawdown_micros": 7}) == Policy(accumulate=0, drawdown_micros=7)


def test_policy_that_was_stored_before_decides_without_what_came_later() -> None:
    """Small orders, orders above five times equity and just before the close: no guardrail checked any of it then."""
    old = as_stored(FIRST | {"total_exposure_micros": 10**9})
    leveraged = executed(bought("ETH", "600", "100", subscription="sam-bob", influencer="bob"))
    closing = terms(size_step_micros=1_000, tick_micros=1, min_share_micros=0, fee_rate_micros=None, closes_at=at(1))
    request = requested()
    assert request.quote is not None
    request = structs.replace(request, quote=structs.replace(request.quote, terms=closing))
    executes(deciding(request, *leveraged, policy=old), "0.499")
    assert the(deciding(requested(sizing=fixed("4")), policy=old)).reasons == (Reason.BELOW_MINIMUM,)


def test_policy_equal_policies_have_one_hash_however_they_came_about() -> None:
    one, other = evaluate({"spread_bps": 3, "latency_ms": 1}), evaluate({"latency_ms": 1}, {"spread_bps": 3})
    assert hash_of(one) == hash_of(other)
    hashes = {hash_of(evaluate({name: 123_456})) for name in GUARDRAILS}
    assert len(hashes) == len(GUARDRAILS)


def test_policy_a_stored_policy_is_found_under_its_hash_and_hashes_the_same() -> None:
    policy = Policy(spread_bps=3)
    stored = PolicyMaterialized(hash=hash_of(policy), values=structs.asdict(policy))
    found = configuration(stored).policy_named(stored.hash)
    assert found == policy
    assert hash_of(found) == stored.hash
    assert configuration().policy_named(stored.hash) is None


def test_policy_an_allowance_is_bps_of_the_price_on_hyperliquid_and_dollars_on_polymarket() -> None:
    assert allowance(micros("66405.5"), Venue.HYPERLIQUID, micros("0.01"), 10) == micros("66.4055")
    assert allowance(999, Venue.HYPERLIQUID, 0, 10) == 0, "rounded down"
    assert allowance(micros("0.5"), Venue.POLYMARKET, micros("0.01"), 10) == micros("0.01")
