"""Specs of decisions: the decision of a subscriber with a history, and what specs assert about it."""

from typing import Any

from msgspec import structs

from domain.decision import decide
from domain.decision_inputs import DecisionInputs
from domain.events import (
    BreakerLimit,
    BreakerTripped,
    Check,
    CopyDecided,
    Decision,
    Event,
    ExecutionRequested,
    OrderFilled,
)
from domain.guardrails import Policy
from domain.micros import micros
from domain.paper_execution import fill_on_paper
from domain.portfolio import Portfolio, part_of
from domain.reason_codes import Reason
from domain.testing import Result, given, like
from tests.domain.facts import PORTFOLIO, at, deposited, inputs

USUAL = Policy()
INPUTS = inputs()
GONE = deposited("-10000", id="dep-2")
"""Withdraws the deposit of these specs."""


def deciding(
    request: ExecutionRequested,
    *history: Event,
    policy: Policy = USUAL,
    ms: int = 1000,
    inputs: DecisionInputs = INPUTS,
) -> Result[Portfolio]:
    """The decision, `ms` after the influencer traded, of a subscriber who deposited 10,000 USD and has this history."""
    return given(PORTFOLIO, deposited("10000"), *history).when(decide, request, policy, inputs, now=at(ms))


def following(
    *requests: ExecutionRequested, policy: Policy = USUAL, history: tuple[Event, ...] = (), **more: Any
) -> list[CopyDecided]:
    """The decisions of requests one after the other, each with the paper fills of those before."""
    made: list[CopyDecided] = []
    events = list(history)
    for number, request in enumerate(requests):
        named = structs.replace(request, request_id=f"req-{number}", group_id=f"grp-{number}")
        decision = the(deciding(named, *events, policy=policy, **more))
        made.append(decision)
        events.append(decision)
        if decision.decision is Decision.EXECUTE:
            held = given(PORTFOLIO, *events).state
            asset = (decision.venue.value, decision.asset)
            copied = part_of(held, decision.subscription_id, asset).share_micros
            events += fill_on_paper(decision, held.holdings[asset].position, copied, policy, now=at(1000))
    return made


def bought_by(decisions: list[CopyDecided]) -> list[str | int]:
    """Of each decision the shares in micros, or its only reason."""
    return [one.share_micros or one.reasons[0].value for one in decisions]


def the(outcome: Result[Portfolio]) -> CopyDecided:
    (decision,) = outcome.events
    assert isinstance(decision, CopyDecided)
    return decision


def failed(outcome: Result[Portfolio]) -> list[Check]:
    return [check for check in the(outcome).checks if not check.passed]


def skips(outcome: Result[Portfolio], *why: tuple[Reason, Check]) -> None:
    """The decision is SKIP for exactly these reasons, and exactly these checks failed."""
    outcome.then(
        like(
            CopyDecided,
            decision=Decision.SKIP,
            reasons=tuple(reason for reason, _ in why),
            share_micros=0,
            reduce_micros=0,
            levels=(),
        )
    )
    assert failed(outcome) == [check for _, check in why]


def executes(outcome: Result[Portfolio], share: str, *, reduce: str = "0", despite: tuple[Reason, ...] = ()) -> None:
    """The decision is EXECUTE: an order of `share`, of which `reduce` reduces; `despite` is why nothing is opened."""
    outcome.then(
        like(
            CopyDecided,
            decision=Decision.EXECUTE,
            reasons=despite,
            share_micros=micros(share),
            reduce_micros=micros(reduce),
        )
    )
    assert bool(failed(outcome)) == bool(despite)


def fills_of(events: tuple[Event, ...]) -> list[OrderFilled]:
    return [event for event in events if isinstance(event, OrderFilled)]


def tripped(limit: BreakerLimit) -> BreakerTripped:
    return BreakerTripped(
        subscriber_id="sam",
        limit=limit,
        equity_micros=micros("9000"),
        floor_micros=micros("9500"),
        reference_micros=micros("10000"),
        marks_sequence=5,
        config_sequence=7,
        tripped_at=at(0),
    )
