"""REQUESTS -> EXECUTIONS: one decision per request, with the subscriber's portfolio as the log has it.

What is executed on paper is filled in the same step: decision, order, fills, result and position are one commit. An
order in live mode is sent by the stage `execute`; its result comes back as a request, and is booked here.

Between decisions, portfolios are re-evaluated: resolved markets are settled and corrected, what operators order to
close is owed, and breakers are marked, tripped and reset as marks move, days end and operators reset them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from domain import exits, live_orders
from domain import portfolio as portfolios
from domain.decision import Assessments
from domain.decision_inputs import DecisionInputs, decision_inputs_of, disabled_of
from domain.dropped import dropped
from domain.events import (
    AccountReported,
    BreakerTripped,
    CopyDecided,
    CopyQueued,
    CopyRequested,
    Event,
    ExecutionRequested,
    ExitEnd,
    GroupRequested,
    OrderConfirmed,
    OrderResulted,
    PortfolioScope,
    PositionSettled,
)
from domain.guardrails import Policy
from domain.paper_execution import execute_on_paper, position_after, position_corrected
from domain.portfolio import Portfolio
from domain.portfolio_maintenance import before_deciding, closings, corrections, payouts
from domain.portfolio_set import PortfolioSet
from domain.requests import put_together, quoted_by
from handlers import metrics
from handlers.live.configuration import LiveConfiguration
from handlers.live.mark_prices import LiveMarkPrices
from handlers.live.portfolio_outputs import booked, output_of, subscriber_of
from streams import subjects
from streams.envelope import Recorded, address
from streams.errors import UnprocessableError
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import CONFIG, EXECUTIONS, GROUPS, REQUESTS

_MILLISECOND = 1_000_000
QUEUE_MARGIN_NS = 250 * _MILLISECOND
"""How long after its latest due time a request of EXEC_GLOBAL waits for others that were detected before it."""
_PORTFOLIOS_PER_TICK = 200
"""Portfolios re-evaluated in one tick, so that decisions never wait long for them."""


_OF_ORDERS = ("order.resulted", "order.confirmed", "account.reported")

_PARTS = 16
"""Parts of a partition in snapshots: of 200,000 subscribers each has some 200, which are encoded in a millisecond."""


class Saved(Struct):
    """What a snapshot keeps of one part of a lane."""

    of: dict[str, Portfolio]
    queued: dict[str, CopyQueued]


_SAVED = msgspec.msgpack.Decoder(Saved)


class PlanState:
    """A lane's portfolios, and the queued requests."""

    def __init__(self, portfolios: PortfolioSet, queued: dict[str, CopyQueued]) -> None:
        self.portfolios = portfolios
        self.queued = queued
        self.parts: dict[str, list[str]] = {}
        """The subscribers of each part that snapshots are made of."""
        for subscriber_id in portfolios.of:
            self.add_to_part(subscriber_id)

    def add_to_part(self, subscriber_id: str) -> None:
        """A subscriber has a portfolio from now on."""
        self.parts.setdefault(_part_of(subscriber_id), []).append(subscriber_id)


