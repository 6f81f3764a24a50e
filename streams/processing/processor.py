"""The one loop that runs every stage: read, fold, one atomic commit with a guarded checkpoint, acknowledge.

A crash between any two steps repeats nothing and loses nothing: the last checkpoint says where to resume, and
outputs and checkpoint are stored together or not at all. The server refuses the commit of a second instance that works
with an old checkpoint (the checkpoint is the fencing token); that instance drops its state and loads again.

The loop is pipelined: while one commit is on its way, the next batch is read and folded.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog
from msgspec import Struct

from streams import metrics
from streams.connection import Connection
from streams.envelope import Codec
from streams.errors import DataLossError, LogError, RefusedError
from streams.processing.commit import INSTANCE, FencedError, Outcome
from streams.processing.effects import EffectRunner
from streams.processing.folding import Folder, StateBrokenError
from streams.processing.loading import LaneLoader, LoadedLane
from streams.processing.part_saver import PartSaver
from streams.processing.snapshot_saver import SnapshotSaver
from streams.processing.stage import Stage
from streams.reader import Stored
from streams.retry import RetryPolicy, StoppedError
from streams.subjects import Lane

__all__ = ["INSTANCE", "FencedError", "LaneSettings", "LaneWorker", "Outcome"]

log = structlog.get_logger()

S = TypeVar("S")

_RELOAD = RetryPolicy(first_delay=0.1, longest_delay=5.0)


class LaneSettings(Struct, frozen=True, kw_only=True):
    """How much a lane does at once, in events.

    At most `read_batch` inputs are folded into one commit. Commits begin at least `gather_seconds` apart, unless a
    whole batch waits: under load what comes meanwhile joins the next one, and a lane that was idle never waits. After
    `idle_inputs` without any output the checkpoint moves all the same. A snapshot is saved every `snapshot_every`
    folded events, and at a stop after `snapshot_at_stop`.
    """

    read_batch: int = 900
    gather_seconds: float = 0.02
    idle_inputs: int = 10_000
    snapshot_every: int = 50_000
    snapshot_at_stop: int = 1_000


DEFAULT_SETTINGS = LaneSettings()
_GATHER_STEP_SECONDS = 0.005
"""How often a lane that gathers looks whether a whole batch waits."""


def no_step(step: str) -> None:
    """The default of `on_step`."""


class LaneWorker(Generic[S]):
    """Runs one stage over one lane until it is stopped.

    `on_step` is called between any two steps of the loop ('loaded', 'read', 'folded', 'committed', 'acknowledged');
    tests inject faults there.
    """

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        stage: Stage[S],
        lane: Lane,
        clock: Callable[[], int],
        *,
        settings: LaneSettings = DEFAULT_SETTINGS,
        on_step: Callable[[str], None] = no_step,
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._stage = stage
        self._lane = lane
        self._clock = clock
        self._settings = settings
        self._on_step = on_step
        self._wake = asyncio.Event()
        self._log = log.bind(stage=stage.name, lane=lane.name)
        self._unfoldable = set[str]()
        self._refused: tuple[str, str] | None = None
        """The step after which the refusal counts as over, and what the log refused."""
        self.loaded = asyncio.Event()

    @property
    def problem(self) -> str | None:
        """What the log refuses this lane, for the operator; None again once it was accepted."""
        return None if self._refused is None else self._refused[1]

    async def run(self, stop: asyncio.Event) -> None:
        """Load and work, again and again, until `stop` is set. Errors of the log are retried, never fatal.

        Raises HalfStoredError when the lane cannot take over from lanes of another layout.
        """
        loader = LaneLoader(
            self._connection,
            self._codec,
            self._stage,
            self._lane,
            self._clock,
            stop,
            self._wake,
            2 * self._settings.read_batch,
        )
        stopper = asyncio.create_task(self._wake_on(stop))
        backoff = _RELOAD.start()
        try:
            while not stop.is_set():
                progressed, is_loaded = False, False
                try:
                    async with loader.loaded() as loaded:
                        is_loaded = True
                        self._step("loaded")
                        self.loaded.set()
                        began = loaded.committer.sequence
                        try:
                            await self._work(loaded, stop)
                        finally:
                            progressed = loaded.committer.sequence != began
                except StoppedError:
                    return
                except FencedError as error:
                    metrics.FENCED.labels(self._stage.name).inc()
                    self._log.warning("lane.fenced", why=str(error))
                except StateBrokenError as error:
                    delay = backoff.next_delay()
                    self._log.error("lane.reloaded", why=str(error), in_seconds=delay)
                    await asyncio.wait({stopper}, timeout=delay)
                except LogError as error:
                    if progressed:
                        backoff.reset()
                    delay = backoff.next_delay()
                    self._log.warning("lane.retry", error=str(error), in_seconds=delay)
                    if isinstance(error, RefusedError | DataLossError):  # waiting does not cure it
                        self._log.error("lane.refused", why=str(error))
                        metrics.REFUSED.labels(self._stage.name).inc()
                        why = f"{self._stage.name} {self._lane.name}: the log refuses it: {error}"
                        self._refused = ("committed" if is_loaded else "loaded", why)
                    await asyncio.wait({stopper}, timeout=delay)
        finally:
            stopper.cancel()

    def _step(self, step: str) -> None:
        if self._refused is not None and step == self._refused[0]:
            self._refused = None
        self._on_step(step)

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _work(self, loaded: LoadedLane[S], stop: asyncio.Event) -> None:
        stage, lane, connection = self._stage, self._lane, self._connection
        folder = Folder(connection, self._codec, stage, lane, loaded, self._clock, stop, self._unfoldable)
        effects = EffectRunner(self._wake)
        saver: SnapshotSaver[S] | PartSaver[S] = SnapshotSaver(connection, stage, lane, loaded)
        if stage.saved_in_parts:
            saver = PartSaver(connection, stage, lane, loaded, self._wake)
        loop = _Loop(stage, loaded, folder, effects, saver, self._settings, self._wake, self._step)
        try:
            await loop.run(stop)
        finally:
            await effects.cancel()
            await loop.cancel()
            await saver.cancel()


class _Loop(Generic[S]):
    """The loop over one loaded lane. At most one commit is in flight."""

    def __init__(
        self,
        stage: Stage[S],
        loaded: LoadedLane[S],
        folder: Folder[S],
        effects: EffectRunner,
        saver: SnapshotSaver[S] | PartSaver[S],
        settings: LaneSettings,
        wake: asyncio.Event,
        on_step: Callable[[str], None],
    ) -> None:
        self._stage = stage
        self._loaded = loaded
        self._folder = folder
        self._effects = effects
        self._saver = saver
        self._settings = settings
        self._wake = wake
        self._on_step = on_step
        self._in_flight: asyncio.Task[None] | None = None
        self._next_commit = 0.0
        """When the next commit may begin, by the loop's clock."""

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; everything that was read is committed then. Raises FencedError and LogError."""
        loaded, folder, read_batch = self._loaded, self._folder, self._settings.read_batch
        while not stop.is_set():
            await folder.report_failures()
            if (intents := await folder.intents()) is not None:
                self._effects.start(intents)
            await self._wait()
            await self._gather(stop)
            if self._in_flight is not None and (self._in_flight.done() or loaded.input.waiting < read_batch):
                # A commit costs the server the same for one event as for hundreds: behind one that is on its way only
                # a full batch is folded; less than that gathers until it is stored.
                await self._commit_done()
            await self._snapshot(self._settings.snapshot_every)
            batch = loaded.input.take(read_batch)
            self._on_step("read")
            loaded.follow()
            requests = [] if folder.retries_wait else loaded.retries.take(read_batch)
            outcomes = [
                *await folder.fold_retries(requests),
                *await folder.fold_input(batch),
                *await folder.fold_effects(self._effects.take()),
                *await folder.fold_tick(),
            ]
            self._on_step("folded")
            await self._pass_on(outcomes, batch)
        await self._commit_done()
        await self._snapshot(self._settings.snapshot_at_stop, stopping=True)
        await self._saver.finish()

    async def cancel(self) -> None:
        """Give up the commit that is in flight: the next load finds out whether it was stored."""
        if self._in_flight is not None:
            self._in_flight.cancel()
            await asyncio.gather(self._in_flight, return_exceptions=True)

    async def _wait(self) -> None:
        """Until there is something to do."""
        loaded = self._loaded
        committed = self._in_flight is not None and self._in_flight.done()
        followed = loaded.followed is not None and loaded.followed.waiting
        retries = loaded.retries.waiting and not self._folder.retries_wait
        if committed or followed or retries or self._effects.has_outcomes:
            return
        timeout = await self._folder.seconds_until_tick()
        if timeout != 0.0:
            await loaded.input.wait(timeout)

    async def _gather(self, stop: asyncio.Event) -> None:
        """Until the next commit may begin, or a whole batch waits."""
        while self._loaded.input.waiting < self._settings.read_batch and not stop.is_set():
            early = self._next_commit - asyncio.get_running_loop().time()
            if early <= 0:
                return
            await asyncio.sleep(min(early, _GATHER_STEP_SECONDS))

    async def _snapshot(self, every: int, *, stopping: bool = False) -> None:
        if self._saver.is_due(every, stopping=stopping):
            await self._commit_done()
            await self._saver.save(every)

    async def _pass_on(self, outcomes: list[Outcome], batch: list[Stored]) -> None:
        """Commit the outcomes, if they have outputs, once the commit before is stored; acknowledge the batch."""
        reached = self._loaded.committer.reached
        idle = bool(batch) and batch[-1].sequence - reached.position >= self._settings.idle_inputs
        if not (idle or self._folder.dead_lettered or any(outcome.outputs or outcome.retry for outcome in outcomes)):
            if batch:
                await self._commit_done()
                await self._acknowledge(batch)
            return
        self._folder.dead_lettered = False
        await self._commit_done()
        self._next_commit = asyncio.get_running_loop().time() + self._settings.gather_seconds
        self._in_flight = asyncio.create_task(self._commit(outcomes, batch))
        self._in_flight.add_done_callback(lambda _: self._wake.set())

    async def _commit_done(self) -> None:
        """Wait for the commit that is in flight, if one is; raises what it raised."""
        task, self._in_flight = self._in_flight, None
        if task is not None:
            try:
                await task
            except asyncio.CancelledError:
                task.cancel()
                raise

    async def _commit(self, outcomes: list[Outcome], batch: list[Stored]) -> None:
        loaded = self._loaded
        await loaded.committer.commit(outcomes, self._stage.config_sequence(), loaded.on_stored)
        self._on_step("committed")
        if batch:
            await self._acknowledge(batch)
        self._on_step("acknowledged")

    async def _acknowledge(self, batch: list[Stored]) -> None:
        await self._loaded.input.ack(batch[-1])
        metrics.READ.labels(self._stage.name).inc(len(batch))
