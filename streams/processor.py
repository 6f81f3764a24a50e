"""The one loop that runs every stage: read, fold, one atomic commit with a guarded checkpoint, acknowledge.

A crash between any two steps repeats nothing and loses nothing: the last checkpoint says where to resume, and
outputs and checkpoint land together or not at all. A second instance that wakes up with an old checkpoint has its
commit refused by the server (the fence), drops its state and loads again.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

import structlog

from streams import checkpoint as checkpoints
from streams import dead, metrics, subjects
from streams.append import MAX_BATCH, Guard, Record, append
from streams.checkpoint import Checkpoint
from streams.connection import Connection
from streams.envelope import Codec, Recorded, peek_type
from streams.errors import ConflictError, LogError, UnavailableError, UnknownOutcomeError, UnprocessableError
from streams.read import Feed, Stored, history
from streams.stage import Output, Stage
from streams.subjects import Lane

log = structlog.get_logger()

S = TypeVar("S")

INSTANCE = f"{os.getpid():x}-{os.urandom(4).hex()}"
_READ = 250
_IDLE_CHECKPOINT = 10_000
"""Input events without any output after which the checkpoint is moved all the same."""


class Step(NamedTuple):
    """What one input event (or the clock, with sequence 0) led to."""

    sequence: int
    outputs: list[Output]
    done: int = 0


class FencedError(Exception):
    """Somebody else committed for this lane: drop the state, load again."""


class LaneWorker(Generic[S]):
    """Runs one stage over one lane until told to stop."""

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        stage: Stage[S],
        lane: Lane,
        clock: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._stage = stage
        self._lane = lane
        self._clock = clock
        self._subject = subjects.checkpoint(stage.writes.name, stage.name, lane)
        self._source = f"vibe/{stage.name}"
        self._log = log.bind(stage=stage.name, lane=lane.name)
        self._wake = asyncio.Event()
        self._outcomes: list[list[Output]] = []
        self._couriers: dict[str, asyncio.Task[None]] = {}
        self._commits = 0
        self._buried = False
        self.loaded = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Load and work, again and again, until `stop` is set. Errors of the log are waited out, never fatal."""
        stopper = asyncio.create_task(self._wake_on(stop))
        delay = 0.1
        try:
            while not stop.is_set():
                try:
                    await self._load()
                    self.loaded.set()
                    delay = 0.1
                    await self._work(stop)
                except FencedError as error:
                    metrics.FENCED.labels(self._stage.name).inc()
                    self._log.warning("lane.fenced", why=str(error))
                except LogError as error:
                    self._log.warning("lane.retry", error=str(error), in_seconds=delay)
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, 5.0)
                finally:
                    await self._close()
        finally:
            stopper.cancel()

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    # --- load ----------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        stage, lane = self._stage, self._lane
        self._guard, found = await checkpoints.load(self._connection, stage.writes.name, self._subject)
        self._checkpoint = found or Checkpoint(stage=stage.name, lane=lane.name, stream=stage.reads.name, position=0)
        self._position = self._checkpoint.position
        self._state = stage.initial(lane)
        self._outcomes.clear()
        replayed = 0
        end = self._guard
        if stage.state_patterns:
            async for batch in history(self._connection, stage.writes.name, lane.filters(*stage.state_patterns)):
                for stored in batch:
                    event = self._codec.decode(stage.writes.name, stored.sequence, stored.subject, stored.payload)
                    stage.evolve(self._state, event.data, stored.sequence)
                replayed += len(batch)
                end = max(end, batch[-1].sequence)
        self._follow: Feed | None = None
        if stage.follows:
            self._follow = Feed(
                self._connection,
                stage.writes.name,
                lane.filters(*stage.state_patterns),
                description=f"{stage.name} {lane.name} follows its own stream",
                wake=self._wake,
            )
            await self._follow.open(end)
        self._feed = Feed(
            self._connection,
            stage.reads.name,
            lane.filters(*stage.input_patterns),
            name=f"{stage.name}-{lane.name}",
            description=stage.description,
            metadata={"stage": stage.name, "lane": lane.name, "writes": stage.writes.name},
            batch=2 * _READ,
            wake=self._wake,
        )
        await self._feed.open(self._position)
        self._log.info("lane.loaded", position=self._position, replayed=replayed, waiting=self._feed.pending)

    async def _close(self) -> None:
        for courier in self._couriers.values():
            courier.cancel()
        await asyncio.gather(*self._couriers.values(), return_exceptions=True)
        self._couriers.clear()
        for feed in (getattr(self, "_feed", None), getattr(self, "_follow", None)):
            if feed is not None:
                await feed.close()

    # --- work ----------------------------------------------------------------------------------------------

    async def _work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._send_couriers()
            await self._wait()
            batch = self._feed.take(_READ)
            self._apply_followed()
            steps = await self._fold(batch)
            steps += [Step(0, outcome) for outcome in self._take_outcomes()]
            ticked = list(self._stage.tick(self._state, self._clock()))
            if ticked:
                self._evolve(ticked)
                steps.append(Step(0, ticked))
            idle = bool(batch) and batch[-1].sequence - self._checkpoint.position >= _IDLE_CHECKPOINT
            if idle or self._buried or any(step.outputs for step in steps):
                await self._commit(steps)
                self._buried = False
            if batch:
                await self._feed.ack(batch[-1])
                metrics.READ.labels(self._stage.name).inc(len(batch))

    async def _wait(self) -> None:
        if self._outcomes:
            return
        due = self._stage.due(self._state)
        timeout = None if due is None else max(0.0, (due - self._clock()) / 1e9)
        if timeout != 0.0:
            await self._feed.wait(timeout)

    def _apply_followed(self) -> None:
        while self._follow is not None and (taken := self._follow.take(1000)):
            for stored in taken:
                if peek_type(stored.payload).decode() in self._stage.follows:
                    event = self._codec.decode(self._stage.writes.name, stored.sequence, stored.subject, stored.payload)
                    self._stage.evolve(self._state, event.data, stored.sequence)

    async def _fold(self, batch: list[Stored]) -> list[Step]:
        """Decode and handle each input event, in order; what cannot be handled is buried and passed over."""
        events = [await self._decode(stored) for stored in batch]
        await self._stage.ready([event for event in events if event is not None])
        steps = []
        for stored, event in zip(batch, events, strict=True):
            outputs: list[Output] = []
            done = 0
            if event is not None:
                try:
                    if stored.sequence == self._checkpoint.part_of:
                        done = self._checkpoint.parts_done
                        outputs = list(
                            await self._stage.handle_again(
                                self._state, event, self._clock(), self._checkpoint.config_sequence
                            )
                        )
                    else:
                        outputs = list(self._stage.handle(self._state, event, self._clock()))
                except UnprocessableError as error:
                    await self._bury(stored, str(error))
                except Exception as error:
                    self._log.exception("event.failed", at=f"{self._stage.reads.name}:{stored.sequence}")
                    await self._bury(stored, f"{type(error).__name__}: {error}")
                self._evolve(outputs[done:])
            steps.append(Step(stored.sequence, outputs, done))
        return steps

    async def _decode(self, stored: Stored) -> Recorded | None:
        name = peek_type(stored.payload).decode(errors="replace")
        if name not in self._stage.input_types and self._codec.knows(name):
            return None
        try:
            return self._codec.decode(self._stage.reads.name, stored.sequence, stored.subject, stored.payload)
        except UnprocessableError as error:
            await self._bury(stored, str(error))
            return None

    async def _bury(self, stored: Stored, error: str) -> None:
        self._log.warning("event.dead", at=f"{self._stage.reads.name}:{stored.sequence}", error=error)
        await retrying(
            lambda: dead.bury(
                self._connection,
                stage=self._stage.name,
                stream=self._stage.reads.name,
                sequence=stored.sequence,
                subject=stored.subject,
                payload=stored.payload,
                error=error,
                now=self._clock(),
            )
        )
        metrics.DEAD.labels(self._stage.name).inc()
        self._buried = True

    def _evolve(self, outputs: list[Output]) -> None:
        for output in outputs:
            self._stage.evolve(self._state, output.event, 0)

    # --- commit --------------------------------------------------------------------------------------------

    async def _commit(self, steps: list[Step]) -> None:
        """Store every output in order, in as few atomic batches as fit, each with its checkpoint."""
        room = MAX_BATCH - 1
        chosen: list[tuple[Output, int]] = []
        position = self._position
        for step in steps:
            waiting = step.outputs[step.done :]
            if chosen and len(chosen) + len(waiting) > room:
                await self._store(chosen, position)
                chosen = []
            done = step.done
            while len(waiting) > room:
                part, waiting = waiting[:room], waiting[room:]
                done += len(part)
                await self._store([(output, step.sequence) for output in part], position, step.sequence, done)
            chosen += [(output, step.sequence) for output in waiting]
            position = step.sequence or position
        await self._store(chosen, position)

    async def _store(
        self, chosen: list[tuple[Output, int]], position: int, part_of: int = 0, parts_done: int = 0
    ) -> None:
        now = self._clock()
        stream = self._stage.reads.name
        self._commits += 1
        reached = Checkpoint(
            stage=self._stage.name,
            lane=self._lane.name,
            stream=stream,
            position=position,
            part_of=part_of,
            parts_done=parts_done,
            config_sequence=self._stage.config_sequence(),
            commit=f"{self._stage.name}-{self._lane.name}-{INSTANCE}-{self._commits}",
        )
        records = [
            Record(
                output.subject,
                self._codec.encode(
                    output.event,
                    id=output.id,
                    source=self._source,
                    time_ns=now,
                    correlation=output.correlation,
                    causation=output.cause or f"{stream}:{sequence}",
                ),
            )
            for output, sequence in chosen
        ]
        records.append(Record(self._subject, checkpoints.encode(reached, now)))
        with metrics.COMMIT_SECONDS.labels(self._stage.name).time():
            end = await self._settle(records, reached)
        for offset, (output, _) in enumerate(chosen):
            self._stage.stored(self._state, output, end - len(chosen) + offset)
        self._guard, self._checkpoint, self._position = end, reached, position
        metrics.WRITTEN.labels(self._stage.name).inc(len(chosen))

    async def _settle(self, records: list[Record], reached: Checkpoint) -> int:
        """Append until it is certain what happened; the sequence of our checkpoint, or FencedError."""
        delay = 0.05
        while True:
            try:
                landed = await append(self._connection, records, Guard(self._subject, self._guard))
                return landed.last
            except ConflictError as error:
                conflict: Exception = error
            except (UnknownOutcomeError, UnavailableError) as error:
                conflict = error
                self._log.warning("commit.unknown", error=str(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, 2.0)
            # Unknown is not failed: what stands on the checkpoint's subject decides.
            try:
                sequence, found = await checkpoints.load(self._connection, self._stage.writes.name, self._subject)
            except UnavailableError:
                continue
            if found is not None and found.commit == reached.commit:
                return sequence
            if sequence != self._guard:
                raise FencedError(str(conflict)) from conflict

    # --- couriers ------------------------------------------------------------------------------------------

    def _send_couriers(self) -> None:
        for key, work in self._stage.intents(self._state).items():
            if key not in self._couriers:
                self._couriers[key] = asyncio.create_task(self._carry(key, work))

    async def _carry(self, key: str, work: Callable[[], Awaitable[list[Output]]]) -> None:
        try:
            outputs = await work()
            self._outcomes.append(outputs)
        except Exception:
            # The intent stays open; it is tried again after a pause.
            self._log.exception("courier.failed", intent=key)
            await asyncio.sleep(1.0)
            self._couriers.pop(key, None)
        self._wake.set()

    def _take_outcomes(self) -> list[list[Output]]:
        taken, self._outcomes = self._outcomes, []
        for outputs in taken:
            self._evolve(outputs)
        open_intents = self._stage.intents(self._state)
        for key in [key for key, task in self._couriers.items() if task.done() and key not in open_intents]:
            del self._couriers[key]
        return taken


async def retrying(work: Callable[[], Awaitable[None]]) -> None:
    """Repeat idempotent work until the log takes it."""
    delay = 0.1
    while True:
        try:
            return await work()
        except (UnavailableError, UnknownOutcomeError) as error:
            log.warning("retry", error=str(error), in_seconds=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)
