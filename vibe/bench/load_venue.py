"""The venue of `vibe bench pipeline`, in a process of its own.

Usage: `python -m vibe.bench.load_venue RATE INFLUENCERS COINS SECONDS`

stdout: one JSON line with the venue's URLs, and one with `sent` when all trades are played. stdin: `begin` starts the
load; the end of stdin ends the process.
"""

import asyncio
import sys

import msgspec
import uvloop

from gateways.sandbox.hyperliquid import Limits
from gateways.sandbox.hyperliquid.load_source import LoadSource
from gateways.sandbox.hyperliquid.server import serve


async def main(rate: float, influencers: int, coins: int, seconds: float) -> None:
    source = LoadSource(rate=rate, influencers=influencers, coins=coins, seconds=seconds)
    # The software's own limits are measured here, not the venue's.
    venue = await serve(source, limits=Limits(weight_per_minute=1_000_000_000))
    _write({"ws_url": venue.ws_url, "url": venue.url})
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    try:
        if await lines.readline():
            source.begin.set()
            ended = asyncio.create_task(lines.readline())
            played = asyncio.create_task(venue.done.wait())
            await asyncio.wait({ended, played}, return_when=asyncio.FIRST_COMPLETED)
            _write({"sent": source.sent})
            await ended
    finally:
        await venue.close()


def _write(message: dict[str, object]) -> None:
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
