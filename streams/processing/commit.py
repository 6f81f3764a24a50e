"""The commit of a lane: outputs and checkpoint in one atomic batch, guarded by the lane's last checkpoint.

All or nothing. Whoever committed for this lane in the meantime makes the server refuse ours: that is the fence. An
append without an answer is neither done nor failed; what then stands on the checkpoint's subject decides.
"""

import asyncio
import os
from collections.abc import Callable
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from streams import metrics, subjects
from streams.append import MAX_BATCH, ExpectedVersion, Record, append
from streams.connection import Connection
from streams.envelope import Codec
from streams.errors import ConflictError, UnavailableError, UnknownOutcomeError
from streams.processing import checkpoint as checkpoints
from streams.processing.checkpoint import Checkpoint, StoredCheckpoint
from streams.processing.stage import Output
from streams.subjects import Lane
from streams.topology import Stream

log = structlog.get_logger()

INSTANCE = f"{os.getpid():x}-{os.urandom(4).hex()}"
"""This process, in leases and checkpoints."""

_TAKEOVERS = 5


class Outcome(NamedTuple):
    """What one input event (or the clock, a courier or a retry, with sequence 0) led to; `done` outputs of it are
    stored already. `retry` is the request's sequence in DEAD, `config_sequence` how far CONFIG was when it was handled:
    what is stored in parts is handled again as of then."""

    sequence: int
    outputs: list[Output]
    done: int = 0
    retry: int = 0
    config_sequence: int = 0


class FencedError(Exception):
    """Somebody else committed for this lane: drop the state, load again."""


