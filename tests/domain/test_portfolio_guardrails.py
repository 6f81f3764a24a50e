"""Guardrails of a whole portfolio (docs/design.md, guardrails): exposure, cash and breakers limit what it may open."""

import pytest
from msgspec import structs

from domain.breakers import REASON
from domain.events import (
    BreakerLimit,
    Check,
    Venue,
)
from domain.guardrails import Policy
from domain.mark_prices import Mark
from domain.micros import micros
from domain.reason_codes import Reason
from tests.domain.decision_specs import deciding, executes, skips, the, tripped
from tests.domain.facts import (
    at,
    bought,
    decided,
    executed,
    inputs,
    on_polymarket,
    requested,
    sold,
)
from tests.domain.portfolio_specs import ETH, marked


def test_exposure_total() -> None:
    held = executed(bought("ETH", "69.6", "100", subscription="sam-bob", influencer="bob"))
    sum_of_both = micros("6960") + micros("49.9")
    skips(
        deciding(requested(), *held),
        (Reason.EXPOSURE_TOTAL, Check("exposure_total_micros", sum_of_both, micros("7000"), False)),
    )


def test_exposure_market() -> None:
    held = executed(bought("BTC", "4.6", "100", subscription="sam-bob", influencer="bob"))
    sum_of_both = micros("460") + micros("49.9")
    skips(
        deciding(requested(), *held),
        (Reason.EXPOSURE_MARKET, Check("exposure_market_micros", sum_of_both, micros("500"), False)),
    )


def test_exposure_market_counts_every_outcome_of_a_market() -> None:
    no = bought("no", "920", "0.50", venue=Venue.POLYMARKET, subscription="sam-bob", influencer="bob")
    sum_of_both = micros("460") + micros("49.015")  # 98.03 at the mid
    skips(
        deciding(on_polymarket(), *executed(no, market="race")),
        (Reason.EXPOSURE_MARKET, Check("exposure_market_micros", sum_of_both, micros("500"), False)),
    )
    executes(deciding(on_polymarket(), *executed(no, market="another race")), "98.03")


def test_exposure_influencer() -> None:
    held = executed(sold("ETH", "19.6", "100"))
    sum_of_both = micros("1960") + micros("49.9")
    skips(
        deciding(requested(), *held),
        (Reason.EXPOSURE_INFLUENCER, Check("exposure_influencer_micros", sum_of_both, micros("2000"), False)),
    )


def test_exposure_counts_pending_openings() -> None:
    sum_of_both = micros("460") + micros("49.9")
    skips(
        deciding(requested(), decided("4.6")),
        (Reason.EXPOSURE_MARKET, Check("exposure_market_micros", sum_of_both, micros("500"), False)),
    )


def test_exposure_is_valued_at_marks() -> None:
    held = executed(bought("ETH", "60", "100", subscription="sam-bob", influencer="bob"))
    doubled = inputs(marks=marked({ETH: Mark(4, micros("120"), at(2000))}))
    executes(deciding(requested(), *held), "0.499")
    outcome = deciding(requested(), *held, inputs=doubled)
    limit = micros("11200") * 7 // 10  # equity moved with the mark
    assert the(outcome).equity_micros == micros("11200")
    assert Check("exposure_total_micros", micros("7249.9"), limit, True) in the(outcome).checks


def test_exposure_of_a_flip_does_not_count_what_it_closes() -> None:
    held = executed(bought("BTC", "4.6", "100"))
    outcome = deciding(requested(before="1", after="-1"), *held)
    executes(outcome, "5.1", reduce="4.6")
    assert Check("exposure_market_micros", micros("50"), micros("500"), True) in the(outcome).checks


def test_exposure_cap_in_dollars_does_not_count_what_a_flip_closes() -> None:
    held = executed(bought("BTC", "0.9", "100"))
    capped = Policy(notional_cap_micros=micros("100"))
    executes(deciding(requested(before="1", after="-1"), *held, policy=capped), "1.4", reduce="0.9")
    skips(
        deciding(requested(before="1", after="2"), *executed(bought("BTC", "0.91", "100")), policy=capped),
        (Reason.NOTIONAL_CAP, Check("order_notional_micros", micros("8.90445"), micros("10"), False)),
    )


def test_exposure_above_the_leverage_allowed_opens_nothing() -> None:
    held = executed(bought("BTC", "2", "100"))
    outcome = deciding(requested(before="1", after="2"), *held, policy=Policy(max_leverage_micros=20_500))
    skips(outcome, (Reason.EXPOSURE_TOTAL, Check("order_notional_micros", micros("4.902450"), micros("10"), False)))
    assert Check("max_leverage_micros", micros("50"), micros("5"), True) in the(outcome).checks


def test_exposure_in_cash_an_outcome_is_paid_in_full_with_its_fee() -> None:
    spent = bought("ETH", "99.5", "100", subscription="sam-bob", influencer="bob")
    leveraged = Policy(total_exposure_micros=2_000_000)
    cost = micros("49.9953") + micros("1.22488")
    skips(
        deciding(on_polymarket(), *executed(spent), policy=leveraged),
        (Reason.INSUFFICIENT_CASH, Check("cash_micros", cost, micros("50"), False)),
    )
    executes(deciding(requested(), *executed(spent), policy=leveraged), "0.499")


def test_exposure_in_cash_counts_pending_orders() -> None:
    promised = decided("0.1", venue=Venue.POLYMARKET, asset="no", market="other", share_micros=micros("19900"))
    held = structs.replace(promised, mid_micros=micros("0.50"), reserved_micros=micros("9950"))
    roomy = Policy(total_exposure_micros=2_000_000, influencer_exposure_micros=2_000_000)
    outcome = deciding(on_polymarket(), held, policy=roomy)
    cost = micros("49.9953") + micros("1.22488")
    skips(outcome, (Reason.INSUFFICIENT_CASH, Check("cash_micros", cost, micros("50"), False)))


@pytest.mark.parametrize("limit", BreakerLimit)
def test_breakers_keep_openings_out(limit: BreakerLimit) -> None:
    outcome = deciding(requested(), tripped(limit))
    skips(outcome, (REASON[limit], Check("breaker", limit.value, None, False)))


def test_breakers_that_tripped_together_are_all_named() -> None:
    outcome = deciding(requested(), *(tripped(limit) for limit in BreakerLimit))
    assert set(the(outcome).reasons) == set(REASON.values())
