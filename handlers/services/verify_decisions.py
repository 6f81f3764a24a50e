"""Verification: every decision made again from the log alone, and compared with the one that is stored.

A decision names what it had seen: the policy by its hash, CONFIG, marks and the executions of others by their
sequences, the clock by `decided_at`. So the portfolio is folded up to exactly there and decided again; it must come
out equal in every field. Nothing is written.
"""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec

from domain import portfolio as portfolios
from domain.configuration import Configuration
from domain.decision import RULES, decide
from domain.decision_inputs import decision_inputs_of
from domain.events import (
    CopyDecided,
    CopyQueued,
    ExecutionCompleted,
    ExecutionRequested,
    OrderFilled,
    PositionSettled,
)
from domain.mark_prices import MarkPrices
from domain.portfolio import Portfolio
from handlers.live.configuration import directory_at
from handlers.live.event_codec import codec, readable
from handlers.live.mark_prices import all_marks
from streams import subjects
from streams.connection import Connection
from streams.envelope import Recorded
from streams.reader import Stored, get, read_all
from streams.topology import EXECUTIONS, REQUESTS, info

Progress = Callable[[int, int], None]
"""Told how many events of how many were looked at."""


class Difference(NamedTuple):
    """The first field in which a decision made again differs from the stored one."""

    attempt_id: str
    at: str
    field: str
    stored: Any
    again: Any


class Verdict(NamedTuple):
    """How many decisions came out equal, and those that did not.

    Some cannot be made again: `gone` counts those whose request is no longer kept, `other_rules` those that an
    earlier version of the rules decided.
    """

    decisions: int
    equal: int
    different: list[Difference]
    gone: int
    other_rules: int


