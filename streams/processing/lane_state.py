"""The state of a lane in memory, and up to which sequence of the output stream it was folded."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import structlog

from streams.envelope import Codec
from streams.errors import UnprocessableError
from streams.processing.stage import Output, Stage
from streams.reader import Stored
from streams.subjects import Lane

log = structlog.get_logger()

S = TypeVar("S")


class LaneState(Generic[S]):
    """`value` is the stage's own state, folded in place.

    `sequence` is the last one of the output stream that a replay, or following the stream, has reached; `stored` is
    the sequence of the lane's own last output. `folded` counts events since the last snapshot.
    """

    def __init__(self, codec: Codec, stage: Stage[S], lane: Lane, value: S, *, sequence: int, stored: int) -> None:
        self._codec = codec
        self._stage = stage
        self._log = log.bind(stage=stage.name, lane=lane.name)
        self.value = value
        self.sequence = sequence
        self.stored = stored
        self.folded = 0
        self._failures: list[tuple[Stored, int, str]] = []
        self._calls: list[tuple[str, Exception]] = []

    def take_failures(self) -> list[tuple[Stored, int, str]]:
        """The stored events that could not be folded since the last call: message, place in it, reason."""
        taken, self._failures = self._failures, []
        return taken

    def take_calls(self) -> list[tuple[str, Exception]]:
        """What else the stage failed to do since the last call, and why."""
        taken, self._calls = self._calls, []
        return taken

    def replay(self, batch: Sequence[Stored]) -> None:
        """Fold every event of a batch of the output stream."""
        for stored in batch:
            self._evolve_stored(stored, None)
        self.sequence = max(self.sequence, batch[-1].sequence)

    def follow(self, batch: Sequence[Stored]) -> None:
        """Fold the events of a batch that other stages wrote and that belong to the state."""
        for stored in batch:
            self._evolve_stored(stored, self._stage.follows)
        self.sequence = batch[-1].sequence

    def evolve(self, outputs: Sequence[Output]) -> None:
        """Fold outputs that are not stored yet."""
        for output in outputs:
            self._stage.evolve(self.value, output.event, 0)
        self.folded += len(outputs)

    def on_stored(self, output: Output, sequence: int) -> None:
        """An output that was folded already is stored now."""
        self.stored = sequence
        try:
            self._stage.stored(self.value, output, sequence)
        except Exception as error:
            self._log.exception("stored.failed", output=output.id)
            self._calls.append(("noting what is stored", error))

    def _evolve_stored(self, stored: Stored, types: frozenset[str] | None) -> None:
        stream = self._stage.writes.name
        try:
            events = self._codec.decode(stream, stored.sequence, stored.subject, stored.payload, types)
        except UnprocessableError as error:
            # No stage wrote it, for a stage writes only what the codec reads: it is no part of the state.
            self._log.error("state.unreadable", at=f"{stream}:{stored.sequence}", error=str(error))
            return
        for event in events:
            try:
                self._stage.evolve(self.value, event.data, stored.sequence)
            except Exception as error:
                self._log.exception("state.not_folded", at=event.at)
                self._failures.append((stored, event.index, f"{type(error).__name__}: {error}"))
        self.folded += len(events)
