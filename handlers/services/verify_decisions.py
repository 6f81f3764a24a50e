"""Verification: every stored decision is made again from the log alone and compared with the stored one.

A decision names its inputs: the policy by its hash, the configuration and the marks by their sequences, the clock by
`decided_at`; its portfolio is everything before it on its subject. So the portfolio is folded up to exactly there and
decided again; the result must be equal in every field. Nothing is written.
"""

from collections.abc import Callable
from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec

from domain import portfolio as portfolios
from domain.configuration import Configuration, Kind
from domain.decision import RULES, decide
from domain.decision_inputs import decision_inputs_of
from domain.dropped import dropped
from domain.events import (
    CopyDecided,
    CopyQueued,
    CopyRequested,
    ExecutionRequested,
)
from domain.portfolio import Portfolio
from domain.reason_codes import Reason
from domain.requests import put_together
from handlers.live.configuration import configuration_fold
from handlers.live.event_codec import codec, readable
from handlers.live.mark_history import MarkHistory
from handlers.services.request_reader import RequestReader
from streams import subjects
from streams.connection import Connection
from streams.envelope import Recorded, parse_address
from streams.reader import get, read_all
from streams.topology import EXECUTIONS, REQUESTS, info

Progress = Callable[[int, int], None]
"""Called with the number of events read and the number of all."""


class Difference(NamedTuple):
    """The first field in which a decision made again differs from the stored one; `at` is 'EXECUTIONS:sequence'."""

    attempt_id: str
    at: str
    field: str
    stored: Any
    again: Any


class Verification(NamedTuple):
    """How many decisions are equal when they are made again, and those that are not.

    Some cannot be made again: of `missing_inputs` the log no longer has the request or the policy, and `other_rules`
    were decided by an earlier version of the rules.
    """

    decisions: int
    equal: int
    different: list[Difference]
    missing_inputs: int
    other_rules: int


class DecisionReplayer:
    """Folds portfolios as the plan stage did, and decides again."""

    def __init__(self, directory: Configuration, marks: MarkHistory) -> None:
        self._directory = directory
        self._marks = marks
        self._portfolios: dict[str, Portfolio] = {}

    def fold(self, event: Recorded) -> None:
        """Fold an event of EXECUTIONS, in the order of the log."""
        if not isinstance(event.data, CopyQueued):
            portfolios.evolve(self._of(event.data.subscriber_id), event.data)

    async def decide(self, event: Recorded, request: ExecutionRequested) -> CopyDecided | None:
        """The decision made again, after everything before it was folded; None when its policy is not in the log."""
        stored: CopyDecided = event.data
        policy = self._directory.policy_named(stored.policy_hash)
        if policy is None:
            return None
        if stored.reasons == (Reason.DROPPED,):
            return dropped(
                self._of(stored.subscriber_id),
                request,
                now=stored.decided_at,
                config_sequence=stored.config_sequence,
                marks_sequence=stored.marks_sequence,
            )
        inputs = decision_inputs_of(
            request,
            self._directory.controls,
            await self._marks.at(stored.marks_sequence),
            config_sequence=stored.config_sequence,
            marks_sequence=stored.marks_sequence,
        )
        return decide(self._of(stored.subscriber_id), request, policy, inputs, now=stored.decided_at)

    def _of(self, subscriber_id: str) -> Portfolio:
        found = self._portfolios.get(subscriber_id)
        if found is None:
            found = self._portfolios[subscriber_id] = Portfolio()
        return found


def first_difference(event: Recorded, again: CopyDecided) -> Difference | None:
    """Where a decision made again differs from the stored one; None when they are equal."""
    stored: CopyDecided = event.data
    if stored == again:
        return None
    for field in msgspec.structs.fields(CopyDecided):
        was, now = getattr(stored, field.name), getattr(again, field.name)
        if was != now:
            name, was, now = _narrowed(field.name, was, now)
            return Difference(stored.attempt_id, event.at, name, was, now)
    raise AssertionError("unequal decisions differ in a field")


