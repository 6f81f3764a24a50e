"""Residuals (docs/design.md, sizing): targets below the minimum wait until they have added up.

Hyperliquid takes no order below 10 USD; here each opening is worth 4 USD by default.
"""

from typing import Any

import pytest

from domain.events import Check, CopyDecided, Decision, ExecutionRequested, Mode, Venue
from domain.guardrails import Policy
from domain.micros import micros
from domain.portfolio import Residual
from domain.reason_codes import Reason
from domain.testing import like
from tests.domain.decision_specs import bought_by, deciding, executes, following, skips, the
from tests.domain.facts import bought, decided, executed, fixed, inputs, on_polymarket, requested, terms

ACCUMULATED, BELOW = Reason.ACCUMULATED.value, Reason.BELOW_MINIMUM.value


def small(usd: str = "4", *, before: str = "1", after: str = "2") -> ExecutionRequested:
    return requested(before=before, after=after, sizing=fixed(usd))


def waiting(decisions: list[CopyDecided]) -> list[str]:
    """The residual after each decision, in USD and signed by trade side."""
    return [f"{one.residual_micros / 1_000_000:g}" for one in decisions]


def kept(usd: str = "0", shares: str = "0") -> CopyDecided:
    """An earlier decision that left something waiting."""
    return decided(
        attempt_id="att-earlier",
        decision=Decision.SKIP,
        share_micros=0,
        residual_micros=micros(usd),
        residual_share_micros=micros(shares),
    )


# --- openings ----------------------------------------------------------------------------------------------


def test_residual_a_target_below_the_minimum_waits() -> None:
    outcome = deciding(small())
    skips(outcome, (Reason.ACCUMULATED, Check("order_notional_micros", micros("4"), micros("10"), False)))
    outcome.then(like(CopyDecided, residual_micros=micros("4"), target_notional_micros=micros("4")))
    assert outcome.state.residuals == {("sam-ann", ("hyperliquid", "BTC")): Residual(micros("4"))}


def test_residual_of_the_same_side_adds_up_and_is_released_in_one_order() -> None:
    decisions = following(small(), small(), small(), small())
    assert bought_by(decisions) == [ACCUMULATED, ACCUMULATED, micros("0.119"), ACCUMULATED]  # 12 at 100.05
    assert waiting(decisions) == ["4", "8", "0", "4"]
    assert Check("residual_micros", micros("8"), None, True) in decisions[2].checks


def test_residual_is_released_at_exactly_the_minimum() -> None:
    exact = requested(asks=((100_000_000, 10**9),), sizing=fixed("5"))
    assert bought_by(following(exact, exact)) == [ACCUMULATED, micros("0.1")]


def test_residual_of_the_opposite_side_nets() -> None:
    decisions = following(small("6"), small("4", before="0", after="-1"), small("9", before="-1", after="-2"))
    assert waiting(decisions) == ["6", "2", "-7"]
    more = following(small("6"), small("17", before="0", after="-1"))
    assert bought_by(more) == [ACCUMULATED, micros("0.11")], "11 USD of a short, at 99.95"
    assert waiting(more) == ["6", "0"]


def test_residual_is_of_one_subscription_and_asset() -> None:
    other_asset = requested(asset="ETH", market="ETH", sizing=fixed("4"))
    other_subscription = requested(subscription_id="sam-bob", influencer_id="bob", sizing=fixed("4"))
    decisions = following(small(), other_asset, other_subscription, small())
    assert waiting(decisions) == ["4", "4", "4", "8"]


def test_residual_shrinks_as_the_influencers_position_does() -> None:
    (decision,) = following(requested(before="4", after="1"), history=(kept("8"),))
    assert (decision.reasons, decision.residual_micros) == ((Reason.NO_POSITION,), micros("2"))


@pytest.mark.parametrize("after", ["0", "-1"])
def test_residual_is_gone_with_the_influencers_position(after: str) -> None:
    (decision,) = following(requested(before="4", after=after), history=(kept("8"),))
    assert decision.residual_micros == 0


def test_residual_of_a_flip_is_of_its_opening_alone() -> None:
    held = executed(bought("BTC", "0.4", "100"))
    outcome = deciding(small(before="1", after="-1"), *held, kept("8", "0.01"))
    executes(outcome, "0.4", reduce="0.4", despite=(Reason.ACCUMULATED,))
    assert (the(outcome).residual_micros, the(outcome).residual_share_micros) == (micros("-4"), 0)


def test_residual_a_ceiling_below_the_minimum_never_waits() -> None:
    capped = Policy(max_notional_micros=micros("9.99"))
    decisions = following(small(), small(), small(), policy=capped)
    assert bought_by(decisions) == [BELOW] * 3
    assert waiting(decisions) == ["0", "0", "0"]


@pytest.mark.parametrize(
    "request_",
    [
        requested(lot="0.2", sizing=fixed("4")),  # a lot costs 20.01
        on_polymarket(
            bids=((980_000, 10**9),), asks=((990_000, 10**9),), price="0.99", terms=terms(min_share_micros=micros("20"))
        ),
    ],
)
def test_residual_a_ceiling_below_the_smallest_size_never_waits(request_: ExecutionRequested) -> None:
    capped = Policy(max_notional_micros=micros("15"))
    decisions = following(request_, request_, policy=capped)
    assert bought_by(decisions) == [BELOW] * 2
    assert waiting(decisions) == ["0", "0"]


def test_residual_is_off_by_option() -> None:
    decisions = following(small(), small(), small(), policy=Policy(accumulate=0))
    assert bought_by(decisions) == [BELOW] * 3
    assert waiting(decisions) == ["0", "0", "0"]


