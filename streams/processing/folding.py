"""Folding: what a lane's input, retried dead letters, outcomes of effects and ticks lead to.

Each of them changes the state at once and becomes an `Outcome` for the loop to commit. An event that cannot be handled
is stored in DEAD with the reason, and the lane goes on. So is one whose outputs cannot be folded: it has no outputs
then, and the lane loads its state again, because a part of it may have been folded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

import structlog

from streams import dead_letters, metrics
from streams.connection import Connection
from streams.dead_letters import TICK_PREFIX, dead_letter
from streams.envelope import Codec, Recorded, address
from streams.errors import UnprocessableError
from streams.processing.commit import Outcome
from streams.processing.loading import LoadedLane
from streams.processing.stage import Output, Stage
from streams.processing.waiting import wait_unless_stopped
from streams.reader import Stored
from streams.retry import Backoff, RetryPolicy, retry_forever
from streams.subjects import Lane, partition_of
from streams.topology import DEAD

log = structlog.get_logger()

S = TypeVar("S")

_SETTLE_SECONDS = 1.0
"""No tick runs for this long after a load: the stages in front start too, and what they still store belongs before
it."""


_TICK_RETRIES = RetryPolicy(first_delay=1.0, longest_delay=60.0)


class StateBrokenError(Exception):
    """Outputs could not be folded, and a part of them may be in the state: it has to be loaded again."""


class Folder(Generic[S]):
    """Folds what one loaded lane reads. `dead_lettered` is set when an event went to DEAD: the checkpoint must then
    move past it though the event has no output; the loop clears it.

    `unfoldable` has the ids of the dead letters of events whose outputs cannot be folded, over all loads of the lane.
    """

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        stage: Stage[S],
        lane: Lane,
        loaded: LoadedLane[S],
        clock: Callable[[], int],
        stop: asyncio.Event,
        unfoldable: set[str],
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._stage = stage
        self._committer = loaded.committer
        self._resumed = loaded.resumed
        self._state = loaded.state
        self._clock = clock
        self._stop = stop
        self._log = log.bind(stage=stage.name, lane=lane.name)
        self._partial_input = loaded.resumed.part_of
        self._lane = lane.name
        self._ticks_from = _now() + _SETTLE_SECONDS
        self._tick_backoff = Backoff(_TICK_RETRIES)
        self._intents_from = 0.0
        self._due_from = 0.0
        self._due_backoff = Backoff(_TICK_RETRIES)
        self._unfoldable = unfoldable
        self.dead_lettered = False

    @property
    def retries_wait(self) -> bool:
        """True while an input event's outputs are stored in part: its other outputs must find the state as it was."""
        return bool(self._partial_input)

    async def fold_input(self, batch: Sequence[Stored]) -> list[Outcome]:
        """One outcome per input commit, in order; what cannot be handled is dead-lettered and has no output."""
        stream = self._stage.reads.name
        commits = [[] if self._is_done(stored) else await self._decode(stream, stored) for stored in batch]
        await self._ready([event for events in commits for event in events])
        return [await self._fold_commit(stored, events) for stored, events in zip(batch, commits, strict=True)]

    async def fold_retries(self, requests: Sequence[Stored]) -> list[Outcome]:
        """Dead letters that operators retry: handled like input, with their own position in the checkpoint."""
        return [await self._fold_retry(request) for request in requests]

    async def fold_effects(self, results: Sequence[list[Output]]) -> list[Outcome]:
        """What effects came back with."""
        for outputs in results:
            await self._evolve_alone("outcome of an effect", outputs)
        return [Outcome(0, outputs) for outputs in results]

    async def intents(self) -> Mapping[str, Callable[[], Awaitable[list[Output]]]] | None:
        """The stage's open intents; None when it failed to name them, which is a dead letter, and for a while after."""
        if _now() < self._intents_from:
            return None
        try:
            found = self._stage.intents(self._state.value)
            self._intents_from = 0.0
            return found
        except Exception as error:
            self._log.exception("intents.failed")
            self._intents_from = _now() + _TICK_RETRIES.first_delay
            await self._dead_letter_call("listing the intents", error)
            return None

    async def report_failures(self) -> None:
        """Dead-letter what could not be folded of the events that are stored in the output stream."""
        for stored, index, error in self._state.take_failures():
            await self._dead_letter(self._stage.writes.name, stored, index, f"not folded into the state: {error}")
        for place, failure in self._state.take_calls():
            await self._dead_letter_call(place, failure)

    async def fold_tick(self) -> list[Outcome]:
        """What time alone leads to. A tick that fails is one dead letter for each kind of failure, and is tried again
        with backoff: the lane goes on with its input meanwhile."""
        if _now() < self._ticks_from:
            return []
        try:
            outputs = list(self._stage.tick(self._state.value, self._clock()))
        except Exception as error:
            self._log.exception("tick.failed")
            self._ticks_from = _now() + self._tick_backoff.next_delay()
            await self._dead_letter_call("a tick", error)
            return []
        await self._evolve_alone("a tick", outputs)
        self._tick_backoff.reset()
        return [Outcome(0, outputs)] if outputs else []

    async def seconds_until_tick(self) -> float | None:
        """How long the loop may wait for input before a tick is due, or the stage is to be asked again for its intents
        or for its next tick after a failure; None when none of these is."""
        due = await self._due()
        times = [] if due is None else [max(0.0, (due - self._clock()) / 1e9, self._ticks_from - _now())]
        times += [max(0.0, again - _now()) for again in (self._intents_from, self._due_from) if again]
        return min(times, default=None)

    async def _due(self) -> int | None:
        """When the stage wants its next tick; None when it wants none, or failed to name it, which is a dead letter.
        After a failure it is asked again with backoff."""
        if _now() < self._due_from:
            return None
        try:
            found = self._stage.due(self._state.value)
        except Exception as error:
            self._log.exception("due.failed")
            self._due_from = _now() + self._due_backoff.next_delay()
            await self._dead_letter_call("naming the next tick", error)
            return None
        self._due_from = 0.0
        self._due_backoff.reset()
        return found

    async def _fold_commit(self, stored: Stored, events: Sequence[Recorded]) -> Outcome:
        done, config, again = 0, self._stage.config_sequence(), None
        if stored.sequence == self._resumed.part_of:
            done, config = self._resumed.parts_done, self._resumed.config_sequence
            again = config
        outputs = await self._fold_events(stored, events, done, again_as_of=again)
        if stored.sequence >= self._partial_input:
            self._partial_input = 0
        recorded = events[0].time if events else ""
        return Outcome(stored.sequence, outputs, done, config_sequence=config, recorded=recorded)

    async def _fold_events(
        self,
        stored: Stored,
        events: Sequence[Recorded],
        done: int,
        suffix: str = "",
        *,
        again_as_of: int | None = None,
        dropped: bool = False,
    ) -> list[Output]:
        """The outputs of a commit's events, each handled with the outputs of those before it in the state. The first
        `done` outputs are stored, so they are in the state already."""
        outputs: list[Output] = []
        for event in events:
            made = await self._handle(stored, event, suffix, again_as_of=again_as_of, dropped=dropped)
            try:
                self._state.evolve(made[max(0, done - len(outputs)) :])
            except Exception as error:
                self._log.exception("outputs.not_folded", at=event.at)
                reason = f"its outputs cannot be folded: {type(error).__name__}: {error}"
                await self._dead_letter(event.stream, stored, event.index, reason, suffix)
                self._unfoldable.add(f"{event.at}{suffix}")
                raise StateBrokenError(reason) from error
            outputs += made
        return outputs

    async def _fold_retry(self, request: Stored) -> Outcome:
        nothing = Outcome(0, [], retry=request.sequence)
        reached = self._committer.reached
        if reached.ahead and request.sequence <= reached.reached(int(request.subject.rpartition(".")[2]))[1]:
            return nothing  # a lane of another layout ran it before this one took the partition over
        try:
            (decoded,) = self._codec.decode(DEAD.name, request.sequence, request.subject, request.payload)
            wanted: dead_letters.DeadLetterRetried | dead_letters.DeadLetterDropped = decoded.data
            stored = Stored(wanted.sequence, wanted.subject, dead_letters.payload_of(wanted))
        except (UnprocessableError, ValueError, AttributeError) as error:
            self._log.error("retry.unreadable", at=address(DEAD.name, request.sequence), error=str(error))
            return nothing
        suffix = f"~{request.sequence}"
        events = await self._decode(wanted.stream, stored, suffix)
        events = [event for event in events if wanted.index in (None, event.index)]
        if not events:
            return nothing
        await self._ready(events)
        done, config, again = 0, self._stage.config_sequence(), None
        if request.sequence == self._resumed.retry_of:
            done, config = self._resumed.retry_done, self._resumed.config_sequence
            again = config
        dropped = isinstance(wanted, dead_letters.DeadLetterDropped)
        outputs = await self._fold_events(stored, events, done, suffix, again_as_of=again, dropped=dropped)
        return Outcome(0, outputs, done, request.sequence, config)

    def _is_done(self, stored: Stored) -> bool:
        """True when a lane of another layout handled this message before this one took the partition over."""
        reached = self._committer.reached
        return bool(reached.ahead) and stored.sequence <= reached.reached(int(partition_of(stored.subject)))[0]

    async def _decode(self, stream: str, stored: Stored, suffix: str = "") -> list[Recorded]:
        """The events that the stage wants; none when the message cannot be read and was dead-lettered."""
        try:
            return self._codec.decode(stream, stored.sequence, stored.subject, stored.payload, self._stage.input_types)
        except UnprocessableError as error:
            await self._dead_letter(stream, stored, None, str(error), suffix)
            return []

    async def _ready(self, events: list[Recorded]) -> None:
        """Wait until the stage has what the events need. Raises StoppedError when the lane is stopped meanwhile."""

        def report() -> None:
            self._log.warning("input.waiting", at=events[-1].at, config=self._stage.config_sequence())

        await wait_unless_stopped(self._stage.ready(events), self._stop, report)

    async def _handle(
        self,
        stored: Stored,
        event: Recorded,
        suffix: str = "",
        *,
        again_as_of: int | None = None,
        dropped: bool = False,
    ) -> list[Output]:
        """The outputs of an event, each with its cause; none when it had to be dead-lettered. With `again_as_of`, a
        CONFIG sequence, some of them are stored already and the stage must return the same ones."""
        stage, state = self._stage, self._state.value
        if f"{event.at}{suffix}" in self._unfoldable:
            self.dead_lettered = True
            return []
        try:
            if dropped:
                outputs = list(stage.dropped(state, event, self._clock()))
            elif again_as_of is not None:
                outputs = list(await stage.handle_again(state, event, self._clock(), again_as_of))
            else:
                outputs = list(stage.handle(state, event, self._clock()))
            return [output if output.cause else output._replace(cause=event.at) for output in outputs]
        except UnprocessableError as error:
            await self._dead_letter(event.stream, stored, event.index, str(error), suffix)
        except Exception as error:
            self._log.exception("event.failed", at=event.at)
            await self._dead_letter(event.stream, stored, event.index, f"{type(error).__name__}: {error}", suffix)
        return []

    async def _evolve_alone(self, what: str, outputs: Sequence[Output]) -> None:
        """Fold outputs that belong to no input; what cannot be folded is a dead letter, and not stored."""
        try:
            self._state.evolve(outputs)
        except Exception as error:
            self._log.exception("outputs.not_folded", of=what)
            await self._dead_letter_call(f"folding the outputs of {what}", error)
            raise StateBrokenError(f"{type(error).__name__}: {error}") from error

    async def _dead_letter_call(self, what: str, error: Exception) -> None:
        """One dead letter for each kind of failure of what a stage does without an input."""
        reason = f"{type(error).__name__}: {error}"
        kind = f"{self._stage.name}:tick:{self._lane}:{blake2b(f'{what}:{reason}'.encode(), digest_size=8).hexdigest()}"
        await retry_forever(
            lambda: dead_letter(
                self._connection,
                stage=self._stage.name,
                stream=self._stage.reads.name,
                sequence=0,
                subject=f"{TICK_PREFIX}{self._lane}",
                payload=b"",
                error=f"{what} of lane {self._lane} failed: {reason}; see the log of the stage for where",
                now=self._clock(),
                dead_id=kind,
            ),
            self._stop,
        )
        metrics.DEAD.labels(self._stage.name).inc()

    async def _dead_letter(self, stream: str, stored: Stored, index: int | None, error: str, suffix: str = "") -> None:
        origin = dead_letters.origin_of(stream, stored.sequence, index)
        self._log.warning("event.dead", at=origin, error=error)
        await retry_forever(
            lambda: dead_letter(
                self._connection,
                stage=self._stage.name,
                stream=stream,
                sequence=stored.sequence,
                subject=stored.subject,
                payload=stored.payload,
                error=error,
                now=self._clock(),
                dead_id=f"{self._stage.name}:{origin}{suffix}",
                index=index,
            ),
            self._stop,
        )
        metrics.DEAD.labels(self._stage.name).inc()
        self.dead_lettered = True


def _now() -> float:
    return asyncio.get_running_loop().time()
