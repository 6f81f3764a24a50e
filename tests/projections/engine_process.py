"""A process that runs the projection engine, for tests that kill it.   python -m tests.projections.engine_process URL
DSN"""

import asyncio
import sys
import time

import structlog

from handlers.live.event_codec import codec
from projections.engine.runner import Engine
from streams.connection import connect
from tests.projections.engines import CORE

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


async def main(url: str, dsn: str) -> None:
    engine = Engine(await connect(url, "builder"), codec(), dsn, CORE, time.time_ns)
    running = asyncio.create_task(engine.run(asyncio.Event()))
    await engine.ready.wait()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await running


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
