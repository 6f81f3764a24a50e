"""REQUESTS -> EXECUTIONS: one decision per request, with the subscriber's portfolio as the log has it.

Beside deciding, a lane looks after its portfolios: it pays out what resolved markets owe, records what their breakers
look back to, trips and resets them as marks move, days end and operators say so.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from domain import breakers
from domain import portfolio as portfolios
from domain.decision import decide
from domain.decision_inputs import decision_inputs_of
from domain.events import (
    BreakerReset,
    BreakerTripped,
    CashDeposited,
    CopyDecided,
    CopyQueued,
    EquityMarked,
    Event,
    ExecutionCompleted,
    ExecutionRequested,
    OrderFilled,
    PortfolioScope,
    PositionSettled,
)
from domain.guardrails import Policy
from domain.ids import derived
from domain.mark_prices import Asset
from domain.portfolio import Portfolio
from domain.portfolio_maintenance import before_deciding, payouts
from handlers.live.configuration import LiveConfiguration
from handlers.live.mark_prices import LiveMarkPrices
from streams import subjects
from streams.envelope import Recorded
from streams.errors import UnprocessableError
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import EXECUTIONS, REQUESTS

_MILLISECOND = 1_000_000
HOLD_NS = 250 * _MILLISECOND
"""How long behind its latest due time a request of EXEC_GLOBAL waits for others that were detected before it."""
LOOK_NS = 1_000 * _MILLISECOND
"""How often a lane looks whether marks have moved."""
_AT_ONCE = 200
"""Portfolios looked after in one turn, so that decisions never wait long for them."""


class Saved(Struct):
    """What a snapshot keeps of a lane."""

    of: dict[str, Portfolio]
    followed: int
    queued: dict[str, CopyQueued]


class Portfolios:
    """Every portfolio of a lane, the last event of the execute stage that they hold, and the requests that wait.

    `holders` says who holds an asset; `dirty` whose marks have moved and who has not been looked after since.
    """

    def __init__(self, of: dict[str, Portfolio], followed: int, queued: dict[str, CopyQueued]) -> None:
        self.of = of
        self.followed = followed
        self.queued = queued
        self.holders: dict[Asset, set[str]] = {}
        for subscriber_id, portfolio in of.items():
            for asset in portfolio.positions:
                self.holders.setdefault(asset, set()).add(subscriber_id)
        self.dirty: dict[str, None] = {}
        self.looked_at = 0
        self.marks_seen = 0
        self.resets_seen = 0
        self.day = -1

    def set(self, subscriber_id: str, portfolio: Portfolio) -> None:
        before = self.of.get(subscriber_id)
        self.of[subscriber_id] = portfolio
        held = before.positions if before is not None else {}
        if portfolio.positions is held:
            return
        for asset in held.keys() - portfolio.positions.keys():
            self.holders[asset].discard(subscriber_id)
            if not self.holders[asset]:
                del self.holders[asset]
        for asset in portfolio.positions.keys() - held.keys():
            self.holders.setdefault(asset, set()).add(subscriber_id)


class Plan(Stage[Portfolios]):
    name = "plan"
    description = "decides every execution request"
    reads = REQUESTS
    writes = EXECUTIONS
    input_patterns = ("requests.{}.>",)
    state_patterns = ("executions.{}.>",)
    input_types = frozenset({"execution.requested"})
    schema = 2
    follows = frozenset({"order.filled", "execution.completed"})

    def __init__(self, configuration: LiveConfiguration, valuation: LiveMarkPrices) -> None:
        self._configuration = configuration
        self._valuation = valuation

    def initial(self, lane: Lane) -> Portfolios:
        return Portfolios({}, 0, {})

    def dump(self, state: Portfolios) -> bytes:
        return msgspec.msgpack.encode(Saved(state.of, state.followed, state.queued))

    def restore(self, payload: bytes, lane: Lane) -> Portfolios:
        saved = msgspec.msgpack.decode(payload, type=Saved)
        return Portfolios(saved.of, saved.followed, saved.queued)

    def config_sequence(self) -> int:
        return self._configuration.sequence

    async def ready(self, events: list[Recorded]) -> None:
        if events:
            await self._configuration.reached(max(event.data.config_sequence for event in events))

    def handle(self, state: Portfolios, event: Recorded, now: int) -> Iterator[Output]:
        request: ExecutionRequested = event.data
        policy = self._policy_of(request)
        if request.subscriber_id not in self._configuration.directory.subscribers:
            raise UnprocessableError(f"subscriber {request.subscriber_id!r} is not in CONFIG")
        if request.scope is PortfolioScope.EXEC_GLOBAL:
            yield from self._in_turn(state, request, policy, event.sequence, now)
        else:
            yield from self._decided(state, state.of.get(request.subscriber_id), request, policy, now)

    def evolve(self, state: Portfolios, event: Any, sequence: int) -> None:
        if isinstance(event, CopyQueued):
            state.queued[event.request.request_id] = event
            return
        subscriber_id = event.subscriber_id
        before = state.of.get(subscriber_id, portfolios.initial)
        after = portfolios.evolve(before, event)
        if after is not before:
            state.set(subscriber_id, after)
        if isinstance(event, CopyDecided):
            state.queued.pop(event.request_id, None)
        elif sequence and isinstance(event, OrderFilled | ExecutionCompleted):
            state.followed = sequence

    # --- deciding ------------------------------------------------------------------------------------------

    def _policy_of(self, request: ExecutionRequested) -> Policy:
        policy = self._configuration.directory.policy_named(request.policy_hash)
        if policy is None:
            raise UnprocessableError(
                f"policy {request.policy_hash} is not in CONFIG; any `vibe config import` stores what is missing, "
                "then: vibe dead retry"
            )
        return policy

    def _decided(
        self,
        state: Portfolios,
        portfolio: Portfolio | None,
        request: ExecutionRequested,
        policy: Policy,
        now: int,
        cause: str | None = None,
    ) -> Iterator[Output]:
        """A decision, behind what is due to the portfolio before it."""
        portfolio = portfolio or portfolios.initial
        for event in self._before(portfolio, request.subscriber_id, now):
            portfolio = portfolios.evolve(portfolio, event)
            yield _output(event, cause)
        seen = decision_inputs_of(
            request,
            self._configuration.directory.controls,
            self._valuation.marks,
            portfolio_sequence=state.followed,
            config_sequence=self._configuration.sequence,
            marks_sequence=self._valuation.marks.sequence,
        )
        yield _output(decide(portfolio, request, policy, seen, now=now), cause)

    def _in_turn(
        self, state: Portfolios, request: ExecutionRequested, policy: Policy, sequence: int, now: int
    ) -> Iterator[Output]:
        """EXEC_GLOBAL copies first in, first out by detect time, so a request waits until none before it can come."""
        latency_ms = policy.latency_ms + policy.latency_jitter_ms
        due_at = request.detect_time + latency_ms * _MILLISECOND + HOLD_NS
        queued = CopyQueued(request=request, request_sequence=sequence, due_at=due_at, queued_at=now)
        yield Output(
            subjects.executions(request.subscriber_id), queued, f"{request.request_id}.queued", request.group_id
        )

    def _due(self, state: Portfolios, now: int) -> Iterator[Output]:
        due = [queued for queued in state.queued.values() if queued.due_at <= now]
        if not due:
            return
        newest = max(queued.request.detect_time for queued in due)
        turn = sorted(
            (queued for queued in state.queued.values() if queued.request.detect_time <= newest),
            key=lambda queued: (queued.request.detect_time, queued.request.group_id),
        )
        portfolio_of = dict[str, Portfolio]()
        for queued in turn:
            request = queued.request
            portfolio = portfolio_of.get(request.subscriber_id, state.of.get(request.subscriber_id))
            cause = f"{REQUESTS.name}:{queued.request_sequence}"
            for output in self._decided(state, portfolio, request, self._policy_of(request), now, cause):
                portfolio = portfolios.evolve(portfolio or portfolios.initial, output.event)  # type: ignore[arg-type]
                yield output
            if portfolio is not None:
                portfolio_of[request.subscriber_id] = portfolio

    # --- looking after portfolios --------------------------------------------------------------------------

    def due(self, state: Portfolios) -> int | None:
        times_due = [queued.due_at for queued in state.queued.values()]
        if state.dirty:
            times_due.append(0)
        elif state.holders:
            times_due.append(state.looked_at + LOOK_NS)
        return min(times_due, default=None)

    def tick(self, state: Portfolios, now: int) -> Iterator[Output]:
        yield from self._due(state, now)
        if now - state.looked_at >= LOOK_NS:
            state.looked_at = now
            self._look(state, now)
        # Whoever was just decided for is looked after next time, when the decisions are folded.
        busy = {queued.request.subscriber_id for queued in state.queued.values() if queued.due_at <= now}
        for subscriber_id in [one for one in state.dirty if one not in busy][:_AT_ONCE]:
            del state.dirty[subscriber_id]
            yield from self._looked_after(state, subscriber_id, now)

    def _look(self, state: Portfolios, now: int) -> None:
        """Note whose marks have moved; everybody's day ends at midnight UTC, and an operator may reset breakers."""
        marks, resets = self._valuation.marks, self._configuration.directory.controls.resets
        day = breakers.day_of(now)
        everybody = day != state.day or resets != state.resets_seen
        for asset, holders in state.holders.items():
            mark = marks.mark(asset)
            moved = mark is not None and mark.sequence > state.marks_seen
            # What is resolved and still held had an order on its way.
            if everybody or moved or marks.resolution(asset) is not None:
                state.dirty.update(dict.fromkeys(sorted(holders)))
        state.day, state.resets_seen, state.marks_seen = day, resets, marks.sequence

    def _looked_after(self, state: Portfolios, subscriber_id: str, now: int) -> Iterator[Output]:
        portfolio = state.of[subscriber_id]
        for event, resolved_at in self._settled(portfolio, subscriber_id, now):
            portfolio = portfolios.evolve(portfolio, event)
            yield _output(event, f"GROUPS:{resolved_at}")
        for event in self._before(portfolio, subscriber_id, now):
            yield _output(event, f"GROUPS:{self._valuation.marks.sequence}")

    def _settled(self, portfolio: Portfolio, subscriber_id: str, now: int) -> Iterator[tuple[Event, int]]:
        """What resolved markets owe, and the place in GROUPS where each was resolved."""
        for asset in portfolio.positions:
            resolution = self._valuation.marks.resolution(asset)
            if resolution is not None:
                for event in payouts(portfolio, subscriber_id, asset, resolution, now=now):
                    yield event, resolution.sequence

    def _before(self, portfolio: Portfolio, subscriber_id: str, now: int) -> Iterator[Event]:
        known = self._configuration
        return before_deciding(
            portfolio, subscriber_id, known.directory, self._valuation.marks, now=now, config_sequence=known.sequence
        )


def _output(event: Event, cause: str | None) -> Output:
    """An event of a subscriber, under its id."""
    assert isinstance(
        event, CashDeposited | CopyDecided | PositionSettled | EquityMarked | BreakerTripped | BreakerReset
    )
    subscriber_id = event.subscriber_id
    event_id, correlation = subscriber_id, subscriber_id
    match event:
        case CashDeposited():
            event_id = event.deposit_id
        case CopyDecided():
            event_id, correlation = event.attempt_id, event.group_id
        case PositionSettled():
            event_id, correlation = event.settlement_id, event.resolution_id
        case EquityMarked():
            event_id = derived("eqm", subscriber_id, event.marked_at, event.equity_micros)
        case BreakerTripped():
            event_id = derived("brk", subscriber_id, event.limit, event.tripped_at)
        case BreakerReset():
            event_id = derived("brr", subscriber_id, event.limit, event.reset_at)
    return Output(subjects.executions(subscriber_id), event, event_id, correlation, cause)
