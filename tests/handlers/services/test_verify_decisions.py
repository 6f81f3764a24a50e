"""Verification: a stored decision is equal when it is made again from the log alone, an altered one is not."""

from typing import Any

import pytest
from msgspec.structs import asdict, replace

from domain import portfolio as portfolios
from domain.decision import RULES, decide
from domain.decision_inputs import decision_inputs_of
from domain.events import CopyDecided, Event, ExecutionRequested, PolicyMaterialized
from domain.guardrails import Policy
from domain.mark_prices import MarkPrices
from domain.operator_switches import Controls
from domain.portfolio import Portfolio
from handlers.live.event_codec import codec
from handlers.services.verify_decisions import verify_decision, verify_decisions
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.envelope import Recorded
from streams.reader import last
from tests.domain.facts import at, bought, completed, deposited, requested
from tests.domain.facts import decided as an_order
from tests.handlers.folding import request_payload

REQUEST = requested()
POLICY = Policy()


async def store(log: Connection, subject: str, event: Event, event_id: str, cause: str | None = None) -> int:
    payload = codec().encode(event, id=event_id, source="tests", time_ns=at(1000), correlation="c", causation=cause)
    return (await append(log, [Record(subject, payload)])).last


def decided(request: ExecutionRequested, *before: Event, **altered: Any) -> CopyDecided:
    """The decision of a portfolio with this history, altered afterwards."""
    portfolio = Portfolio()
    for event in before:
        portfolios.evolve(portfolio, event)
    what = decision_inputs_of(request, Controls(), MarkPrices(), config_sequence=1, marks_sequence=0)
    return replace(decide(portfolio, request, POLICY, what, now=at(1000)), **altered)


async def a_log(log: Connection, decision: CopyDecided, *before: Event, with_request: bool = True) -> Recorded:
    """A log that holds a policy, a request, what came before, and the decision; returns the stored decision."""
    policy = PolicyMaterialized(hash=REQUEST.policy_hash, values=asdict(POLICY))
    await store(log, subjects.config("policy", policy.hash), policy, "policy")
    subscriber = REQUEST.subscriber_id
    request = 1_000  # no longer there
    if with_request:
        subject = subjects.requests(subjects.class_of(subscriber), REQUEST.influencer_id)
        request = (await append(log, [Record(subject, request_payload(REQUEST))])).last
    subject = subjects.executions(subscriber)
    for number, event in enumerate(before):
        await store(log, subject, event, f"before-{number}")
    await store(log, subject, decision, decision.attempt_id, f"REQUESTS:{request}.1")
    stored = await last(log, "EXECUTIONS", subject)
    assert stored is not None
    return codec().decode("EXECUTIONS", stored.sequence, stored.subject, stored.payload)[0]


DEPOSIT = deposited("10000")


async def test_a_decision_made_again_is_equal(log: Connection) -> None:
    recorded = await a_log(log, decided(REQUEST, DEPOSIT), DEPOSIT)
    verdict = await verify_decisions(log)
    assert (verdict.decisions, verdict.equal, verdict.different) == (1, 1, [])
    assert await verify_decision(log, recorded) is None


async def test_an_altered_decision_is_found_with_its_first_difference(log: Connection) -> None:
    honest = decided(REQUEST, DEPOSIT)
    recorded = await a_log(log, replace(honest, share_micros=honest.share_micros + 1), DEPOSIT)
    (difference,) = (await verify_decisions(log)).different
    assert difference == await verify_decision(log, recorded)
    assert (difference.field, difference.stored, difference.again) == (
        "share_micros",
        honest.share_micros + 1,
        honest.share_micros,
    )
    assert difference.at == recorded.at


async def test_of_many_checks_the_one_that_differs_is_named(log: Connection) -> None:
    honest = decided(REQUEST, DEPOSIT)
    forged = list(honest.checks)
    forged[3] = replace(forged[3], input="forged")
    await a_log(log, replace(honest, checks=tuple(forged)), DEPOSIT)
    (difference,) = (await verify_decisions(log)).different
    assert difference.field == "checks[3]"
    assert difference.again == honest.checks[3]


async def test_everything_before_a_decision_on_its_subject_counts(log: Connection) -> None:
    earlier = an_order("1", attempt_id="att-before", request_id="req-before")
    fill = bought("BTC", "1", "100", attempt="att-before")
    before = (DEPOSIT, earlier, fill, completed("att-before"))
    await a_log(log, decided(REQUEST, *before), *before)
    verdict = await verify_decisions(log)
    # The earlier decision was made up, by no rules at all.
    assert (verdict.decisions, verdict.equal, verdict.other_rules, verdict.different) == (2, 1, 1, [])


async def test_decisions_with_missing_inputs_are_counted_apart(log: Connection) -> None:
    recorded = await a_log(log, decided(REQUEST, DEPOSIT), DEPOSIT, with_request=False)
    verdict = await verify_decisions(log)
    assert (verdict.decisions, verdict.equal, verdict.missing_inputs) == (1, 0, 1)
    with pytest.raises(LookupError, match="no longer in the log"):
        await verify_decision(log, recorded)


async def test_decisions_of_other_rules_are_counted_apart(log: Connection) -> None:
    recorded = await a_log(log, decided(REQUEST, DEPOSIT, rules=RULES - 1), DEPOSIT)
    verdict = await verify_decisions(log)
    assert (verdict.decisions, verdict.equal, verdict.other_rules) == (1, 0, 1)
    with pytest.raises(LookupError, match=f"version {RULES - 1} of the rules"):
        await verify_decision(log, recorded)


async def test_only_decisions_since_a_time_are_made_again(log: Connection) -> None:
    await a_log(log, decided(REQUEST, DEPOSIT), DEPOSIT)
    assert (await verify_decisions(log, since=at(1001))).decisions == 0
    assert (await verify_decisions(log, since=at(1000))).decisions == 1
