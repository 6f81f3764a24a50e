"""The one loop that runs every stage: read, fold, one atomic commit with a guarded checkpoint, acknowledge.

A crash between any two steps repeats nothing and loses nothing: the last checkpoint says where to resume, and
outputs and checkpoint land together or not at all. A second instance that wakes up with an old checkpoint has its
commit refused by the server (the fence), drops its state and loads again.

The loop is pipelined: while one commit is on its way, the next batch is read and folded.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from streams import dead_letter_events, dead_letters, metrics
from streams.connection import Connection
from streams.envelope import Codec, Recorded, peek_type
from streams.errors import LogError, RefusedError, UnavailableError, UnprocessableError
from streams.processing import snapshots
from streams.processing.commit import INSTANCE, Committer, FencedError, Outcome
from streams.processing.effects import EffectRunner
from streams.processing.stage import Output, Stage
from streams.reader import Stored, StreamSubscription, read_all
from streams.retry import StoppedError, retry_forever
from streams.subjects import Lane, partition_of
from streams.topology import DEAD

__all__ = ["INSTANCE", "FencedError", "LaneWorker", "Outcome"]

log = structlog.get_logger()

S = TypeVar("S")

_READ = 900
_IDLE_CHECKPOINT = 10_000
"""Input events without any output after which the checkpoint is moved all the same."""
SNAPSHOT_EVERY = 50_000
"""Events folded into the state between two snapshots."""
_SNAPSHOT_AT_STOP = 1_000
_STOP_LOOK_SECONDS = 0.5
_SETTLE_SECONDS = 1.0
"""After a start the clock brings nothing about for this long: the stages in front start too, and what they still owe
belongs before it."""
_CATCH_UP_SECONDS = 1.0


def _no_step(step: str) -> None:
    """Where tests put their faults."""


class LaneWorker(Generic[S]):
    """Runs one stage over one lane until told to stop.

    `on_step` is called between any two steps of the loop ('loaded', 'read', 'folded', 'committed', 'acknowledged').
    """

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        stage: Stage[S],
        lane: Lane,
        clock: Callable[[], int],
        *,
        on_step: Callable[[str], None] = _no_step,
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._stage = stage
        self._lane = lane
        self._clock = clock
        self._on_step = on_step
        self._log = log.bind(stage=stage.name, lane=lane.name)
        self._wake = asyncio.Event()
        self._couriers = EffectRunner(self._wake)
        self._feeds: list[StreamSubscription] = []
        self._in_flight: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._input_types = frozenset(name.encode() for name in stage.input_types)
        self._follows = frozenset(name.encode() for name in stage.follows)
        self._commits = self._committer()
        self.loaded = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Load and work, again and again, until `stop` is set. Errors of the log are waited out, never fatal.

        Raises HalfStoredError when the lane cannot take over from lanes of another layout.
        """
        self._stop = stop
        stopper = asyncio.create_task(self._wake_on(stop))
        delay = 0.1
        try:
            while not stop.is_set():
                began: int | None = None
                try:
                    await self._load()
                    self.loaded.set()
                    began = self._commits.guard
                    await self._work(stop)
                except StoppedError:
                    return
                except FencedError as error:
                    metrics.FENCED.labels(self._stage.name).inc()
                    self._log.warning("lane.fenced", why=str(error))
                except LogError as error:
                    if began is not None and self._commits.guard != began:
                        delay = 0.1  # it had come forward
                    self._log.warning("lane.retry", error=str(error), in_seconds=delay)
                    if isinstance(error, RefusedError):  # no time will heal it: somebody has to look
                        self._log.error("lane.refused", why=str(error))
                        metrics.REFUSED.labels(self._stage.name).inc()
                    await asyncio.wait({stopper}, timeout=delay)
                    delay = min(delay * 2, 5.0)
                finally:
                    await self._close()
        finally:
            stopper.cancel()

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._commits.patient = False
        self._wake.set()

    # --- load ----------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        stage, lane = self._stage, self._lane
        self._commits = self._committer()
        for name in await self._commits.load():
            await self._forget(name)
        reached = self._commits.reached
        self._resumed, self._buried, self._half = reached, False, reached.part_of
        snapshot_at = await self._restore()
        self._folded = 0
        self._applied = max(snapshot_at, self._commits.guard)
        self._own = self._commits.guard
        if stage.state_patterns:
            filters = lane.filters(*stage.state_patterns)
            async for batch in read_all(self._connection, stage.writes.name, filters, after=snapshot_at):
                for stored in batch:
                    self._evolve_stored(stored)
                self._applied = max(self._applied, batch[-1].sequence)
        self._follow = await self._open_follow()
        self._retries = await self._feed(
            DEAD.name, [dead_letters.retry_patterns(stage.name)], reached.retried, "runs retries"
        )
        self._input = await self._feed(
            stage.reads.name,
            stage.input_patterns,
            reached.position,
            stage.description,
            name=f"{stage.name}-{lane.name}",
        )
        self._log.info(
            "lane.loaded",
            position=reached.position,
            snapshot=snapshot_at,
            replayed=self._folded,
            waiting=self._input.pending,
        )
        self._settled = _now() + _SETTLE_SECONDS
        self._on_step("loaded")

    def _committer(self) -> Committer:
        stage = self._stage
        return Committer(self._connection, self._codec, stage.name, self._lane, stage.reads, stage.writes, self._clock)

    async def _forget(self, lane: str) -> None:
        """Delete the durable consumer of a lane that is no more: its lag would grow for ever."""
        try:
            await self._connection.api(f"CONSUMER.DELETE.{self._stage.reads.name}.{self._stage.name}-{lane}")
        except LogError as error:
            self._log.info("consumer.not_deleted", consumer=f"{self._stage.name}-{lane}", error=str(error))

    async def _restore(self) -> int:
        """State from the newest snapshot that fits, else an empty one; the sequence it holds (0 = none)."""
        stage, lane = self._stage, self._lane
        if stage.schema:
            found = await snapshots.load(self._connection, stage.name, lane, stage.schema, stage.writes.name)
            if found is not None:
                try:
                    self._state = stage.restore(found[1], lane)
                except Exception as error:  # a snapshot is never worth more than a replay
                    self._log.warning("snapshot.passed_over", why=f"{type(error).__name__}: {error}")
                else:
                    return found[0]
        self._state = stage.initial(lane)
        return 0

    async def _open_follow(self) -> StreamSubscription | None:
        if not self._stage.follows:
            return None
        return await self._feed(
            self._stage.writes.name, self._stage.state_patterns, self._applied, "follows its own stream"
        )

    async def _feed(
        self, stream: str, patterns: tuple[str, ...] | list[str], after: int, description: str, name: str | None = None
    ) -> StreamSubscription:
        stage, lane = self._stage, self._lane
        feed = StreamSubscription(
            self._connection,
            stream,
            lane.filters(*patterns),
            name=name,
            description=description if name else f"{stage.name} {lane.name} {description}",
            metadata={"stage": stage.name, "lane": lane.name, "writes": stage.writes.name},
            batch=2 * _READ,
            wake=self._wake,
        )
        self._feeds.append(feed)
        return await feed.open(after)

    async def _close(self) -> None:
        await self._couriers.recall()
        for task in (self._in_flight, self._saving):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._in_flight = self._saving = None
        for feed in self._feeds:
            await feed.close()
        self._feeds.clear()

    # --- work ----------------------------------------------------------------------------------------------

    async def _work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._couriers.send(self._stage.intents(self._state))
            await self._wait()
            if self._in_flight is not None and (self._in_flight.done() or self._input.waiting < _READ):
                # A commit costs the server the same for one event as for hundreds: behind one that is on its way only
                # a full batch is folded; less than that gathers until it has landed.
                await self._landed()
            await self._snapshot(SNAPSHOT_EVERY)
            batch = self._input.take(_READ)
            self._on_step("read")
            self._apply_followed()
            steps = [*await self._fold_retries(), *await self._fold(batch), *self._fold_outcomes(), *self._fold_tick()]
            self._on_step("folded")
            await self._pass_on(steps, batch)
        await self._landed()
        await self._snapshot(_SNAPSHOT_AT_STOP)
        if self._saving is not None:
            await asyncio.gather(self._saving, return_exceptions=True)

    async def _wait(self) -> None:
        landed = self._in_flight is not None and self._in_flight.done()
        followed = self._follow is not None and self._follow.waiting
        if landed or followed or self._couriers.back or (self._retries.waiting and not self._half):
            return
        due = self._stage.due(self._state)
        timeout = None if due is None else max(0.0, (due - self._clock()) / 1e9, self._settled - _now())
        if timeout != 0.0:
            await self._input.wait(timeout)

    async def _pass_on(self, steps: list[Outcome], batch: list[Stored]) -> None:
        """Commit what the steps led to, if anything, behind the commit before; acknowledge the batch."""
        idle = bool(batch) and batch[-1].sequence - self._commits.reached.position >= _IDLE_CHECKPOINT
        if not (idle or self._buried or any(step.outputs or step.retry for step in steps)):
            if batch:
                await self._landed()
                await self._acknowledge(batch)
            return
        self._buried = False
        await self._landed()
        self._in_flight = asyncio.create_task(self._commit(steps, batch))
        self._in_flight.add_done_callback(lambda _: self._wake.set())

    async def _landed(self) -> None:
        """Wait for the commit that is on its way; raises what it met."""
        task, self._in_flight = self._in_flight, None
        if task is not None:
            try:
                await task
            except asyncio.CancelledError:
                task.cancel()
                raise

    async def _commit(self, steps: list[Outcome], batch: list[Stored]) -> None:
        def stored(output: Output, sequence: int) -> None:
            self._own = sequence
            self._stage.stored(self._state, output, sequence)

        await self._commits.commit(steps, self._stage.config_sequence(), stored)
        self._on_step("committed")
        if batch:
            await self._acknowledge(batch)
        self._on_step("acknowledged")

    async def _acknowledge(self, batch: list[Stored]) -> None:
        await self._input.ack(batch[-1])
        metrics.READ.labels(self._stage.name).inc(len(batch))

    # --- fold ----------------------------------------------------------------------------------------------

    def _apply_followed(self) -> None:
        while self._follow is not None and (taken := self._follow.take(1000)):
            for stored in taken:
                if peek_type(stored.payload) in self._follows:
                    self._evolve_stored(stored)
            self._applied = taken[-1].sequence

    async def _fold(self, batch: list[Stored]) -> list[Outcome]:
        """Decode and handle each input event, in order; what cannot be handled is buried and passed over."""
        stream = self._stage.reads.name
        ahead = self._commits.reached.ahead
        events = [
            None if ahead and self._done_before(stored) else await self._decode(stream, stored) for stored in batch
        ]
        await self._ready([event for event in events if event is not None])
        steps = []
        for stored, event in zip(batch, events, strict=True):
            outputs: list[Output] = []
            done, config = 0, self._stage.config_sequence()
            if event is not None:
                if stored.sequence == self._resumed.part_of:
                    done, config = self._resumed.parts_done, self._resumed.config_sequence
                    work = self._stage.handle_again(self._state, event, self._clock(), config)
                    outputs = await self._handled(stored, event, work)
                else:
                    outputs = await self._handled(stored, event)
                self._evolve(outputs[done:])
            steps.append(Outcome(stored.sequence, outputs, done, config_sequence=config))
            if stored.sequence >= self._half:
                self._half = 0
        return steps

    def _done_before(self, stored: Stored) -> bool:
        """True when a lane of another layout has done this input before we took its partition over."""
        return stored.sequence <= self._commits.reached.reached(int(partition_of(stored.subject)))[0]

    async def _ready(self, events: list[Recorded]) -> None:
        """Wait until the stage has what the events need; given up, with nothing done, when told to stop meanwhile."""
        ready = asyncio.create_task(self._stage.ready(events))
        try:
            while not (await asyncio.wait({ready}, timeout=_STOP_LOOK_SECONDS))[0]:
                if self._stop.is_set():
                    raise StoppedError
            ready.result()
        finally:
            ready.cancel()

    async def _handled(
        self, stored: Stored, event: Recorded, work: Awaitable[object] | None = None, suffix: str = ""
    ) -> list[Output]:
        """What an event leads to; nothing when it had to be buried."""
        try:
            if work is not None:
                return list(await work)  # type: ignore[call-overload, no-any-return]
            return list(self._stage.handle(self._state, event, self._clock()))
        except UnprocessableError as error:
            await self._bury(event.stream, stored, str(error), suffix)
        except Exception as error:
            self._log.exception("event.failed", at=event.at)
            await self._bury(event.stream, stored, f"{type(error).__name__}: {error}", suffix)
        return []

    async def _fold_retries(self) -> list[Outcome]:
        """Dead letters that somebody wants run again: handled like input, their place kept in the checkpoint.

        They wait while the parts of an event are still to be finished, which must find the state as it was.
        """
        requests = [] if self._half else self._retries.take(_READ)
        return [await self._fold_retry(request) for request in requests]

    async def _fold_retry(self, request: Stored) -> Outcome:
        nothing = Outcome(0, [], retry=request.sequence)
        reached = self._commits.reached
        if reached.ahead and request.sequence <= reached.reached(int(request.subject.rpartition(".")[2]))[1]:
            return nothing
        try:
            wanted: dead_letters.DeadLetterRetried = self._codec.decode(
                DEAD.name, request.sequence, request.subject, request.payload
            ).data
            stored = Stored(wanted.sequence, wanted.subject, dead_letters.payload_of(wanted))
        except (UnprocessableError, ValueError, AttributeError) as error:
            self._log.error("retry.unreadable", at=f"{DEAD.name}:{request.sequence}", error=str(error))
            return nothing
        suffix = f"~{request.sequence}"
        event = await self._decode(wanted.stream, stored, suffix)
        if event is None:
            return nothing
        await self._ready([event])
        done, work, config = 0, None, self._stage.config_sequence()
        if request.sequence == self._resumed.retry_of:
            done, config = self._resumed.retry_done, self._resumed.config_sequence
            work = self._stage.handle_again(self._state, event, self._clock(), config)
        outputs = [
            output if output.cause else output._replace(cause=event.at)
            for output in await self._handled(stored, event, work, suffix)
        ]
        self._evolve(outputs[done:])
        return Outcome(0, outputs, done, request.sequence, config)

    def _fold_outcomes(self) -> list[Outcome]:
        steps = []
        for outputs in self._couriers.take():
            self._evolve(outputs)
            steps.append(Outcome(0, outputs))
        return steps

    def _fold_tick(self) -> list[Outcome]:
        if _now() < self._settled:
            return []
        outputs = list(self._stage.tick(self._state, self._clock()))
        self._evolve(outputs)
        return [Outcome(0, outputs)] if outputs else []

    async def _decode(self, stream: str, stored: Stored, suffix: str = "") -> Recorded | None:
        name = peek_type(stored.payload)
        if name not in self._input_types and self._codec.knows(name.decode(errors="replace")):
            return None
        try:
            return self._codec.decode(stream, stored.sequence, stored.subject, stored.payload)
        except UnprocessableError as error:
            await self._bury(stream, stored, str(error), suffix)
            return None

    async def _bury(self, stream: str, stored: Stored, error: str, suffix: str = "") -> None:
        self._log.warning("event.dead", at=f"{stream}:{stored.sequence}", error=error)
        await retry_forever(
            lambda: dead_letter_events.dead_letter(
                self._connection,
                stage=self._stage.name,
                stream=stream,
                sequence=stored.sequence,
                subject=stored.subject,
                payload=stored.payload,
                error=error,
                now=self._clock(),
                dead_id=f"{self._stage.name}:{stream}:{stored.sequence}{suffix}",
            ),
            self._stop,
        )
        metrics.DEAD.labels(self._stage.name).inc()
        self._buried = True

    def _evolve_stored(self, stored: Stored) -> None:
        """What cannot be read in the output stream was not written by a stage: it is no part of the state."""
        stream = self._stage.writes.name
        try:
            event = self._codec.decode(stream, stored.sequence, stored.subject, stored.payload)
        except UnprocessableError as error:
            self._log.error("state.unreadable", at=f"{stream}:{stored.sequence}", error=str(error))
            return
        self._stage.evolve(self._state, event.data, stored.sequence)
        self._folded += 1

    def _evolve(self, outputs: list[Output]) -> None:
        for output in outputs:
            self._stage.evolve(self._state, output.event, 0)
        self._folded += len(outputs)

    # --- snapshot ------------------------------------------------------------------------------------------

    async def _snapshot(self, every: int) -> None:
        """Save the state in the background once `every` events were folded since the last time.

        Only when it is the state as of one sequence: nothing of ours on its way or ahead of what we follow, nothing
        of somebody else's behind our back. Raises FencedError.
        """
        stage = self._stage
        if not stage.schema or self._folded < every or (self._saving is not None and not self._saving.done()):
            return
        await self._landed()
        deadline = asyncio.get_running_loop().time() + _CATCH_UP_SECONDS
        while self._follow is not None and self._applied < self._own:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                self._folded = every // 2  # try again later
                return
            await self._follow.wait(left)
            self._apply_followed()
        try:
            await self._commits.confirm()
        except UnavailableError:
            self._folded = every // 2
            return
        at = self._applied if self._follow is not None else max(self._applied, self._commits.guard)
        self._folded = 0
        try:
            state = stage.dump(self._state)
        except Exception as error:  # a snapshot is never worth more than the work that goes on without it
            self._log.error("snapshot.not_saved", error=f"{type(error).__name__}: {error}")
            return
        self._saving = asyncio.create_task(self._save(at, state))

    async def _save(self, sequence: int, state: bytes) -> None:
        stage = self._stage
        try:
            await snapshots.save(
                self._connection, stage.name, self._lane, stage.schema, stage.writes.name, sequence, state
            )
            self._log.info("snapshot.saved", sequence=sequence, bytes=len(state))
        except LogError as error:
            self._log.warning("snapshot.not_saved", error=str(error))


def _now() -> float:
    return asyncio.get_running_loop().time()
