"""A process that runs the counting stage: what the tests kill.

    python -m tests.streams.worker URL LANES [exit-at-handle=N | exit-after-part=N | exit-at-effect]

It prints 'loaded' when every lane has loaded. `exit-*` ends it on the spot, as `kill -9` would.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator

import structlog

from streams.connection import connect
from streams.envelope import Recorded
from streams.processing.processor import LaneWorker
from streams.processing.stage import Output
from streams.subjects import lanes
from tests.streams.counting import CODEC, Counts, Fetching, Wanted

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


class Doomed(Fetching):
    """Ends the process at the chosen point."""

    def __init__(self, exit_point: str, count: int) -> None:
        super().__init__(self._fetch_or_die)
        self._exit_point = exit_point
        self._count = count
        self._handled = 0
        self._stored = 0

    async def _fetch_or_die(self, wanted: Wanted) -> int:
        if self._exit_point == "exit-at-effect":
            os._exit(9)
        return 1

    def handle(self, state: Counts, event: Recorded, now: int) -> Iterator[Output]:
        self._handled += 1
        if self._exit_point == "exit-at-handle" and self._handled == self._count:
            os._exit(9)
        return super().handle(state, event, now)

    def stored(self, state: Counts, output: Output, sequence: int) -> None:
        super().stored(state, output, sequence)
        self._stored += 1
        if self._exit_point == "exit-after-part" and self._stored == self._count:
            os._exit(9)


async def main(url: str, lane_count: int, exit_point: str, count: int) -> None:
    connection = await connect(url, "worker")
    stage = Doomed(exit_point, count)
    workers = [LaneWorker(connection, CODEC, stage, lane, time.time_ns) for lane in lanes(lane_count)]
    running = [asyncio.create_task(worker.run(asyncio.Event())) for worker in workers]
    for worker in workers:
        await worker.loaded.wait()
    sys.stdout.write("loaded\n")
    sys.stdout.flush()
    await asyncio.gather(*running)


if __name__ == "__main__":
    exit_point, _, count = (sys.argv[3] if len(sys.argv) > 3 else "").partition("=")
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), exit_point, int(count or 0)))
