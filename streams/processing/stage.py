"""What a stage is: a pure fold with a name, an input and an output. The processor does everything else."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from msgspec import Struct

from streams.envelope import Recorded
from streams.subjects import Lane
from streams.topology import Stream

S = TypeVar("S")


class Output(NamedTuple):
    """An event to store: its subject, its deterministic id, what it belongs to and what caused it.

    `cause` is the address of an event; None means the input event being handled. Outputs in a row with the same
    subject, correlation and cause are stored as one commit; `begins` starts another one.
    """

    subject: str
    event: Struct
    id: str
    correlation: str
    cause: str | None = None
    begins: bool = False


class Stage(Generic[S]):
    """A stage reads one stream and writes one stream. Subclasses fill in the fold; state is folded in place.

    `handle` sees the state as of all earlier events and returns outputs; `evolve` folds each output, at once when
    it is made and again at every start, when the stored outputs are replayed. So state is a function of the log.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    reads: ClassVar[Stream]
    writes: ClassVar[Stream]
    input_patterns: ClassVar[tuple[str, ...]]
    """Subjects read, with {} for the partition, e.g. 'signals.{}.>'."""
    state_patterns: ClassVar[tuple[str, ...]] = ()
    """Subjects of the output stream whose replay is the state; empty for a stage without state."""
    input_types: ClassVar[frozenset[str]] = frozenset()
    """Stored names of the events that the stage handles; all others on its subjects are passed over."""
    follows: ClassVar[frozenset[str]] = frozenset()
    """Stored names of events that another stage writes into the output stream and that belong to the state."""

    schema: ClassVar[int] = 0
    """Version of the state's serialization in snapshots; 0 = never saved. Raise it with each change."""
    saved_in_parts: ClassVar[bool] = False
    """The state is saved by `part_of`, `dump_part` and `restore_parts`, only what has changed, instead of as a whole by
    `dump` and `restore`: for states that take long to encode."""

    def initial(self, lane: Lane) -> S:
        raise NotImplementedError

    def handle(self, state: S, event: Recorded, now: int) -> Iterable[Output]:
        """The outputs of one input event. Raises UnprocessableError for what cannot be handled."""
        raise NotImplementedError

    def dropped(self, state: S, event: Recorded, now: int) -> Iterable[Output]:
        """What completes an input event that `handle` could not handle, once an operator has dropped its dead letter:
        nothing waits for it any more."""
        return ()

    def evolve(self, state: S, event: Any, sequence: int) -> None:
        """Fold one event in place; `sequence` is that of its commit, 0 for an output that is not stored yet."""

    def stored(self, state: S, output: Output, sequence: int) -> None:
        """Called once an output is stored, with the sequence of its commit."""

    def due(self, state: S) -> int | None:
        """When `tick` has to run next, in ns since the epoch; None for never."""
        return None

    def tick(self, state: S, now: int) -> Iterable[Output]:
        """What time alone leads to; each output names its cause."""
        return ()

    def intents(self, state: S) -> Mapping[str, Callable[[], Awaitable[list[Output]]]]:
        """Stored intents without an outcome: id -> the effect to run, which returns the outputs of the outcome."""
        return {}

    def dump(self, state: S) -> bytes:
        """The state as bytes, for a snapshot."""
        raise NotImplementedError

    def restore(self, payload: bytes, lane: Lane) -> S:
        """The inverse of `dump`. When it raises anything, the state is replayed instead."""
        raise NotImplementedError

    def part_of(self, subject: str) -> str:
        """The part of the state that the events of a subject of the output stream are folded into; 'saved_in_parts'."""
        raise NotImplementedError

    def dump_part(self, state: S, part: str) -> bytes:
        """One part of the state as bytes; called between two commits, and to take no longer than some milliseconds."""
        raise NotImplementedError

    def restore_parts(self, parts: Mapping[str, bytes], lane: Lane) -> S:
        """The state of which these are all parts. When it raises anything, the state is replayed instead."""
        raise NotImplementedError

    def config_sequence(self) -> int:
        """The CONFIG sequence up to which the stage has read; 0 when it does not follow CONFIG.

        A stage that names one overrides `config_reached` too.
        """
        return 0

    async def config_reached(self, sequence: int) -> None:
        """Wait until the stage has read CONFIG up to this sequence, which the lane's last owner had reached."""

    async def ready(self, events: list[Recorded]) -> None:
        """Wait until what the next events need from elsewhere, such as a CONFIG sequence, is there."""

    async def handle_again(self, state: S, event: Recorded, now: int, config_sequence: int) -> Iterable[Output]:
        """`handle` for an event whose outputs were stored in part: must return the same outputs as the first time."""
        return self.handle(state, event, now)
