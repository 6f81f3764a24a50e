"""The venue of `vibe bench pipeline` and `vibe bench quotes`, in a process of its own.

Usage: `python -m vibe.bench.load_venue RATE INFLUENCERS COINS SECONDS [real-limits]`

stdout: one JSON line with the venue's URLs, and one with `sent` and what clients used of its limits when all trades
are played or a second line was read. stdin: `begin` starts the load; the end of stdin ends the process.
"""

import asyncio
import sys

import msgspec
import uvloop

from gateways.sandbox.hyperliquid import Limits
from gateways.sandbox.hyperliquid.load_source import LoadSource
from gateways.sandbox.hyperliquid.server import serve

REAL_LIMITS = "real-limits"
"""The venue's request weight is enforced; without it, the software's own limits are measured."""


async def main(rate: float, influencers: int, coins: int, seconds: float, *, real_limits: bool) -> None:
    source = LoadSource(rate=rate, influencers=influencers, coins=coins, seconds=seconds)
    venue = await serve(source, limits=Limits() if real_limits else Limits(weight_per_minute=1_000_000_000))
    _write({"ws_url": venue.ws_url, "url": venue.url})
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    try:
        if await lines.readline():
            source.begin.set()
            ended = asyncio.create_task(lines.readline())
            played = asyncio.create_task(venue.done.wait())
            await asyncio.wait({ended, played}, return_when=asyncio.FIRST_COMPLETED)
            _write({"sent": source.sent, "usage": venue.usage})
            await ended
    finally:
        await venue.close()


def _write(message: dict[str, object]) -> None:
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    rate, influencers, coins, seconds, *flags = sys.argv[1:]
    uvloop.run(main(float(rate), int(influencers), int(coins), float(seconds), real_limits=REAL_LIMITS in flags))
