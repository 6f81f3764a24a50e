"""REQUESTS -> EXECUTIONS: one decision per request, with the subscriber's portfolio as the log has it."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from domain import portfolio as portfolios
from domain.copying import decide
from domain.events import CashDeposited, ExecutionCompleted, ExecutionRequested, OrderFilled
from domain.ids import derived
from domain.portfolio import Portfolio
from handlers.configuration import Configuration
from streams import subjects
from streams.envelope import Recorded
from streams.errors import UnprocessableError
from streams.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import EXECUTIONS, REQUESTS


class Portfolios(Struct):
    """Every portfolio of a lane, and the last event of the execute stage that they hold."""

    of: dict[str, Portfolio] = {}
    followed: int = 0


class Plan(Stage[Portfolios]):
    name = "plan"
    description = "decides every execution request"
    reads = REQUESTS
    writes = EXECUTIONS
    input_patterns = ("requests.{}.>",)
    state_patterns = ("executions.{}.>",)
    input_types = frozenset({"execution.requested"})
    schema = 1
    follows = frozenset({"order.filled", "execution.completed"})

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def initial(self, lane: Lane) -> Portfolios:
        return Portfolios()

    def dump(self, state: Portfolios) -> bytes:
        return msgspec.msgpack.encode(state)

    def restore(self, payload: bytes, lane: Lane) -> Portfolios:
        return msgspec.msgpack.decode(payload, type=Portfolios)

    def config_sequence(self) -> int:
        return self._configuration.sequence

    async def ready(self, events: list[Recorded]) -> None:
        if events:
            await self._configuration.reached(max(event.data.config_sequence for event in events))

    def handle(self, state: Portfolios, event: Recorded, now: int) -> Iterator[Output]:
        request: ExecutionRequested = event.data
        directory = self._configuration.directory
        policy = directory.policy_named(request.policy_hash)
        subscriber = directory.subscribers.get(request.subscriber_id)
        if policy is None:
            raise UnprocessableError(f"policy {request.policy_hash} is not in CONFIG")
        if subscriber is None:
            raise UnprocessableError(f"subscriber {request.subscriber_id!r} is not in CONFIG")
        subject = subjects.executions(request.subscriber_id)
        portfolio = state.of.get(request.subscriber_id, portfolios.initial)

        change = subscriber.deposit_micros - portfolio.deposits_micros
        if change:
            deposited = CashDeposited(
                deposit_id=derived("dep", request.subscriber_id, request.request_id),
                subscriber_id=request.subscriber_id,
                cash_delta_micros=change,
                config_sequence=self._configuration.sequence,
                deposited_at=now,
            )
            portfolio = portfolios.evolve(portfolio, deposited)
            yield Output(subject, deposited, deposited.deposit_id, request.subscriber_id)
        decision = decide(portfolio, request, policy, now=now, portfolio_sequence=state.followed)
        yield Output(subject, decision, decision.attempt_id, request.group_id)

    def evolve(self, state: Portfolios, event: Any, sequence: int) -> None:
        subscriber_id = event.subscriber_id
        state.of[subscriber_id] = portfolios.evolve(state.of.get(subscriber_id, portfolios.initial), event)
        if sequence and isinstance(event, OrderFilled | ExecutionCompleted):
            state.followed = sequence
