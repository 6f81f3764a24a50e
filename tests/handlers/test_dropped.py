"""What an operator drops is completed by its stage, and computed again by the verifications."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from domain.events import (
    CopyDecided,
    Decision,
    ExitDue,
    ExitOwed,
    ExitScheduled,
    GroupClosed,
    GroupMatched,
    LiveAccount,
    Mode,
    OrderEnd,
    OrderResulted,
    OrderSubmitted,
    QuoteCaptured,
    QuoteFailed,
    QuoteWanted,
    Venue,
)
from domain.reason_codes import Reason
from domain.requests import own_part
from gateways.keys.sources import AgentKeys
from handlers.execute import Execute
from handlers.exits import Exits
from handlers.live.configuration import LiveConfiguration
from handlers.match import Match
from handlers.plan import Plan
from handlers.quote import Quote
from handlers.services.config_import import import_lines
from handlers.services.dropped_dead_letters import completion_of
from handlers.services.verify_decisions import verify_decisions
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.dead_letters import DeadLetter, DeadLettered, dead_letters, drop
from streams.envelope import Recorded
from streams.errors import RefusedError, UnprocessableError
from streams.processing.processor import LaneWorker
from streams.processing.stage import Output, Stage
from tests.handlers.folding import CODEC, LINES, NOW, Folding, configured, recorded, request_payload, valued
from tests.handlers.test_plan import LANE, decided, request
from tests.streams.deadlines import settled
from tests.streams.examples import example
from vibe.verify.executions import verify_executions
from vibe.verify.findings import Findings

GROUP = example(GroupClosed, group_id="g", influencer_id="alice", venue=Venue.HYPERLIQUID, asset="BTC")


def completed(stage: Stage[Any], event: Recorded) -> list[Any]:
    lane = Folding(stage)
    return [output.event for output in stage.dropped(lane.state, event, NOW)]


def test_a_dropped_group_goes_on_without_a_book() -> None:
    stage = Quote(configured(), {}, lambda: NOW)
    lane = Folding(stage)
    wanted, failed = lane._folded(stage.dropped(lane.state, recorded(GROUP), NOW))
    assert isinstance(wanted, QuoteWanted)
    assert isinstance(failed, QuoteFailed)
    assert (failed.quote_id, failed.reason) == (wanted.quote_id, Reason.DROPPED)
    assert not lane.state.quotes, "nothing is captured for it any more"


def test_a_dropped_quoted_group_is_matched_with_nothing_and_a_round_of_tries_is_not() -> None:
    stage = Match(configured())
    (matched,) = completed(stage, recorded(example(QuoteCaptured, quote_id="q", group=GROUP)))
    assert matched == GroupMatched(
        group_id="g", quote_id="q", influencer_id="alice", matched=0, filtered={"DROPPED": 1}
    )
    assert completed(stage, recorded(example(ExitDue))) == []


def test_a_dropped_exit_is_tried_all_the_same() -> None:
    stage = Exits(configured(), {}, lambda: NOW)
    (scheduled,) = completed(stage, recorded(example(ExitOwed)))
    assert isinstance(scheduled, ExitScheduled)


def test_an_order_that_could_not_be_signed_was_not_sent() -> None:
    order = example(OrderSubmitted, mode=Mode.LIVE, account=example(LiveAccount))
    (result,) = completed(Execute({}, AgentKeys({}), lambda: NOW), recorded(order))
    assert isinstance(result, OrderResulted)
    assert (result.how, result.reasons, result.fills) == (OrderEnd.NOT_SENT, (Reason.DROPPED,), ())


def test_what_the_venue_did_with_an_order_can_only_be_retried() -> None:
    payload = CODEC.encode(example(OrderResulted), id="result", source="tests", time_ns=NOW).decode()
    facts = DeadLettered(
        dead_id="plan:REQUESTS:7.0",
        stage="plan",
        stream="REQUESTS",
        sequence=7,
        subject="orders.1.ann",
        error="a bug",
        payload=payload,
        encoding="utf-8",
        dead_at=NOW,
        index=0,
    )
    with pytest.raises(RefusedError, match="vibe dead retry"):
        completion_of(facts, CODEC)


class Failing(Plan):
    """It cannot decide."""

    def handle(self, state: Any, event: Recorded, now: int) -> Iterator[Output]:
        if event.type == "execution.requested":
            raise UnprocessableError("a bug")
        return super().handle(state, event, now)


async def in_state(log: Connection, state: str) -> list[DeadLetter]:
    return [one for one in await dead_letters(log, CODEC) if one.state == state]


@pytest.fixture
async def dropped(log: Connection) -> CopyDecided:
    """A request that could not be decided, dropped, and the decision that completes it."""
    await import_lines(log, LINES, actor="tests", now=NOW)
    configuration = LiveConfiguration(log, CODEC)
    await configuration.start()
    wanted = request(configuration, 1, config_sequence=configuration.sequence)
    await append(log, [Record(subjects.requests(subjects.class_of("ann"), "alice"), request_payload(wanted))])
    stop = asyncio.Event()
    working = asyncio.create_task(LaneWorker(log, CODEC, Failing(configuration, valued()), LANE, lambda: NOW).run(stop))
    try:
        (dead,) = await settled(lambda: in_state(log, "open"), bool)
        assert completion_of(dead.facts, CODEC).appends == ("copy.decided",)
        await drop(log, CODEC, dead, why="a bug", actor="ops", now=lambda: NOW, completes=True)
        (found,) = [event for event in await decided(log, 1) if isinstance(event, CopyDecided)]
        await asyncio.sleep(0.3)
        assert len(await decided(log, 1)) == 1, "once"
    finally:
        stop.set()
        await asyncio.wait_for(working, 10)
        await configuration.close()
    return found


async def test_a_dropped_request_is_decided_once_and_comes_out_the_same_again(
    log: Connection, dropped: CopyDecided
) -> None:
    assert (dropped.decision, dropped.reasons) == (Decision.SKIP, (Reason.DROPPED,))
    verification = await verify_decisions(log)
    assert (verification.decisions, verification.equal) == (1, 1)
    findings = Findings()
    await verify_executions(log, findings)
    assert (findings.events, findings.different, findings.unproducible) == (1, [], [])


async def test_a_decision_that_claims_a_drop_is_named_where_nothing_was_dropped(log: Connection) -> None:
    configuration = configured()
    wanted = request(configuration, 1)
    landed = await append(log, [Record(subjects.requests(subjects.class_of("ann"), "alice"), request_payload(wanted))])
    event = CODEC.decode("REQUESTS", landed.last, "requests.0.alice", request_payload(wanted))[1]
    assert event.data == own_part(wanted)
    (skip,) = completed(Plan(configuration, valued()), event)
    payload = CODEC.encode(skip, id=skip.attempt_id, source="vibe/plan", time_ns=NOW, causation=event.at)
    await append(log, [Record(subjects.executions("ann"), payload)])
    findings = Findings()
    await verify_executions(log, findings)
    assert "no operator dropped a dead letter" in str(findings.unproducible)