def test_residual_beyond_the_ceiling_is_dropped_when_it_is_released() -> None:
    capped = Policy(max_notional_micros=micros("11"))
    decisions = following(small("9"), small("9"), policy=capped)
    assert bought_by(decisions) == [ACCUMULATED, micros("0.109")]
    assert Check("max_notional_micros", micros("18"), micros("11"), True) in decisions[1].checks
    assert waiting(decisions) == ["9", "0"]


REFUSED: list[tuple[dict[str, Any], dict[str, Any], Reason]] = [
    ({"ms": 60_001}, {}, Reason.STALE_SIGNAL),
    ({}, {"opening_blocked": "SIDE_NOT_WANTED"}, Reason.FILTERED),
    ({}, {"price_micros": micros("99")}, Reason.PRICE_AWAY_FROM_INFLUENCER),
    ({}, {"mode": Mode.LIVE}, Reason.LIVE_NOT_AVAILABLE),
    ({"inputs": inputs(stopped=True)}, {}, Reason.ENGINE_PAUSED),
    ({}, {"quote": None}, Reason.NO_QUOTE),
]


@pytest.mark.parametrize(("more", "changes", "why"), REFUSED, ids=[why.value for _, _, why in REFUSED])
@pytest.mark.parametrize("usd", ["4", "50"])
def test_residual_what_was_refused_for_another_reason_is_not_copied_later(
    more: dict[str, Any], changes: dict[str, Any], why: Reason, usd: str
) -> None:
    request = requested(sizing=fixed(usd), **changes)
    (decision,) = following(request, history=(kept("3"),), **more)
    assert decision.decision is Decision.SKIP
    assert why in decision.reasons
    assert Reason.ACCUMULATED not in decision.reasons, "it does not wait"
    assert decision.residual_micros == micros("3"), "what waited already still does"


def test_residual_of_a_recording_subscriber_counts_as_sent_when_it_would_have_been() -> None:
    recording = requested(sizing=fixed("4"), mode=Mode.RECORD_ONLY)
    decisions = following(recording, recording, recording, recording)
    assert bought_by(decisions) == [ACCUMULATED, ACCUMULATED, "RECORD_ONLY", ACCUMULATED]
    assert waiting(decisions) == ["4", "8", "0", "4"]


def test_residual_on_polymarket_waits_for_five_shares_too() -> None:
    dear = on_polymarket(
        price="0.94",
        bids=((940_000, 10**9),),
        asks=((950_000, 10**9),),
        sizing=fixed("2.40"),
        terms=terms(min_share_micros=micros("7")),
    )
    decisions = following(dear, dear, dear)
    assert bought_by(decisions) == [ACCUMULATED, ACCUMULATED, micros("7.57")], "4.80 USD buy 5.05 shares, 7.20 USD 7.57"


# --- reductions --------------------------------------------------------------------------------------------


def less(before: str, after: str) -> ExecutionRequested:
    return requested(before=before, after=after)


HELD = executed(bought("BTC", "0.4", "100"))


def test_residual_of_reductions_waits_in_shares_and_goes_in_one_order() -> None:
    """A tenth of what is held and does not wait yet, three times: 0.04, 0.036, 0.0324 of 0.4 at 99.95."""
    decisions = following(less("100", "90"), less("90", "81"), less("81", "72.9"), history=HELD)
    assert bought_by(decisions) == [ACCUMULATED, ACCUMULATED, micros("0.108")]
    assert [one.residual_share_micros for one in decisions] == [micros("0.04"), micros("0.076"), 0]
    assert Check("reduction_notional_micros", micros("3.998"), micros("10"), False) in decisions[0].checks


def test_residual_of_reductions_is_part_of_what_a_close_closes() -> None:
    decisions = following(less("100", "90"), less("90", "0"), history=HELD)
    assert bought_by(decisions) == [ACCUMULATED, micros("0.4")]
    assert decisions[1].residual_share_micros == 0


def test_residual_of_reductions_stays_while_more_is_opened() -> None:
    decisions = following(less("100", "90"), less("90", "100"), history=HELD)
    assert decisions[1].decision is Decision.EXECUTE
    assert decisions[1].residual_share_micros == micros("0.04")


def test_residual_of_reductions_never_exceeds_what_is_held() -> None:
    (decision,) = following(less("100", "90"), history=(*HELD, kept(shares="7")))
    assert bought_by([decision]) == [micros("0.4")]


def test_residual_of_reductions_is_off_by_option() -> None:
    decisions = following(less("100", "90"), less("90", "81"), history=HELD, policy=Policy(accumulate=0))
    assert bought_by(decisions) == [BELOW] * 2
    assert [one.residual_share_micros for one in decisions] == [0, 0]


def test_residual_of_a_reduction_that_was_refused_is_not_copied_later() -> None:
    away = requested(before="100", after="90", price="120")
    (decision,) = following(away, history=HELD)
    assert decision.reasons[-1] is Reason.BELOW_MINIMUM
    assert decision.residual_share_micros == 0


def test_residual_of_reductions_by_notional() -> None:
    held = executed(bought("yes", "200", "0.50", venue=Venue.POLYMARKET), market="race")
    one = on_polymarket(before="1000", after="990", sizing=fixed("3"))
    decisions = following(one, one, history=held, policy=Policy(reduce_by_notional=1))
    assert bought_by(decisions) == [ACCUMULATED, micros("12.24")]  # 3 USD at 0.49, twice
    assert [d.residual_share_micros for d in decisions] == [6_122_448, 0]
