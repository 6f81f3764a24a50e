"""Specs of domain rules: given these events, when this command is decided, then these events follow.

    given(PORTFOLIO, deposited("10000"), bought("BTC", "1", "100")).when(decide, request).then(like(CopyDecided, ...))

`again` decides the same command once more, in the state that its events led to: `.again().then_nothing()` proves that a
decision is idempotent. Ships with the code, so that rules written elsewhere can be specified the same way.
"""

from collections.abc import Callable, Iterable
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar

from domain.events import Event

S = TypeVar("S")
P = ParamSpec("P")
Decided = Event | Iterable[Event]


class Aggregate(NamedTuple, Generic[S]):
    """What a spec is about: the initial state, and how an event changes it."""

    initial: Callable[[], S]
    evolve: Callable[[S, Event], S]


class Given(Generic[S]):
    """The state that the events so far have led to."""

    def __init__(self, aggregate: Aggregate[S], state: S, events: Iterable[Event]) -> None:
        self._aggregate = aggregate
        for event in events:
            state = aggregate.evolve(state, event)
        self.state = state

    def when(self, decide: Callable[Concatenate[S, P], Decided], *args: P.args, **kwargs: P.kwargs) -> "Result[S]":
        """The events of `decide(state, *args, **kwargs)`, and the state after them."""

        def command(state: S) -> Decided:
            return decide(state, *args, **kwargs)

        return Result(self._aggregate, self.state, command)


class Result(Given[S]):
    """The events of a decision, and the state after them."""

    def __init__(self, aggregate: Aggregate[S], state: S, command: Callable[[S], Decided]) -> None:
        decided = command(state)
        self.events = (decided,) if isinstance(decided, Event) else tuple(decided)
        self._command = command
        super().__init__(aggregate, state, self.events)

    def then(self, *expected: object) -> Self:
        """The decision made exactly these events, in this order; raises AssertionError that shows both lists."""
        assert list(self.events) == list(expected), f"\nexpected {list(expected)}\n     got {list(self.events)}"
        return self

    def then_nothing(self) -> Self:
        return self.then()

    def again(self) -> "Result[S]":
        """The same command in the state after its own events."""
        return Result(self._aggregate, self.state, self._command)


def given(aggregate: Aggregate[S], *events: Event) -> Given[S]:
    """The state of an aggregate after these events."""
    return Given(aggregate, aggregate.initial(), events)


class like:  # noqa: N801 - reads as a word in a spec
    """Equal to every event of `kind` that has these fields; the others may be anything."""

    def __init__(self, kind: type[Event], **fields: Any) -> None:
        self.kind, self.fields = kind, fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self.kind) and all(getattr(other, name) == it for name, it in self.fields.items())

    def __repr__(self) -> str:
        return f"{self.kind.__name__}({', '.join(f'{name}={it!r}' for name, it in self.fields.items())}, ...)"
