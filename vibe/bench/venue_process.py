"""The load venue (load_venue.py) as a process: started, asked to begin and to end, and asked what was used of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec

from vibe.bench.load_venue import REAL_LIMITS


class VenueProcess:
    """A running load venue."""

    def __init__(self, process: asyncio.subprocess.Process, urls: dict[str, str]) -> None:
        self.pid = process.pid
        self.url, self.ws_url = urls["url"], urls["ws_url"]
        self._process = process

    def begin(self) -> None:
        """Let it play its trades."""
        self._write(b"begin\n")

    def end(self) -> None:
        """Let it report before all trades are played."""
        self._write(b"end\n")

    async def report(self) -> dict[str, Any]:
        """`sent`, the number of trades played, and `usage`, what clients used of the limits; once it has ended."""
        return await _message(self._process)

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)


@asynccontextmanager
async def load_venue(
    *, rate: float, influencers: int, coins: int, seconds: float, real_limits: bool
) -> AsyncIterator[VenueProcess]:
    """A venue in a process of its own, killed at the end. `real_limits` enforces the venue's request weight."""
    arguments = [str(rate), str(influencers), str(coins), str(seconds), *([REAL_LIMITS] if real_limits else [])]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vibe.bench.load_venue",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield VenueProcess(process, await _message(process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _message(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError("the load venue ended before it was asked to")
    return cast(dict[str, Any], msgspec.json.decode(line))
