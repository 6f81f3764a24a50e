"""Specs of owed exits: a copy of Ann's position, her reductions, the decisions about them and the tries that follow."""

from typing import Any

from msgspec import structs

from domain import exits
from domain import portfolio as portfolios
from domain.decision import decide
from domain.decision_inputs import DecisionInputs
from domain.events import (
    Action,
    CopyDecided,
    Decision,
    Event,
    ExecutionRequested,
    ExitEnded,
    ExitOwed,
    ExitTry,
    Level,
)
from domain.guardrails import Policy
from domain.paper_execution import fill_on_paper
from domain.portfolio import Portfolio
from domain.position import Position
from tests.domain.facts import ASKS, BIDS, at, bought, deposited, executed, inputs, requested

USUAL = Policy()
INPUTS = inputs()
HELD = executed(bought("BTC", "0.5", "100"))
"""The copy: Sam holds 0.5 BTC that was copied from Ann."""


class Copy:
    """A copier and everything that happened to it; decisions are filled at once, as on paper."""

    def __init__(self, *history: Event, policy: Policy = USUAL) -> None:
        self.policy = policy
        self.events: list[Event] = [deposited("10000"), *history]
        self.restart()
        self._requests = 0

    def restart(self) -> None:
        """Fold everything again."""
        self.portfolio = Portfolio()
        for event in self.events:
            portfolios.evolve(self.portfolio, event)

    def decides(
        self, request: ExecutionRequested, *, ms: int = 1000, inputs: DecisionInputs = INPUTS
    ) -> tuple[CopyDecided, tuple[ExitOwed | ExitEnded, ...]]:
        """The decision about a request at a time, with the paper fills folded, and what it changes of what is owed."""
        self._requests += 1
        request = structs.replace(request, request_id=f"req-{self._requests}")
        key = (request.subscription_id, (request.venue.value, request.asset))
        owed = self.portfolio.exits.get(key)
        decision = decide(self.portfolio, request, self.policy, inputs, now=at(ms))
        events: list[Event] = [decision]
        if decision.decision is Decision.EXECUTE:
            position = self.portfolio.positions.get(key[1], Position())
            copied = portfolios.part_of(self.portfolio, *key).share_micros
            events += fill_on_paper(decision, position, copied, self.policy, now=at(ms))
        changes = exits.follow(decision, request, owed, self.policy, now=at(ms))
        self.happened(*events, *changes)
        return decision, changes

    def happened(self, *events: Event) -> None:
        """Fold events of this copier."""
        self.events += events
        for event in events:
            portfolios.evolve(self.portfolio, event)

    @property
    def owed(self) -> ExitOwed:
        """The one exit that is owed."""
        (owed,) = self.portfolio.exits.values()
        return owed

    @property
    def held_micros(self) -> int:
        """Signed shares of everything copied."""
        holdings = self.portfolio.holdings.values()
        return sum(part.share_micros for holding in holdings for part in holding.parts.values())

    def tries(
        self,
        *,
        bids: tuple[Level, ...] = BIDS,
        asks: tuple[Level, ...] = ASKS,
        inputs: DecisionInputs = INPUTS,
        **changes: Any,
    ) -> tuple[CopyDecided, tuple[ExitOwed | ExitEnded, ...]]:
        """The next try of what is owed, when it is due, at this book."""
        owed = self.owed
        ms = (owed.due_at - at(0)) // 1_000_000
        return self.decides(again(owed, bids=bids, asks=asks, **changes), ms=ms, inputs=inputs)


def again(
    owed: ExitOwed, *, bids: tuple[Level, ...] = BIDS, asks: tuple[Level, ...] = ASKS, **changes: Any
) -> ExecutionRequested:
    """The request of the next try of what is owed, at a book on Hyperliquid."""
    usual = requested(before="1", after="0", bids=bids, asks=asks)
    assert usual.quote is not None
    taken = bids if owed.trade_side.sign < 0 else asks
    tried = structs.replace(
        usual,
        group_id=owed.group_id,
        action=owed.action,
        trade_side=owed.trade_side,
        before_micros=0,
        after_micros=0,
        notional_micros=0,
        price_micros=owed.price_micros,
        event_time=owed.event_time,
        detect_time=owed.detect_time,
        quote=structs.replace(usual.quote, levels=taken, captured_at=owed.due_at),
        exit=ExitTry(owed.exit_id, owed.tries + 1),
    )
    return structs.replace(tried, **changes)


CLOSE = requested(before="1", after="0")
AWAY = requested(before="1", after="0", bids=((99_850_000, 50_000_000),), asks=((99_950_000, 50_000_000),))
"""Ann closes at 100, and the best bid is 15 bps below."""
assert CLOSE.action is Action.CLOSE
