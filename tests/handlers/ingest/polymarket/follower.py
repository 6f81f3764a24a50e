"""A process that follows Polymarket until it is killed.

python -m tests.handlers.ingest.polymarket.follower <nats url> <venue url> <ns at its clock start> <speed of its clock>
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable

from streams.connection import connect
from tests.handlers.ingest.polymarket.following import SWIFT, following


def hurried(origin_ns: int, speed: int) -> Callable[[], int]:
    """A clock that runs `speed` times as fast as the machine's from `origin_ns` on: the same one in every process."""

    def now() -> int:
        return origin_ns + (time.time_ns() - origin_ns) * speed

    return now


async def main(nats_url: str, url: str, origin_ns: int, speed: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connection = await connect(nats_url, "follower")
    async with following(connection, url, settings=SWIFT, clock=hurried(origin_ns, speed)):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
