"""Python modules as processes of their own, killed at the end of the block."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[2]


@asynccontextmanager
async def process(module: str, *args: str, log: Path) -> AsyncIterator[Process]:
    """`python -m module args`; its standard error goes to the end of `log`."""
    with log.open("ab") as errors:
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *args), cwd=PROJECT, stdin=PIPE, stdout=PIPE, stderr=errors
        )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def heard(started: Process, word: str, within: float = 30.0) -> None:
    """Wait until the process prints a line; AssertionError when it ends before."""
    assert started.stdout is not None
    async with asyncio.timeout(within):
        while line := await started.stdout.readline():
            if line.decode().strip() == word:
                return
    raise AssertionError(f"the process ended with {await started.wait()} before it said {word!r}")
