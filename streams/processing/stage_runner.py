"""A stage in this process: it leases its share of the lanes and runs one worker on each."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from streams.connection import Connection
from streams.envelope import Codec
from streams.lag_watch import DEFAULT_LIMIT, LagLimit, LagWatch, Reader
from streams.processing.commit import INSTANCE
from streams.processing.lane_leases import LaneLeases
from streams.processing.processor import DEFAULT_SETTINGS, LaneSettings, LaneWorker, no_step
from streams.processing.stage import Stage
from streams.subjects import Lane

S = TypeVar("S")


class StageRunner(Generic[S]):
    """Runs a stage until it is stopped; other instances of it may run elsewhere, come and go."""

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        stage: Stage[S],
        lanes: Sequence[Lane],
        clock: Callable[[], int],
        *,
        instance: str = INSTANCE,
        host: str | None = None,
        settings: LaneSettings = DEFAULT_SETTINGS,
        lag_limit: LagLimit = DEFAULT_LIMIT,
        on_step: Callable[[str], None] = no_step,
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._stage = stage
        self._clock = clock
        self._settings = settings
        self._on_step = on_step
        self._running: dict[Lane, tuple[asyncio.Task[None], asyncio.Event, LaneWorker[S]]] = {}
        self._failure: BaseException | None = None
        self._over = asyncio.Event()
        self._lag = LagWatch(connection, lag_limit, self._readers)
        self.leases = LaneLeases(
            connection,
            stage.name,
            lanes,
            instance,
            acquired=self._start,
            release=self._stop,
            lost=self._abort,
            problems=lambda: self._lane_problems,
            host=host,
        )

    @property
    def problems(self) -> list[str]:
        """What keeps the stage from its work here, one text each: the log refuses its lease or what its lanes append,
        or a lane is behind. Empty again as soon as it works."""
        lease = self.leases.problem
        return [*([] if lease is None else [lease]), *self._lane_problems]

    @property
    def _lane_problems(self) -> list[str]:
        refused = [worker.problem for _, _, worker in self._running.values()]
        return [*(why for why in refused if why is not None), *self._lag.problems]

    def _readers(self) -> list[Reader]:
        """The consumers of the lanes that are loaded here."""
        reads, name = self._stage.reads.name, self._stage.name
        return [
            (reads, f"{name}-{lane.name}") for lane, (_, _, worker) in self._running.items() if worker.loaded.is_set()
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; by then every lane has committed what it had read and is released.

        Raises the error that ended a lane's worker for good, once the other lanes are released for other instances.
        """
        stopper = asyncio.create_task(self._end_on(stop))
        watch = asyncio.create_task(self._lag.run())
        try:
            await self.leases.run(self._over)
        finally:
            stopper.cancel()
            watch.cancel()
            tasks = [task for task, _, _ in self._running.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(stopper, watch, *tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    async def _end_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._over.set()

    async def ready(self) -> None:
        """Wait until the lanes are shared out and those of this instance are loaded."""
        await self.leases.settled.wait()
        for task, _, worker in list(self._running.values()):
            loaded = asyncio.create_task(worker.loaded.wait())
            # A lane that goes to another instance before it is loaded is never loaded here.
            await asyncio.wait({task, loaded}, return_when=asyncio.FIRST_COMPLETED)
            loaded.cancel()

    def _start(self, lane: Lane) -> None:
        stop = asyncio.Event()
        worker = LaneWorker(
            self._connection,
            self._codec,
            self._stage,
            lane,
            self._clock,
            settings=self._settings,
            on_step=self._on_step,
        )
        task = asyncio.create_task(worker.run(stop))
        task.add_done_callback(self._ended)
        self._running[lane] = (task, stop, worker)

    def _ended(self, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None and self._failure is None:
            self._failure = failure
            self._over.set()

    async def _stop(self, lane: Lane) -> None:
        task, stop, _ = self._running[lane]
        stop.set()
        await asyncio.wait({task})
        self._running.pop(lane, None)

    async def _abort(self, lane: Lane) -> None:
        task, _, _ = self._running[lane]
        task.cancel()
        await asyncio.wait({task})
        self._running.pop(lane, None)
