"""The commit of a lane: outputs and checkpoint in one atomic batch that expects the lane's last checkpoint.

All or nothing. When another instance has committed for the lane in the meantime, the server refuses the batch: the
checkpoint is the fencing token. An append without an answer is neither done nor failed; the checkpoint that is stored
then decides.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from streams import metrics, subjects
from streams.append import MAX_BATCH, ExpectedVersion, Record, append
from streams.connection import Connection
from streams.envelope import Codec, nanoseconds
from streams.errors import ConflictError, UnavailableError, UnknownOutcomeError
from streams.processing import checkpoint as checkpoints
from streams.processing.checkpoint import Checkpoint, StoredCheckpoint
from streams.processing.stage import Output
from streams.retry import RetryPolicy
from streams.subjects import Lane
from streams.topology import Stream

log = structlog.get_logger()

INSTANCE = f"{os.getpid():x}-{os.urandom(4).hex()}"
"""This process, in leases and checkpoints."""

_TAKEOVERS = 5
_UNKNOWN = RetryPolicy(first_delay=0.05, longest_delay=2.0)


class Outcome(NamedTuple):
    """What one input commit led to, or a tick, an effect or a retried dead letter, whose `sequence` is 0.

    `done` of the outputs are stored already. `retry` is the sequence of the retry in DEAD. `config_sequence` is how far
    CONFIG was read when the input was handled: what is stored in parts is handled again as of then. Each output names
    its cause.
    """

    sequence: int
    outputs: list[Output]
    done: int = 0
    retry: int = 0
    config_sequence: int = 0
    recorded: str = ""
    """When the input was recorded; empty for a tick, an effect and a retry."""


def messages(outputs: Sequence[Output]) -> list[list[Output]]:
    """Outputs as commits, in order: those in a row that share subject, correlation and cause are one message."""
    found: list[list[Output]] = []
    for output in outputs:
        if found and not output.begins:
            last = found[-1][-1]
            if (output.subject, output.correlation, output.cause) == (last.subject, last.correlation, last.cause):
                found[-1].append(output)
                continue
        found.append([output])
    return found


class FencedError(Exception):
    """Another instance committed for this lane: drop the state, load again."""


class Committer:
    """The write end of one lane. `reached` is the last checkpoint known to be stored, at `sequence`.

    A commit that meets an unavailable log is tried again until `stop` is set.
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
        *,
        stop: asyncio.Event | None = None,
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
        self._stop = stop or asyncio.Event()
        self.sequence = 0
        self.reached = Checkpoint(stage=stage, lane=lane.name, stream=reads.name, position=0)

    async def load(self) -> list[str]:
        """Take over from the lane's newest checkpoint, or from those of other lanes that had its partitions.

        Returns the names of the lanes that were superseded. Raises FencedError and HalfStoredError.
        """
        refused: ConflictError | None = None
        for _ in range(_TAKEOVERS):
            stored = await checkpoints.overlapping(self._connection, self._writes, self._subject, self._lane)
            own = next((each for each in stored if each.subject == self._subject), None)
            rivals = [each for each in stored if each is not own and not each.checkpoint.superseded]
            self.sequence = own.sequence if own else 0
            if own and not own.checkpoint.superseded and not rivals:
                self.reached = own.checkpoint
                return []
            try:
                if stored:
                    await self._take_over(stored, rivals)
                return [each.checkpoint.lane for each in rivals]
            except ConflictError as error:  # another lane of this layout superseded the same one
                refused = error
        raise FencedError(str(refused))

    async def _take_over(self, stored: list[StoredCheckpoint], rivals: list[StoredCheckpoint]) -> None:
        reached = checkpoints.merged(replace(self.reached, commit=self._next_commit()), self._lane, stored)
        now = self._clock()
        records = [
            Record(
                rival.subject,
                # Under this commit's id: a rival that waits for an answer must not take it for a commit of its own.
                checkpoints.encode(replace(rival.checkpoint, superseded=True, commit=reached.commit), now),
                expected=rival.sequence,
            )
            for rival in rivals
        ]
        records.append(Record(self._subject, checkpoints.encode(reached, now), expected=self.sequence))
        self.sequence, self.reached = (await append(self._connection, records)).last, reached
        self._log.info(
            "lane.taken_over",
            of=sorted({each.checkpoint.lane for each in stored}),
            position=reached.position,
            partitions_ahead=len(reached.ahead),
        )

    async def confirm(self) -> None:
        """Raises FencedError when another instance has committed for this lane."""
        sequence, _ = await checkpoints.load(self._connection, self._writes, self._subject)
        if sequence != self.sequence:
            raise FencedError(f"{self._subject} is at {sequence}, not at {self.sequence}")

    def _next_commit(self) -> str:
        self._commits += 1
        return f"{self._stage}-{self._lane.name}-{self._writer}-{self._commits}"

    async def commit(
        self, outcomes: list[Outcome], config_sequence: int, on_stored: Callable[[Output, int], None]
    ) -> None:
        """Store every output in order, in as few atomic batches as fit, each with its checkpoint.

        `on_stored` gets each output with the sequence of its message. Raises FencedError.
        """
        limit = MAX_BATCH - 1  # the checkpoint is a message of the batch too
        chosen: list[list[Output]] = []
        position, retried = self.reached.position, self.reached.retried

        async def store(partial: Outcome | None = None, done: int = 0) -> None:
            before = self.reached
            # A tick or an effect may come between the parts of an event: they are still to be finished.
            part = (before.part_of, before.parts_done) if position == before.position else (0, 0)
            retry = (before.retry_of, before.retry_done) if retried == before.retried else (0, 0)
            config = before.config_sequence if part[0] or retry[0] else config_sequence
            if partial is not None and (partial.retry or partial.sequence):
                config = partial.config_sequence
                if partial.retry:
                    retry = (partial.retry, done)
                else:
                    part = (partial.sequence, done)
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

        for outcome in outcomes:
            waiting = messages(outcome.outputs[outcome.done :])
            if chosen and len(chosen) + len(waiting) > limit:
                await store()
            done = outcome.done
            while len(waiting) > limit:
                part, waiting = waiting[:limit], waiting[limit:]
                done += sum(map(len, part))
                chosen += part
                await store(outcome, done)
            chosen += waiting
            position = outcome.sequence or position
            retried = outcome.retry or retried
        await store()
        oldest = min((outcome.recorded for outcome in outcomes if outcome.recorded and outcome.outputs), default="")
        if oldest:
            metrics.STAGE_SECONDS.labels(self._stage).observe(max(0, self._clock() - nanoseconds(oldest)) / 1e9)

    async def _store(
        self, chosen: list[list[Output]], reached: Checkpoint, on_stored: Callable[[Output, int], None]
    ) -> None:
        now = self._clock()
        encode = self._codec.encode_commit
        records = [
            Record(
                message[0].subject,
                encode(
                    [(output.id, output.event) for output in message],
                    source=self._source,
                    time_ns=now,
                    correlation=message[0].correlation,
                    causation=message[0].cause,
                ),
            )
            for message in chosen
        ]
        records.append(Record(self._subject, checkpoints.encode(reached, now)))
        with metrics.COMMIT_SECONDS.labels(self._stage).time():
            end = await self._settle(records, reached)
        self.sequence, self.reached = end, reached
        metrics.WRITTEN.labels(self._stage).inc(sum(map(len, chosen)))
        for sequence, message in enumerate(chosen, end - len(chosen)):
            for output in message:
                on_stored(output, sequence)

    async def _settle(self, records: list[Record], reached: Checkpoint) -> int:
        """Append until it is certain what happened; the sequence of the checkpoint, or FencedError."""
        backoff = _UNKNOWN.start()
        while True:
            try:
                landed = await append(self._connection, records, ExpectedVersion(self._subject, self.sequence))
                return landed.last
            except ConflictError as error:
                why: Exception = error
            except (UnknownOutcomeError, UnavailableError) as error:
                why = error
                self._log.warning("commit.unknown", error=str(error))
                if self._stop.is_set():
                    raise
                await backoff.sleep()
            try:
                sequence, found = await checkpoints.load(self._connection, self._writes, self._subject)
            except UnavailableError:
                continue
            if found is not None and found.commit == reached.commit:
                return sequence
            if sequence != self.sequence:
                raise FencedError(str(why)) from why