def _narrowed(name: str, was: Any, now: Any) -> tuple[str, Any, Any]:
    """Of two lists, the first items that differ."""
    if not isinstance(was, tuple) or not isinstance(now, tuple):
        return name, was, now
    pairs = enumerate(zip_longest(was, now))
    number, (one, other) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    return f"{name}[{number}]", one, other


async def _configuration(connection: Connection) -> Configuration:
    """What decisions name of CONFIG, read from its first event: no snapshot is trusted."""
    kinds = (Kind.POLICY, Kind.CONTROL)
    return (await configuration_fold(connection, codec(), kinds, from_snapshot=False)).directory


async def verify_decisions(
    connection: Connection, *, since: int | None = None, progress: Progress = lambda done, of: None
) -> Verification:
    """Make every decision of `since` (ns; None = all) or later again."""
    directory = await _configuration(connection)
    replayer = DecisionReplayer(directory, MarkHistory(connection, codec()))
    requests, decode = RequestReader(connection), codec()
    found = await info(connection, EXECUTIONS.name)
    end = int(found["state"]["last_seq"]) if found else 0
    decisions = equal = missing_inputs = other_rules = 0
    different: list[Difference] = []
    async for batch in read_all(connection, EXECUTIONS.name):
        for event in (event for stored in batch for event in readable(decode, EXECUTIONS.name, stored)):
            if not hasattr(event.data, "subscriber_id") and not isinstance(event.data, CopyQueued):
                continue
            if isinstance(event.data, CopyDecided):
                cause = parse_address(event.causation)
                request = await requests.find(event.data.request_id, cause.sequence if cause is not None else 0)
                requests.take(event.data.request_id)
                if since is None or event.data.decided_at >= since:
                    decisions += 1
                    if event.data.rules != RULES:
                        other_rules += 1
                        replayer.fold(event)
                        continue
                    again = await replayer.decide(event, request) if request is not None else None
                    if again is None:
                        missing_inputs += 1
                    elif (difference := first_difference(event, again)) is not None:
                        different.append(difference)
                    else:
                        equal += 1
            replayer.fold(event)
        progress(batch[-1].sequence, end)
    return Verification(decisions, equal, different, missing_inputs, other_rules)


async def verify_decision(connection: Connection, decision: Recorded) -> Difference | None:
    """Make one stored decision again, from its subscriber's events alone; None when it is equal.

    Raises LookupError when it cannot be made again: its request or policy is no longer in the log, or another version
    of the rules decided it.
    """
    stored: CopyDecided = decision.data
    if stored.rules != RULES:
        raise LookupError(f"version {stored.rules} of the rules decided it, and this is version {RULES}")
    directory = await _configuration(connection)
    replayer, decode = DecisionReplayer(directory, MarkHistory(connection, codec())), codec()
    async for batch in read_all(connection, EXECUTIONS.name, [subjects.executions(stored.subscriber_id)]):
        for event in (event for one in batch for event in readable(decode, EXECUTIONS.name, one)):
            if (event.sequence, event.index) < (decision.sequence, decision.index):
                replayer.fold(event)
    request = await _request_of(connection, decision)
    again = await replayer.decide(decision, request) if request is not None else None
    if again is None:
        raise LookupError(f"the request or the policy of {stored.attempt_id} is no longer in the log")
    return first_difference(decision, again)


async def _request_of(connection: Connection, decision: Recorded) -> ExecutionRequested | None:
    place = parse_address(decision.causation)
    if place is None or place.stream != REQUESTS.name:
        return None
    stored = await get(connection, REQUESTS.name, place.sequence)
    events = readable(codec(), REQUESTS.name, stored) if stored is not None else []
    request = next((event for event in events if event.index == place.index), None)
    if request is None or not isinstance(request.data, CopyRequested):
        return None
    return put_together(request.id, request.head, request.data)