class Committer:
    """The write end of one lane. `reached` is the last checkpoint known to stand in the log, at `guard`.

    A commit waits for a log that is unavailable as long as it is `patient`; whoever stops makes it impatient.
    """

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        stage: str,
        lane: Lane,
        reads: Stream,
        writes: Stream,
        clock: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._stage = stage
        self._lane = lane
        self._reads = reads.name
        self._writes = writes.name
        self._clock = clock
        self._subject = subjects.checkpoint(writes.name, stage, lane)
        self._source = f"vibe/{stage}"
        self._writer = f"{INSTANCE}-{os.urandom(4).hex()}"
        self._commits = 0
        self._log = log.bind(stage=stage, lane=lane.name)
        self.guard = 0
        self.patient = True
        self.reached = Checkpoint(stage=stage, lane=lane.name, stream=reads.name, position=0)

    async def load(self) -> list[str]:
        """Take over from the newest checkpoint in the log, or from those of other lanes that had our partitions;
        names of the lanes that were superseded. Raises FencedError and HalfStoredError."""
        refused: ConflictError | None = None
        for _ in range(_TAKEOVERS):
            standing = await checkpoints.overlapping(self._connection, self._writes, self._subject, self._lane)
            own = next((each for each in standing if each.subject == self._subject), None)
            rivals = [each for each in standing if each is not own and not each.checkpoint.superseded]
            self.guard = own.sequence if own else 0
            if own and not own.checkpoint.superseded and not rivals:
                self.reached = own.checkpoint
                return []
            try:
                if standing:
                    await self._take_over(standing, rivals)
                return [each.checkpoint.lane for each in rivals]
            except ConflictError as error:  # another lane of ours superseded the same one
                refused = error
        raise FencedError(str(refused))

    async def _take_over(self, standing: list[StoredCheckpoint], rivals: list[StoredCheckpoint]) -> None:
        reached = checkpoints.merged(replace(self.reached, commit=self._next_commit()), self._lane, standing)
        now = self._clock()
        records = [
            Record(
                rival.subject,
                # Under an id of ours: nobody who waits for an answer may take it for a commit of their own.
                checkpoints.encode(replace(rival.checkpoint, superseded=True, commit=reached.commit), now),
                expected=rival.sequence,
            )
            for rival in rivals
        ]
        records.append(Record(self._subject, checkpoints.encode(reached, now), expected=self.guard))
        self.guard, self.reached = (await append(self._connection, records)).last, reached
        self._log.info(
            "lane.taken_over",
            of=sorted({each.checkpoint.lane for each in standing}),
            position=reached.position,
            partitions_ahead=len(reached.ahead),
        )

    async def confirm(self) -> None:
        """Raises FencedError when somebody else has committed for this lane."""
        sequence, _ = await checkpoints.load(self._connection, self._writes, self._subject)
        if sequence != self.guard:
            raise FencedError(f"{self._subject} is at {sequence}, not at {self.guard}")

    def _next_commit(self) -> str:
        self._commits += 1
        return f"{self._stage}-{self._lane.name}-{self._writer}-{self._commits}"

    async def commit(
        self, steps: list[Outcome], config_sequence: int, on_stored: Callable[[Output, int], None]
    ) -> None:
        """Store every output in order, in as few atomic batches as fit, each with its checkpoint.

        `on_stored` gets each output with its sequence. Raises FencedError.
        """
        room = MAX_BATCH - 1
        chosen: list[tuple[Output, int]] = []
        position, retried = self.reached.position, self.reached.retried

        async def store(half: Outcome | None = None, done: int = 0) -> None:
            before = self.reached
            # A tick or an outcome may come between the parts of an event: they are still to be finished.
            part = (before.part_of, before.parts_done) if position == before.position else (0, 0)
            retry = (before.retry_of, before.retry_done) if retried == before.retried else (0, 0)
            config = before.config_sequence if part[0] or retry[0] else config_sequence
            if half is not None:
                config = half.config_sequence
                if half.retry:
                    retry = (half.retry, done)
                elif half.sequence:
                    part = (half.sequence, done)
            reached = Checkpoint(
                stage=self._stage,
                lane=self._lane.name,
                stream=self._reads,
                position=position,
                part_of=part[0],
                parts_done=part[1],
                retried=retried,
                config_sequence=config,
                commit=self._next_commit(),
                retry_of=retry[0],
                retry_done=retry[1],
                ahead=before.still_ahead(position, retried),
            )
            await self._store(chosen, reached, on_stored)
            chosen.clear()

        for step in steps:
            waiting = step.outputs[step.done :]
            if chosen and len(chosen) + len(waiting) > room:
                await store()
            done = step.done
            while len(waiting) > room:
                part, waiting = waiting[:room], waiting[room:]
                done += len(part)
                chosen += [(output, step.sequence) for output in part]
                await store(step, done)
            chosen += [(output, step.sequence) for output in waiting]
            position = step.sequence or position
            retried = step.retry or retried
        await store()

    async def _store(
        self, chosen: list[tuple[Output, int]], reached: Checkpoint, on_stored: Callable[[Output, int], None]
    ) -> None:
        now = self._clock()
        encode = self._codec.encode
        records = [
            Record(
                output.subject,
                encode(
                    output.event,
                    id=output.id,
                    source=self._source,
                    time_ns=now,
                    correlation=output.correlation,
                    causation=output.cause or f"{self._reads}:{sequence}",
                ),
            )
            for output, sequence in chosen
        ]
        records.append(Record(self._subject, checkpoints.encode(reached, now)))
        with metrics.COMMIT_SECONDS.labels(self._stage).time():
            end = await self._settle(records, reached)
        self.guard, self.reached = end, reached
        metrics.WRITTEN.labels(self._stage).inc(len(chosen))
        for offset, (output, _) in enumerate(chosen):
            on_stored(output, end - len(chosen) + offset)

    async def _settle(self, records: list[Record], reached: Checkpoint) -> int:
        """Append until it is certain what happened; the sequence of our checkpoint, or FencedError."""
        delay = 0.05
        while True:
            try:
                landed = await append(self._connection, records, ExpectedVersion(self._subject, self.guard))
                return landed.last
            except ConflictError as error:
                why: Exception = error
            except (UnknownOutcomeError, UnavailableError) as error:
                why = error
                self._log.warning("commit.unknown", error=str(error))
                if not self.patient:
                    raise
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
            try:
                sequence, found = await checkpoints.load(self._connection, self._writes, self._subject)
            except UnavailableError:
                continue
            if found is not None and found.commit == reached.commit:
                return sequence
            if sequence != self.guard:
                raise FencedError(str(why)) from why
