"""The commit of a lane: outputs and checkpoint in one atomic batch, guarded by the lane's last checkpoint.

All or nothing. Whoever committed for this lane in the meantime makes the server refuse ours: that is the fence. An
append without an answer is neither done nor failed; what then stands on the checkpoint's subject decides.
"""

import asyncio
import os
from collections.abc import Callable
from typing import NamedTuple

import structlog

from streams import checkpoint as checkpoints
from streams import metrics, subjects
from streams.append import MAX_BATCH, Guard, Record, append
from streams.checkpoint import Checkpoint
from streams.connection import Connection
from streams.envelope import Codec
from streams.errors import ConflictError, UnavailableError, UnknownOutcomeError
from streams.stage import Output
from streams.subjects import Lane
from streams.topology import Stream

log = structlog.get_logger()

INSTANCE = f"{os.getpid():x}-{os.urandom(4).hex()}"
"""This process, in leases and checkpoints."""


class Step(NamedTuple):
    """What one input event (or the clock, a courier or a retry, with sequence 0) led to; `done` outputs of it are
    stored already."""

    sequence: int
    outputs: list[Output]
    done: int = 0


class FencedError(Exception):
    """Somebody else committed for this lane: drop the state, load again."""


class Committer:
    """The write end of one lane. `reached` is the last checkpoint known to stand in the log, at `guard`."""

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
        self.reached = Checkpoint(stage=stage, lane=lane.name, stream=reads.name, position=0)

    async def load(self) -> None:
        """Take over from the newest checkpoint in the log."""
        self.guard, found = await checkpoints.load(self._connection, self._writes, self._subject)
        if found is not None:
            self.reached = found

    async def commit(
        self,
        steps: list[Step],
        config_sequence: int,
        retried: int,
        on_stored: Callable[[Output, int], None],
    ) -> None:
        """Store every output in order, in as few atomic batches as fit, each with its checkpoint.

        `on_stored` gets each output with its sequence. Raises FencedError.
        """
        room = MAX_BATCH - 1
        chosen: list[tuple[Output, int]] = []
        position = self.reached.position

        async def store(
            last: int, part_of: int = 0, parts_done: int = 0, of_retries: int = self.reached.retried
        ) -> None:
            if not part_of and last == self.reached.position:
                # A tick or an outcome came between the parts of an event: they are still to be finished.
                part_of, parts_done = self.reached.part_of, self.reached.parts_done
            self._commits += 1
            reached = Checkpoint(
                stage=self._stage,
                lane=self._lane.name,
                stream=self._reads,
                position=last,
                part_of=part_of,
                parts_done=parts_done,
                retried=of_retries,
                config_sequence=config_sequence,
                commit=f"{self._stage}-{self._lane.name}-{self._writer}-{self._commits}",
            )
            await self._store(chosen, reached, on_stored)

        for step in steps:
            waiting = step.outputs[step.done :]
            if chosen and len(chosen) + len(waiting) > room:
                await store(position)
                chosen = []
            done = step.done
            while len(waiting) > room:
                part, waiting = waiting[:room], waiting[room:]
                done += len(part)
                chosen = [(output, step.sequence) for output in part]
                await store(position, step.sequence, done)
                chosen = []
            chosen += [(output, step.sequence) for output in waiting]
            position = step.sequence or position
        # Retries count as done only with the last batch, which holds or follows all that they led to.
        await store(position, of_retries=retried)

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
                landed = await append(self._connection, records, Guard(self._subject, self.guard))
                return landed.last
            except ConflictError as error:
                why: Exception = error
            except (UnknownOutcomeError, UnavailableError) as error:
                why = error
                self._log.warning("commit.unknown", error=str(error))
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
