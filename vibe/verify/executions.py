"""EXECUTIONS computed again: each subscriber's events from its requests, the configuration, marks and resolutions.

The events of a subscriber are folded in their order, as the stage `plan` folded them. Some begin something: a decision,
a deposit, a settlement or its correction, an ordered closing, what the breakers do. They are computed from the
portfolio before them. The others follow from one of these in the same commit: an order, its fills, the result, the
position, what is owed.
An event that does neither is named, because nothing can have produced it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from domain import breakers, exits, live_orders
from domain import portfolio as portfolios
from domain.configuration import Configuration, Kind
from domain.decision import RULES, decide
from domain.decision_inputs import decision_inputs_of
from domain.dropped import dropped
from domain.events import (
    AccountReported,
    BreakerReset,
    BreakerTripped,
    CashDeposited,
    CopyDecided,
    CopyQueued,
    EquityMarked,
    Event,
    ExecutionCompleted,
    ExecutionRequested,
    ExitEnd,
    ExitOwed,
    FillCorrected,
    GroupCause,
    OrderConfirmed,
    OrderFilled,
    OrderResulted,
    PositionCompared,
    PositionSettled,
    SettlementCorrected,
)
from domain.ids import derived
from domain.paper_execution import execute_on_paper, position_after, position_corrected
from domain.portfolio import Portfolio
from domain.portfolio_maintenance import corrections, payouts
from domain.reason_codes import Reason
from handlers.live.configuration import configuration_fold
from handlers.live.event_codec import codec, readable
from handlers.live.mark_history import MarkHistory
from handlers.live.portfolio_outputs import booked, id_of, subscriber_of
from handlers.plan import Plan, queue
from handlers.services.request_reader import RequestReader
from streams import subjects
from streams.connection import Connection
from streams.envelope import Recorded, nanoseconds, parse_address
from streams.reader import Stored, get, read_all
from streams.topology import CONFIG, EXECUTIONS, GROUPS, REQUESTS, info
from vibe.verify.derived import Progress
from vibe.verify.drops import Drops
from vibe.verify.findings import Different, Findings

_CHECKPOINT = ".checkpoint."
_CONFIGURATIONS = 4


class _Verifier:
    """The state of one verification: portfolios as of the event that is looked at."""

    def __init__(
        self, connection: Connection, directory: Configuration, marks: MarkHistory, findings: Findings
    ) -> None:
        self._connection = connection
        self._directory = directory
        self._marks = marks
        self._findings = findings
        self._portfolios: dict[str, Portfolio] = {}
        self._requests = RequestReader(connection)
        self._drops = Drops(connection)
        self._deposits: dict[str, list[tuple[int, int]]] = {}
        self._configurations: dict[int, Configuration] = {}

    async def start(self) -> None:
        """Read what subscribers were configured to hold, at which sequences."""
        await self._requests.start()
        staged: dict[str, list[tuple[str, int]]] = {}
        async for batch in read_all(self._connection, CONFIG.name, ["config.subscriber.>", "config.import.>"]):
            for stored in batch:
                for event in readable(codec(), CONFIG.name, stored):
                    waiting = staged.setdefault(stored.subject, [])
                    if event.type == "subscriber.configured":
                        waiting.append((event.data.id, event.data.deposit_micros))
                    if event.type == "import.activated" or not stored.subject.startswith("config.import."):
                        for subscriber_id, amount in staged.pop(stored.subject):
                            self._deposits.setdefault(subscriber_id, []).append((event.sequence, amount))

    async def commit(self, events: list[Recorded], stored: Stored, *, counted: bool) -> None:
        """Verify the events of one commit, in order, and fold them."""
        expected: deque[Event] = deque()
        findings = self._findings if counted else Findings()
        for event in events:
            findings.events += 1
            subscriber_id = _subscriber_of(event.data)
            if stored.subject != subjects.executions(subscriber_id):
                findings.cannot_be(event, f"it is about {subscriber_id}, and is on the subject of another subscriber")
                continue
            portfolio = self._portfolios.setdefault(subscriber_id, Portfolio())
            if expected and type(expected[0]) is type(event.data):
                following = expected.popleft()
                findings.compare(event, following, id_of(following))
            else:
                _nothing_missing(event, expected, findings)
                await self._begins(event, portfolio, expected, findings)
            if not isinstance(event.data, CopyQueued):
                portfolios.evolve(portfolio, event.data)
        if events:
            _nothing_missing(events[-1], expected, findings)

    def fold(self, events: list[Recorded]) -> None:
        """Fold the events of one commit without verifying them."""
        for event in events:
            if not isinstance(event.data, CopyQueued):
                portfolio = self._portfolios.setdefault(event.data.subscriber_id, Portfolio())
                portfolios.evolve(portfolio, event.data)

    async def _begins(self, event: Recorded, portfolio: Portfolio, expected: deque[Event], findings: Findings) -> None:
        """Verify an event that begins something; `expected` receives what has to follow."""
        match event.data:
            case CopyDecided():
                await self._decided(event, portfolio, expected, findings)
            case CopyQueued():
                await self._queued(event, findings)
            case PositionSettled():
                await self._settled(event, portfolio, expected, findings)
            case SettlementCorrected():
                await self._corrected(event, portfolio, expected, findings)
            case CashDeposited():
                self._deposited(event, portfolio, findings)
            case EquityMarked(marks_sequence=sequence):
                equity = portfolios.equity(portfolio, await self._marks.at(sequence), sequence)
                again = EquityMarked(
                    subscriber_id=event.data.subscriber_id,
                    equity_micros=equity,
                    marks_sequence=sequence,
                    marked_at=event.data.marked_at,
                )
                findings.compare(event, again, id_of(again))
            case BreakerTripped() | BreakerReset():
                await self._breaker(event, portfolio, findings)
            case OrderFilled() | ExecutionCompleted() | FillCorrected() | PositionCompared():
                await self._booked(event, portfolio, expected, findings)
            case ExitOwed(cause=GroupCause.ORDERED):
                self._ordered(event, portfolio, findings)
            case _:
                findings.cannot_be(event, "no decision or settlement of its commit leads to it")

    async def _decided(self, event: Recorded, portfolio: Portfolio, expected: deque[Event], findings: Findings) -> None:
        stored: CopyDecided = event.data
        request = await self._request_of(event, stored.request_id, findings)
        if request is None:
            self._follows_unverified(event, expected)
            return
        self._requests.take(stored.request_id)
        if stored.reasons == (Reason.DROPPED,):
            await self._dropped(event, portfolio, request, findings)
            return
        policy = self._directory.policy_named(stored.policy_hash)
        if policy is None:
            findings.cannot_be(event, f"policy {stored.policy_hash} is not in CONFIG")
            return
        expected.extend(execute_on_paper(portfolio, stored, policy, now=stored.decided_at))
        owed = portfolio.exits.get((request.subscription_id, (request.venue.value, request.asset)))
        sent = live_orders.submit(portfolio, stored, request, owed, policy, now=stored.decided_at)
        if sent is not None:
            expected.append(sent)
        expected.extend(exits.follow(stored, request, owed, policy, now=stored.decided_at))
        if stored.rules != RULES:
            findings.not_verifiable += 1
            return
        inputs = decision_inputs_of(
            request,
            self._directory.controls,
            await self._marks.at(stored.marks_sequence),
            config_sequence=stored.config_sequence,
            marks_sequence=stored.marks_sequence,
        )
        again = decide(portfolio, request, policy, inputs, now=stored.decided_at)
        findings.compare(event, again, id_of(again))

    async def _booked(self, event: Recorded, portfolio: Portfolio, expected: deque[Event], findings: Findings) -> None:
        """The booking of a live order's result, or of the venue's own fills, again."""
        cause = parse_address(event.causation)
        if cause is None or cause.stream != REQUESTS.name:
            findings.cannot_be(event, "no decision of its commit and no result of a live order leads to it")
            return
        if cause.sequence < self._requests.first:
            findings.not_verifiable += 1
            return
        stored = await get(self._connection, REQUESTS.name, cause.sequence)
        results = readable(codec(), REQUESTS.name, stored) if stored is not None else []
        result = next((one.data for one in results if one.index == (cause.index or 0)), None)
        if not isinstance(result, OrderResulted | OrderConfirmed | AccountReported):
            findings.cannot_be(event, f"{event.causation} is no result of a live order")
            return
        if subscriber_of(result) != event.data.subscriber_id:
            findings.cannot_be(event, f"{event.causation} is about {subscriber_of(result)}")
            return
        expected.extend(one.event for one in booked(portfolio, result))  # type: ignore[misc]
        if not expected:
            findings.cannot_be(event, f"{event.causation} leads to no booking")
            return
        first = expected.popleft()
        findings.compare(event, first, id_of(first))

    async def _dropped(
        self, event: Recorded, portfolio: Portfolio, request: ExecutionRequested, findings: Findings
    ) -> None:
        stored: CopyDecided = event.data
        if not await self._drops.has(Plan.name, event.causation):
            findings.cannot_be(event, f"no operator dropped a dead letter of {event.causation}")
            return
        again = dropped(
            portfolio,
            request,
            now=stored.decided_at,
            config_sequence=stored.config_sequence,
            marks_sequence=stored.marks_sequence,
        )
        findings.compare(event, again, id_of(again))

    async def _queued(self, event: Recorded, findings: Findings) -> None:
        stored: CopyQueued = event.data
        request = await self._request_of(event, stored.request.request_id, findings)
        if request is None:
            return
        policy = self._directory.policy_named(request.policy_hash)
        if policy is None:
            findings.cannot_be(event, f"policy {request.policy_hash} is not in CONFIG")
            return
        again = queue(request, policy, event.causation or "", stored.queued_at)
        findings.compare(event, again.event, again.id)

    async def _request_of(self, event: Recorded, request_id: str, findings: Findings) -> ExecutionRequested | None:
        """The request that an event names as its cause; None, counted or named, when there is none."""
        cause = parse_address(event.causation)
        if cause is None or cause.stream != REQUESTS.name:
            findings.cannot_be(event, f"its cause is {event.causation!r}, not a request")
            return None
        found = await self._requests.find(request_id, cause.sequence)
        if found is not None:
            return found
        if cause.sequence < self._requests.first:
            findings.not_verifiable += 1
        else:
            findings.cannot_be(event, f"no request {request_id} waits to be decided at {event.causation}")
        return None

    def _follows_unverified(self, event: Recorded, expected: deque[Event]) -> None:
        """Of a decision that cannot be made again, what follows on paper is computed from the decision alone."""
        policy = self._directory.policy_named(event.data.policy_hash)
        if policy is not None:
            portfolio = self._portfolios[event.data.subscriber_id]
            expected.extend(execute_on_paper(portfolio, event.data, policy, now=event.data.decided_at))

    async def _settled(self, event: Recorded, portfolio: Portfolio, expected: deque[Event], findings: Findings) -> None:
        stored: PositionSettled = event.data
        asset = (stored.venue.value, stored.asset)
        cause = parse_address(event.causation)
        if cause is None or cause.stream != GROUPS.name:
            findings.cannot_be(event, f"its cause is {event.causation!r}, not a resolution")
            return
        resolution = (await self._marks.at(cause.sequence)).resolution(asset, cause.sequence)
        if resolution is None:
            findings.cannot_be(event, f"no resolution of {stored.asset} is at {event.causation}")
            return
        paid = payouts(portfolio, stored.subscriber_id, asset, resolution, now=stored.settled_at)
        again = next((one for one in paid if one.subscription_id == stored.subscription_id), None)
        if again is None:
            findings.cannot_be(event, f"{stored.subscription_id} holds nothing of {stored.asset} to be paid out")
            return
        findings.compare(event, again, again.settlement_id)
        expected.append(position_after(portfolio, stored))
        owed = portfolio.exits.get((stored.subscription_id, asset))
        if owed is not None:
            expected.append(exits.ended(owed, ExitEnd.SETTLED, now=stored.settled_at))

    async def _corrected(
        self, event: Recorded, portfolio: Portfolio, expected: deque[Event], findings: Findings
    ) -> None:
        stored: SettlementCorrected = event.data
        cause = parse_address(event.causation)
        sequence = cause.sequence if cause is not None else 0
        marks = await self._marks.at(sequence)
        made = corrections(portfolio, stored.subscriber_id, marks, now=stored.corrected_at, sequence=sequence)
        key = (stored.subscription_id, stored.venue, stored.asset)
        again = next((one for one, _ in made if (one.subscription_id, one.venue, one.asset) == key), None)
        if again is None:
            findings.cannot_be(event, f"no changed resolution at {event.causation} concerns what was paid")
            return
        findings.compare(event, again, again.correction_id)
        expected.append(position_corrected(portfolio, stored))

    def _deposited(self, event: Recorded, portfolio: Portfolio, findings: Findings) -> None:
        stored: CashDeposited = event.data
        configured = self._deposits.get(stored.subscriber_id, [])
        amounts = [amount for sequence, amount in configured if sequence <= stored.config_sequence]
        change = amounts[-1] - portfolio.deposits_micros if amounts else 0
        if not change:
            findings.cannot_be(event, f"CONFIG up to {stored.config_sequence} orders no such deposit")
            return
        again = CashDeposited(
            deposit_id=derived("dep", stored.subscriber_id, stored.config_sequence, portfolio.deposits_micros, change),
            subscriber_id=stored.subscriber_id,
            cash_delta_micros=change,
            config_sequence=stored.config_sequence,
            deposited_at=stored.deposited_at,
        )
        findings.compare(event, again, again.deposit_id)

    async def _breaker(self, event: Recorded, portfolio: Portfolio, findings: Findings) -> None:
        stored: BreakerTripped | BreakerReset = event.data
        directory = await self._configuration_at(stored.config_sequence)
        reset = directory.controls.breakers_reset(stored.subscriber_id, stored.config_sequence)
        ordered = reset is not None and reset.sequence > portfolio.breakers.config_sequence
        tripped = isinstance(stored, BreakerTripped)
        marks_sequence = stored.marks_sequence if isinstance(stored, BreakerTripped) else 0
        made: Iterable[Event] = breakers.watch(
            portfolio.breakers,
            stored.subscriber_id,
            portfolios.equity(portfolio, await self._marks.at(marks_sequence), marks_sequence)
            if tripped
            else stored.equity_micros,
            directory.subscriber_policy(stored.subscriber_id),
            now=stored.tripped_at if isinstance(stored, BreakerTripped) else stored.reset_at,
            marks_sequence=marks_sequence,
            config_sequence=stored.config_sequence,
            reset_by=reset.actor if reset is not None and ordered else None,
        )
        again = next((one for one in made if type(one) is type(stored) and one.limit == stored.limit), None)
        if again is None:
            findings.cannot_be(event, f"{stored.limit} does not {'trip' if tripped else 'reset'} at this equity")
        else:
            findings.compare(event, again, id_of(again))

    def _ordered(self, event: Recorded, portfolio: Portfolio, findings: Findings) -> None:
        stored: ExitOwed = event.data
        asset = (stored.venue.value, stored.asset)
        cause, holding = parse_address(event.causation), portfolio.holdings.get(asset)
        part = holding.parts.get(stored.subscription_id) if holding is not None else None
        if cause is None or cause.stream != CONFIG.name or holding is None or part is None:
            findings.cannot_be(event, f"{stored.subscription_id} holds nothing of {stored.asset} that could be closed")
            return
        market = holding.position.market
        names = (asset[1], market) if market else (asset[1],)
        order = self._directory.controls.closed(
            stored.subscription_id, stored.subscriber_id, part.influencer_id, names, cause.sequence
        )
        again = order and exits.ordered(
            part,
            stored.subscription_id,
            stored.subscriber_id,
            asset,
            market,
            portfolio.exits.get((stored.subscription_id, asset)),
            order,
            while_paused=stored.while_paused,
            now=stored.owed_at,
        )
        if order is None or again is None:
            findings.cannot_be(event, f"no order in CONFIG at {cause.sequence} closes it")
        else:
            findings.compare(event, again, f"{again.exit_id}.{order.sequence}.owed")

    async def _configuration_at(self, sequence: int) -> Configuration:
        found = self._configurations.get(sequence)
        if found is None:
            if len(self._configurations) >= _CONFIGURATIONS:
                self._configurations.pop(next(iter(self._configurations)))
            fold = await configuration_fold(self._connection, codec(), until=sequence, from_snapshot=False)
            found = self._configurations[sequence] = fold.directory
        return found


def _nothing_missing(event: Recorded, expected: deque[Event], findings: Findings) -> None:
    """Name what should have been stored before or, at the end of its commit, after this event and is not."""
    for missing in expected:
        findings.different.append(Different(event.at, event.type, "what follows", None, type(missing).__name__))
    expected.clear()


def _subscriber_of(data: Any) -> str:
    subscriber_id: str = data.request.subscriber_id if isinstance(data, CopyQueued) else data.subscriber_id
    return subscriber_id


async def verify_commit(connection: Connection, one: Recorded) -> Findings:
    """Compute one commit of EXECUTIONS again, given any of its events, from its subscriber's events before it."""
    findings, decode = Findings(), codec()
    verifier = await _verifier(connection, findings)
    async for batch in read_all(connection, EXECUTIONS.name, [one.subject]):
        for stored in batch:
            events = findings.events_of(decode, EXECUTIONS.name, stored)
            if stored.sequence < one.sequence:
                verifier.fold(events)
            elif stored.sequence == one.sequence:
                await verifier.commit(events, stored, counted=True)
                return findings
    return findings


async def _verifier(connection: Connection, findings: Findings) -> _Verifier:
    kinds = (Kind.POLICY, Kind.CONTROL)
    directory = (await configuration_fold(connection, codec(), kinds, from_snapshot=False)).directory
    verifier = _Verifier(connection, directory, MarkHistory(connection, codec()), findings)
    await verifier.start()
    return verifier


async def verify_executions(
    connection: Connection,
    findings: Findings,
    *,
    since: int | None = None,
    progress: Progress = lambda done, of: None,
) -> None:
    """Compute every event of EXECUTIONS again that was recorded at `since` (ns; None = all) or later."""
    verifier = await _verifier(connection, findings)
    found, decode = await info(connection, EXECUTIONS.name), codec()
    end = int(found["state"]["last_seq"]) if found else 0
    async for batch in read_all(connection, EXECUTIONS.name):
        for stored in batch:
            if _CHECKPOINT in stored.subject:
                continue
            events = readable(decode, EXECUTIONS.name, stored)
            if events:
                counted = since is None or nanoseconds(events[0].time) >= since
                await verifier.commit(list(events), stored, counted=counted)
        progress(batch[-1].sequence, end)