class Plan(Stage[PlanState]):
    name = "plan"
    description = "decides every execution request, and books the results of live orders"
    reads = REQUESTS
    writes = EXECUTIONS
    input_patterns = ("requests.{}.>", "orders.{}.>")
    state_patterns = ("executions.{}.>",)
    input_types = frozenset({"group.requested", "execution.requested", *_OF_ORDERS})
    schema = 9
    saved_in_parts = True

    def __init__(self, configuration: LiveConfiguration, valuation: LiveMarkPrices) -> None:
        self._configuration = configuration
        self._valuation = valuation
        self._last: tuple[GroupRequested, Assessments] | None = None
        """The group of the last request, and what its requests have in common."""

    def initial(self, lane: Lane) -> PlanState:
        return PlanState(PortfolioSet({}), {})

    def part_of(self, subject: str) -> str:
        return subjects.part_of(subject, _PARTS)

    def dump_part(self, state: PlanState, part: str) -> bytes:
        portfolios = {subscriber_id: state.portfolios.of[subscriber_id] for subscriber_id in state.parts.get(part, ())}
        queued = {
            request_id: queued
            for request_id, queued in state.queued.items()
            if _part_of(queued.request.subscriber_id) == part
        }
        return msgspec.msgpack.encode(Saved(portfolios, queued))

    def restore_parts(self, parts: Mapping[str, bytes], lane: Lane) -> PlanState:
        of, queued = dict[str, Portfolio](), dict[str, CopyQueued]()
        for payload in parts.values():
            saved = _SAVED.decode(payload)
            of.update(saved.of)
            queued.update(saved.queued)
        return PlanState(PortfolioSet(of), queued)

    def config_sequence(self) -> int:
        return self._configuration.sequence

    async def config_reached(self, sequence: int) -> None:
        await self._configuration.reached(sequence)

    async def ready(self, events: list[Recorded]) -> None:
        needed = [event.head.config_sequence for event in events if isinstance(event.head, GroupRequested)]
        if needed:
            await self._configuration.reached(max(needed))

    def handle(self, state: PlanState, event: Recorded, now: int) -> Iterator[Output]:
        if isinstance(event.data, GroupRequested):
            return  # the requests behind it in its commit name it as their head
        if isinstance(event.data, OrderResulted | OrderConfirmed | AccountReported):
            yield from booked(state.portfolios.of.get(subscriber_of(event.data)), event.data)
            return
        request = put_together(event.id, event.head, event.data)
        policy = self._policy_of(request)
        if request.subscriber_id not in self._configuration.directory.subscribers:
            raise UnprocessableError(f"subscriber {request.subscriber_id!r} is not in CONFIG")
        if request.scope is PortfolioScope.EXEC_GLOBAL and request.exit is None:
            yield queue(request, policy, event.at, now)
        else:
            portfolio = state.portfolios.of.get(request.subscriber_id)
            yield from self._decided(portfolio, request, policy, self._assessments_of(event.head, request, now))

    def dropped(self, state: PlanState, event: Recorded, now: int) -> Iterator[Output]:
        """A SKIP. A try of an owed exit needs none: `exits` schedules it again when it is not decided."""
        if not isinstance(event.data, CopyRequested) or event.data.exit is not None:
            return
        request = put_together(event.id, event.head, event.data)
        skip = dropped(
            state.portfolios.of.get(request.subscriber_id) or Portfolio(),
            request,
            now=now,
            config_sequence=self._configuration.sequence,
            marks_sequence=self._valuation.marks.sequence,
        )
        yield output_of(skip, event.at, request.group_id)

    def evolve(self, state: PlanState, event: Any, sequence: int) -> None:
        if isinstance(event, CopyQueued):
            state.queued[event.request.request_id] = event
            return
        if event.subscriber_id not in state.portfolios.of:
            state.add_to_part(event.subscriber_id)
        state.portfolios.evolve(event.subscriber_id, event)
        if isinstance(event, CopyDecided):
            state.queued.pop(event.request_id, None)

    # --- deciding ------------------------------------------------------------------------------------------

    def stored(self, state: PlanState, output: Output, sequence: int) -> None:
        decided = output.event
        if isinstance(decided, CopyDecided):
            metrics.DECISIONS.labels(decided.decision.value).inc()
            for reason in decided.reasons:
                metrics.REASONS.labels(reason.value).inc()
            if not decided.exit_try:
                metrics.DECISION_SECONDS.observe(max(0, decided.decided_at - decided.detect_time) / 1e9)
        elif isinstance(decided, BreakerTripped):
            metrics.BREAKERS.labels(decided.limit).inc()

    def _policy_of(self, request: ExecutionRequested) -> Policy:
        policy = self._configuration.directory.policy_named(request.policy_hash)
        if policy is None:
            raise UnprocessableError(
                f"policy {request.policy_hash} is not in CONFIG; any `vibe config import` stores missing policies, "
                "then: vibe dead retry"
            )
        return policy

    def _assessments_of(self, group: GroupRequested, request: ExecutionRequested, now: int) -> Assessments:
        """What the requests of one commit have in common: they are decided at one time, that of the first."""
        if self._last is not None and self._last[0] is group:
            known = self._last[1]
            read = (known.inputs.config_sequence, known.inputs.marks_sequence)
            if read == (self._configuration.sequence, self._valuation.marks.sequence):
                return known
        made = Assessments(request, self._inputs_of(request), now)
        self._last = group, made
        return made

    def _decided(
        self,
        portfolio: Portfolio | None,
        request: ExecutionRequested,
        policy: Policy,
        assessments: Assessments,
        cause: str | None = None,
    ) -> Iterator[Output]:
        """What is due to the portfolio, a decision, what it leads to on paper, and what the copy owes after it."""
        portfolio, now = portfolio or Portfolio(), assessments.now
        before = list(self._before(portfolio, request.subscriber_id, now))
        if before:
            portfolio = portfolios.copy(portfolio)
        for event in before:
            portfolios.evolve(portfolio, event)
            yield output_of(event, cause, request.group_id)
        known = self._configuration
        disabled = disabled_of(request, known.directory.controls, known.sequence)
        decision = assessments.decide(portfolio, request, policy, disabled)
        correlation = decision.group_id
        yield output_of(decision, cause, correlation)
        for event in execute_on_paper(portfolio, decision, policy, now=now):
            yield output_of(event, cause, correlation)
        owed = portfolio.exits.get((request.subscription_id, (request.venue.value, request.asset)))
        sent = live_orders.submit(portfolio, decision, request, owed, policy, now=now)
        if sent is not None:
            yield output_of(sent, cause, correlation)
        for change in exits.follow(decision, request, owed, policy, now=now):
            yield output_of(change, cause, correlation)

    def _inputs_of(self, request: ExecutionRequested) -> DecisionInputs:
        return decision_inputs_of(
            request,
            self._configuration.directory.controls,
            self._valuation.marks,
            config_sequence=self._configuration.sequence,
            marks_sequence=self._valuation.marks.sequence,
        )

    def _due_decisions(self, state: PlanState, now: int) -> Iterator[Output]:
        """The queued requests that are due, and all that were detected before them, first in, first out."""
        due = [queued for queued in state.queued.values() if queued.due_at <= now]
        if not due:
            return
        newest = max(queued.request.detect_time for queued in due)
        in_order = sorted(
            (queued for queued in state.queued.values() if queued.request.detect_time <= newest),
            key=lambda queued: (queued.request.detect_time, queued.request.group_id),
        )
        portfolio_of = dict[str, Portfolio]()
        for queued in in_order:
            request = queued.request
            portfolio = portfolio_of.get(request.subscriber_id)
            if portfolio is None:
                held = state.portfolios.of.get(request.subscriber_id, Portfolio())
                portfolio = portfolio_of[request.subscriber_id] = portfolios.copy(held)
            cause = queued.request_at
            assessments = Assessments(request, self._inputs_of(request), now)
            for output in list(self._decided(portfolio, request, self._policy_of(request), assessments, cause)):
                portfolios.evolve(portfolio, output.event)  # type: ignore[arg-type]
                yield output

    # --- re-evaluating portfolios --------------------------------------------------------------------------

    def due(self, state: PlanState) -> int | None:
        times = [queued.due_at for queued in state.queued.values()]
        if (evaluation := state.portfolios.next_evaluation()) is not None:
            times.append(evaluation)
        return min(times, default=None)

    def tick(self, state: PlanState, now: int) -> Iterator[Output]:
        # A subscriber with a decision in this tick is re-evaluated in a later one, when the decision is folded.
        deciding = {queued.request.subscriber_id for queued in state.queued.values() if queued.due_at <= now}
        yield from self._due_decisions(state, now)
        marks, orders = self._valuation.marks, self._configuration.directory.controls.orders
        for subscriber_id in state.portfolios.take(marks, orders, now, _PORTFOLIOS_PER_TICK, deciding):
            yield from self._reevaluated(state, subscriber_id, now)

    def _reevaluated(self, state: PlanState, subscriber_id: str, now: int) -> Iterator[Output]:
        portfolio = state.portfolios.of[subscriber_id]
        settled = list(self._settled(portfolio, subscriber_id, now))
        corrected = list(corrections(portfolio, subscriber_id, self._valuation.marks, now=now))
        if settled or corrected:
            portfolio = portfolios.copy(portfolio)
        for correction, resolved_at in corrected:
            cause, correlation = address(GROUPS.name, resolved_at), correction.resolution_id
            yield output_of(correction, cause, correlation)
            yield output_of(position_corrected(portfolio, correction), cause, correlation)
            portfolios.evolve(portfolio, correction)
        for event, resolved_at in settled:
            cause, correlation = address(GROUPS.name, resolved_at), event.resolution_id
            yield output_of(event, cause, correlation)
            yield output_of(position_after(portfolio, event), cause, correlation)
            owed = portfolio.exits.get((event.subscription_id, (event.venue.value, event.asset)))
            if owed is not None:
                yield output_of(exits.ended(owed, ExitEnd.SETTLED, now=now), cause, correlation)
            portfolios.evolve(portfolio, event)
        known = self._configuration
        ordered = closings(portfolio, subscriber_id, known.directory, now=now, config_sequence=known.sequence)
        for closing, order in list(ordered):
            event_id = f"{closing.exit_id}.{order}.owed"
            subject = subjects.executions(subscriber_id)
            yield Output(subject, closing, event_id, closing.group_id, address(CONFIG.name, order), begins=True)
        for evaluated in self._before(portfolio, subscriber_id, now):
            yield output_of(evaluated, address(GROUPS.name, self._valuation.marks.sequence), subscriber_id)

    def _settled(self, portfolio: Portfolio, subscriber_id: str, now: int) -> Iterator[tuple[PositionSettled, int]]:
        """The settlements of resolved markets, each with the GROUPS sequence of its resolution."""
        for asset in portfolio.holdings:
            resolution = self._valuation.marks.resolution(asset)
            if resolution is not None:
                for event in payouts(portfolio, subscriber_id, asset, resolution, now=now):
                    yield event, resolution.sequence

    def _before(self, portfolio: Portfolio, subscriber_id: str, now: int) -> Iterator[Event]:
        known = self._configuration
        return before_deciding(
            portfolio, subscriber_id, known.directory, self._valuation.marks, now=now, config_sequence=known.sequence
        )


def _part_of(subscriber_id: str) -> str:
    return subjects.part_of(subjects.executions(subscriber_id), _PARTS)


def queue(request: ExecutionRequested, policy: Policy, at: str, now: int) -> Output:
    """EXEC_GLOBAL copies first in, first out by detect time, so a request waits until none before it can come."""
    due_at = quoted_by(request, policy) + QUEUE_MARGIN_NS
    queued = CopyQueued(request=request, request_at=at, due_at=due_at, queued_at=now)
    return Output(subjects.executions(request.subscriber_id), queued, f"{request.request_id}.queued", request.group_id)