class Requests:
    """The requests by id, read along with the decisions: each is kept until its decision has come."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._batches = self._read()
        self._codec = codec()
        self._waiting: dict[str, ExecutionRequested] = {}

    async def take(self, request_id: str) -> ExecutionRequested | None:
        """The request, or None when the log no longer holds it."""
        while request_id not in self._waiting:
            batch = await anext(self._batches, None)
            if batch is None:
                return None
            for stored in batch:
                event = readable(self._codec, REQUESTS.name, stored)
                if event is not None and isinstance(event.data, ExecutionRequested):
                    self._waiting[event.data.request_id] = event.data
        return self._waiting.pop(request_id)

    async def _read(self) -> AsyncIterator[list[Stored]]:
        async for batch in read_all(self._connection, REQUESTS.name):
            yield batch


class DecisionReplayer:
    """Folds portfolios as the plan stage did, and decides again."""

    def __init__(self, directory: Configuration, marks: MarkPrices) -> None:
        self._directory = directory
        self._marks = marks
        self._portfolios: dict[str, Portfolio] = {}
        self._followed: defaultdict[str, deque[Recorded]] = defaultdict(deque)

    def fold(self, event: Recorded) -> None:
        """One event of EXECUTIONS. What the execute stage wrote counts from where a decision says it had seen it."""
        data = event.data
        if isinstance(data, OrderFilled | ExecutionCompleted):
            self._followed[data.subscriber_id].append(event)
            return
        if isinstance(data, CopyQueued):
            return
        if isinstance(data, PositionSettled):
            # Paid out only once no order in the asset was on its way, so all of them had been seen.
            self._catch_up(data.subscriber_id, lambda one: (one.venue, one.asset) == (data.venue, data.asset))
        self._evolve(data.subscriber_id, data)

    def decide(self, event: Recorded, request: ExecutionRequested) -> CopyDecided | None:
        """The decision again, from everything before it; None when its policy is not in the log."""
        stored: CopyDecided = event.data
        policy = self._directory.policy_named(stored.policy_hash)
        if policy is None:
            return None
        seen = decision_inputs_of(
            request,
            self._directory.controls,
            self._marks,
            portfolio_sequence=stored.portfolio_sequence,
            config_sequence=stored.config_sequence,
            marks_sequence=stored.marks_sequence,
        )
        return decide(self.portfolio_before(event), request, policy, seen, now=stored.decided_at)

    def portfolio_before(self, event: Recorded) -> Portfolio:
        """The portfolio that a stored decision had seen."""
        stored: CopyDecided = event.data
        queue = self._followed[stored.subscriber_id]
        while queue and queue[0].sequence <= stored.portfolio_sequence:
            self._evolve(stored.subscriber_id, queue.popleft().data)
        return self._portfolios.get(stored.subscriber_id, portfolios.initial)

    def _catch_up(self, subscriber_id: str, wanted: Callable[[Any], bool]) -> None:
        queue = self._followed[subscriber_id]
        left: deque[Recorded] = deque()
        for event in queue:
            if wanted(event.data):
                self._evolve(subscriber_id, event.data)
            else:
                left.append(event)
        self._followed[subscriber_id] = left

    def _evolve(self, subscriber_id: str, data: Any) -> None:
        before = self._portfolios.get(subscriber_id, portfolios.initial)
        self._portfolios[subscriber_id] = portfolios.evolve(before, data)


def first_difference(event: Recorded, again: CopyDecided) -> Difference | None:
    """Where a decision made again is not the stored one; None when they are equal."""
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


async def verify(
    connection: Connection, *, since: int | None = None, progress: Progress = lambda done, of: None
) -> Verdict:
    """Decide again everything that was decided at or after `since` (ns; None = ever)."""
    directory, _ = await directory_at(connection, codec())
    judge = DecisionReplayer(directory, await all_marks(connection, codec()))
    requests, decode = Requests(connection), codec()
    found = await info(connection, EXECUTIONS.name)
    end = int(found["state"]["last_seq"]) if found else 0
    decisions = equal = gone = other_rules = 0
    different: list[Difference] = []
    async for batch in read_all(connection, EXECUTIONS.name):
        for stored in batch:
            event = readable(decode, EXECUTIONS.name, stored)
            if event is None or (not hasattr(event.data, "subscriber_id") and not isinstance(event.data, CopyQueued)):
                continue
            if isinstance(event.data, CopyDecided):
                request = await requests.take(event.data.request_id)
                if since is None or event.data.decided_at >= since:
                    decisions += 1
                    if event.data.rules != RULES:
                        other_rules += 1
                        judge.fold(event)
                        continue
                    again = judge.decide(event, request) if request is not None else None
                    if again is None:
                        gone += 1
                    elif (difference := first_difference(event, again)) is not None:
                        different.append(difference)
                    else:
                        equal += 1
            judge.fold(event)
        progress(batch[-1].sequence, end)
    return Verdict(decisions, equal, different, gone, other_rules)


async def verify_one(connection: Connection, decision: Recorded) -> Difference | None:
    """Decide one stored decision again, from its subscriber's events alone; None when it comes out equal.

    Raises LookupError when it cannot be made again: its request or policy is no longer in the log, or other rules
    decided it.
    """
    stored: CopyDecided = decision.data
    if stored.rules != RULES:
        raise LookupError(f"version {stored.rules} of the rules decided it, and this is version {RULES}")
    directory, _ = await directory_at(connection, codec())
    judge, decode = DecisionReplayer(directory, await all_marks(connection, codec())), codec()
    async for batch in read_all(connection, EXECUTIONS.name, [subjects.executions(stored.subscriber_id)]):
        for one in batch:
            event = readable(decode, EXECUTIONS.name, one)
            # Others' events that it had seen may stand behind it.
            if event is not None and (
                event.sequence < decision.sequence or isinstance(event.data, OrderFilled | ExecutionCompleted)
            ):
                judge.fold(event)
    request = await _request_of(connection, decision)
    again = judge.decide(decision, request) if request is not None else None
    if again is None:
        raise LookupError(f"the request or the policy of {stored.attempt_id} is no longer in the log")
    return first_difference(decision, again)


async def _request_of(connection: Connection, decision: Recorded) -> ExecutionRequested | None:
    stream, _, sequence = (decision.causation or "").partition(":")
    if stream != REQUESTS.name or not sequence.isdigit():
        return None
    stored = await get(connection, REQUESTS.name, int(sequence))
    event = readable(codec(), REQUESTS.name, stored) if stored is not None else None
    return event.data if event is not None and isinstance(event.data, ExecutionRequested) else None
