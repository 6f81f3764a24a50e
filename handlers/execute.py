"""EXECUTIONS -> EXECUTIONS: orders, fills and results of the EXECUTE decisions, on the paper venue.

On paper no order leaves the system, so the intent and its outcome are one commit. A settlement changes a position too:
the position after it follows as an event.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from domain.events import (
    CopyDecided,
    Decision,
    ExecutionCompleted,
    Mode,
    OrderFilled,
    OrderSubmitted,
    PositionChanged,
    PositionSettled,
)
from domain.paper_execution import fill_on_paper
from domain.position import Position, fill_position
from handlers.live.configuration import LiveConfiguration
from streams import subjects
from streams.envelope import Recorded
from streams.errors import UnprocessableError
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import EXECUTIONS


class Held(Struct):
    """What a lane's subscribers hold: net position by (subscriber, venue, asset), signed shares by (subscription,
    venue, asset)."""

    positions: dict[tuple[str, str, str], Position] = {}
    copied: dict[tuple[str, str, str], int] = {}


class Execute(Stage[Held]):
    name = "execute"
    description = "turns decisions into orders and fills"
    reads = EXECUTIONS
    writes = EXECUTIONS
    input_patterns = ("executions.{}.>",)
    state_patterns = ("executions.{}.>",)
    input_types = frozenset({"copy.decided", "position.settled"})
    follows = frozenset({"position.settled"})
    schema = 2

    def __init__(self, configuration: LiveConfiguration) -> None:
        self._configuration = configuration

    def initial(self, lane: Lane) -> Held:
        return Held()

    def dump(self, state: Held) -> bytes:
        return msgspec.msgpack.encode(state)

    def restore(self, payload: bytes, lane: Lane) -> Held:
        return msgspec.msgpack.decode(payload, type=Held)

    async def ready(self, events: list[Recorded]) -> None:
        decided = [event.data.config_sequence for event in events if isinstance(event.data, CopyDecided)]
        if decided:
            await self._configuration.reached(max(decided))

    def handle(self, state: Held, event: Recorded, now: int) -> Iterator[Output]:
        if isinstance(event.data, PositionSettled):
            yield _settled(state, event.data)
            return
        decision: CopyDecided = event.data
        if decision.decision is not Decision.EXECUTE or decision.mode is not Mode.PAPER:
            return
        policy = self._configuration.directory.policy_named(decision.policy_hash)
        if policy is None:
            raise UnprocessableError(
                f"policy {decision.policy_hash} is not in CONFIG; any `vibe config import` stores missing policies, "
                "then: vibe dead retry"
            )
        venue, asset = decision.venue.value, decision.asset
        position = state.positions.get((decision.subscriber_id, venue, asset), Position())
        copied = state.copied.get((decision.subscription_id, venue, asset), 0)
        subject = subjects.executions(decision.subscriber_id)
        for outcome in fill_on_paper(decision, position, copied, policy, now=now):
            yield Output(subject, outcome, _id_of(outcome), decision.group_id)

    def evolve(self, state: Held, event: Any, sequence: int) -> None:
        match event:
            case OrderFilled():
                copied = (event.subscription_id, event.venue.value, event.asset)
                shares = state.copied.get(copied, 0) + event.share_delta_micros
                if shares:
                    state.copied[copied] = shares
                else:
                    state.copied.pop(copied, None)  # closed copies leave memory
            case PositionSettled():
                state.copied.pop((event.subscription_id, event.venue.value, event.asset), None)
            case PositionChanged():
                state.positions[event.subscriber_id, event.venue.value, event.asset] = Position(
                    event.share_micros, event.cost_micros, event.realized_micros
                )


def _settled(state: Held, event: PositionSettled) -> Output:
    before = state.positions.get((event.subscriber_id, event.venue.value, event.asset), Position())
    after = fill_position(before, event.share_delta_micros, abs(event.cash_delta_micros))
    changed = PositionChanged(
        subscriber_id=event.subscriber_id,
        venue=event.venue,
        asset=event.asset,
        order_id=event.settlement_id,
        share_micros=after.share_micros,
        cost_micros=after.cost_micros,
        average_price_micros=after.average_price_micros,
        realized_micros=after.realized_micros,
        changed_at=event.settled_at,
    )
    return Output(
        subjects.executions(event.subscriber_id),
        changed,
        f"{event.settlement_id}.position",
        event.resolution_id,
    )


def _id_of(event: object) -> str:
    match event:
        case OrderSubmitted():
            return event.order_id
        case OrderFilled():
            return event.fill_id
        case ExecutionCompleted():
            return f"{event.order_id}.completed"
        case PositionChanged():
            return f"{event.order_id}.position"
    raise TypeError(f"{type(event).__name__} is not written by execute")
