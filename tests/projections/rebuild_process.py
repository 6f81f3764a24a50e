"""A process that rebuilds everything, for tests that kill it.   python -m tests.projections.rebuild_process URL DSN
CHUNK"""

import asyncio
import sys

import structlog

from handlers.live.event_codec import codec
from projections.engine.rebuild import rebuild
from tests.projections.engines import CORE

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


async def main(url: str, dsn: str, chunk: int) -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await rebuild(url, dsn, codec(), CORE, resume=True, chunk=chunk, long=1000)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
