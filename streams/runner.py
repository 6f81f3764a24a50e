"""A stage in this process: it takes its share of the lanes and runs one worker on each."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from streams.commit import INSTANCE
from streams.connection import Connection
from streams.envelope import Codec
from streams.ownership import Ownership
from streams.processor import LaneWorker
from streams.stage import Stage
from streams.subjects import Lane

S = TypeVar("S")


class StageRunner(Generic[S]):
    """Runs a stage until told to stop; other instances of it may run elsewhere and come and go."""

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        stage: Stage[S],
        lanes: Sequence[Lane],
        clock: Callable[[], int],
        *,
        instance: str = INSTANCE,
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._stage = stage
        self._clock = clock
        self._running: dict[Lane, tuple[asyncio.Task[None], asyncio.Event, LaneWorker[S]]] = {}
        self.ownership = Ownership(
            connection, stage.name, lanes, instance, take=self._take, leave=self._leave, lost=self._lost
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; every lane has committed what it had read and is given back."""
        await self.ownership.run(stop)

    async def ready(self) -> None:
        """Wait until the lanes are shared out and those that are ours are loaded."""
        await self.ownership.settled.wait()
        for _, _, worker in list(self._running.values()):
            await worker.loaded.wait()

    def _take(self, lane: Lane) -> None:
        stop = asyncio.Event()
        worker = LaneWorker(self._connection, self._codec, self._stage, lane, self._clock)
        self._running[lane] = (asyncio.create_task(worker.run(stop)), stop, worker)

    async def _leave(self, lane: Lane) -> None:
        task, stop, _ = self._running.pop(lane)
        stop.set()
        await asyncio.gather(task, return_exceptions=True)

    async def _lost(self, lane: Lane) -> None:
        task, _, _ = self._running.pop(lane)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
