"""Specs of rules, to be read aloud: given these events, when this is decided, then these events follow.

    given(PORTFOLIO, deposited("10000"), bought("BTC", "1", "100")).when(decide, request).then(like(CopyDecided, ...))

`again` takes the same decision once more, in the state that its events have led to.
"""

from collections.abc import Callable, Iterable
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar

from domain.events import Event

S = TypeVar("S")
P = ParamSpec("P")
Decided = Event | Iterable[Event]


class Aggregate(NamedTuple, Generic[S]):
    """What a spec is about: how its state begins and how an event changes it."""

    initial: Callable[[], S]
    evolve: Callable[[S, Event], S]


class Given(Generic[S]):
    """A state, as the events so far have left it."""

    def __init__(self, aggregate: Aggregate[S], state: S, events: Iterable[Event]) -> None:
        self._aggregate = aggregate
        for event in events:
            state = aggregate.evolve(state, event)
        self.state = state

    def when(self, decide: Callable[Concatenate[S, P], Decided], *args: P.args, **kwargs: P.kwargs) -> "Outcome[S]":
        def command(state: S) -> Decided:
            return decide(state, *args, **kwargs)

        return Outcome(self._aggregate, self.state, command)


class Outcome(Given[S]):
    """What a decision led to: its events, and the state after them."""

    def __init__(self, aggregate: Aggregate[S], state: S, command: Callable[[S], Decided]) -> None:
        decided = command(state)
        self.events = (decided,) if isinstance(decided, Event) else tuple(decided)
        self._command = command
        super().__init__(aggregate, state, self.events)

    def then(self, *expected: object) -> Self:
        assert list(self.events) == list(expected), f"\nexpected {list(expected)}\n     got {list(self.events)}"
        return self

    def then_nothing(self) -> Self:
        return self.then()

    def again(self) -> "Outcome[S]":
        return Outcome(self._aggregate, self.state, self._command)


def given(aggregate: Aggregate[S], *events: Event) -> Given[S]:
    return Given(aggregate, aggregate.initial(), events)


class like:  # noqa: N801 - reads as a word in a spec
    """Equal to every event of `kind` that has these fields; the others may be anything."""

    def __init__(self, kind: type[Event], **fields: Any) -> None:
        self.kind, self.fields = kind, fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self.kind) and all(getattr(other, name) == it for name, it in self.fields.items())

    def __repr__(self) -> str:
        return f"{self.kind.__name__}({', '.join(f'{name}={it!r}' for name, it in self.fields.items())}, ...)"
