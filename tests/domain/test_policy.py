"""Guardrails: precedence, hashes and allowances."""

import pytest
from msgspec import structs

from domain.events import PolicyMaterialized, Venue
from domain.micros import micros
from domain.policy import GUARDRAILS, Policy, allowance, evaluate, hash_of
from tests.domain.facts import directory


def test_the_defaults_are_those_that_were_promised() -> None:
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
        "min_notional_micros": micros("5"),
        "max_notional_micros": micros("250"),
        "max_equity_fraction_micros": micros("0.0075"),
        "total_exposure_micros": micros("0.70"),
        "market_exposure_micros": micros("0.05"),
        "influencer_exposure_micros": micros("0.20"),
        "taker_fee_micros": micros("0.00045"),
    }


def test_the_stronger_layer_wins_name_by_name() -> None:
    everywhere = {"spread_bps": 1, "mid_price_bps": 1, "latency_ms": 1}
    of_influencer = {"spread_bps": 2, "mid_price_bps": 2}
    of_subscription = {"spread_bps": 3}
    assert evaluate() == Policy()
    assert evaluate(everywhere, of_influencer, of_subscription) == Policy(spread_bps=3, mid_price_bps=2, latency_ms=1)
    assert evaluate({}, {}, of_subscription) == Policy(spread_bps=3)


def test_an_unknown_name_is_no_policy() -> None:
    with pytest.raises(TypeError, match="spred_bps"):
        evaluate({"spred_bps": 1})


def test_every_guardrail_has_a_name_that_configuration_may_use() -> None:
    assert set(GUARDRAILS) == set(structs.asdict(Policy()))


def test_the_hash_of_a_policy_never_changes() -> None:
    """Decisions in logs name it. A new guardrail changes it for all: that needs a look at what logs hold."""
    assert hash_of(Policy()) == "2a5ae6537ffcda9dc113"
    assert hash_of(Policy(spread_bps=3)) == "576a3e41aa1ef5b4c210"


def test_equal_policies_have_one_hash_however_they_came_about() -> None:
    one, other = evaluate({"spread_bps": 3, "latency_ms": 1}), evaluate({"latency_ms": 1}, {"spread_bps": 3})
    assert hash_of(one) == hash_of(other)
    hashes = {hash_of(evaluate({name: 123_456})) for name in GUARDRAILS}
    assert len(hashes) == len(GUARDRAILS)


def test_a_stored_policy_is_found_under_its_hash_and_hashes_the_same() -> None:
    policy = Policy(spread_bps=3)
    stored = PolicyMaterialized(hash=hash_of(policy), values=structs.asdict(policy))
    found = directory(stored).policy_named(stored.hash)
    assert found == policy
    assert hash_of(found) == stored.hash
    assert directory().policy_named(stored.hash) is None


def test_an_allowance_is_bps_of_the_price_on_hyperliquid_and_dollars_on_polymarket() -> None:
    assert allowance(micros("66405.5"), Venue.HYPERLIQUID, micros("0.01"), 10) == micros("66.4055")
    assert allowance(999, Venue.HYPERLIQUID, 0, 10) == 0, "rounded down"
    assert allowance(micros("0.5"), Venue.POLYMARKET, micros("0.01"), 10) == micros("0.01")
