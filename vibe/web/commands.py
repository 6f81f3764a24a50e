"""Work that takes seconds of a core runs as a `vibe` command in a process of its own, so that answers keep coming."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from vibe.web.problems import ConflictError, UnavailableError
from vibe.web.site import Site

_AT_A_TIME = 2
_RUNNING = asyncio.Semaphore(_AT_A_TIME)


async def run_vibe(site: Site, *arguments: str, timeout: float, stdin: bytes | None = None) -> Any:
    """What a command prints as JSON.

    With `stdin`, the argument FILE becomes the name of a temporary file with that content. Raises ConflictError when
    two run already, UnavailableError when it fails or takes longer than `timeout` s.
    """
    if _RUNNING.locked():
        raise ConflictError(f"{_AT_A_TIME} of these run already; wait until one is done")
    async with _RUNNING:
        with tempfile.TemporaryDirectory(prefix="vibe-web-") as folder:
            file = Path(folder) / "input.jsonl"
            if stdin is not None:
                file.write_bytes(stdin)
            given = [str(file) if argument == "FILE" else argument for argument in arguments]
            return await _run(site, given, timeout)


async def _run(site: Site, arguments: list[str], timeout: float) -> Any:
    environment = {**os.environ, "VIBE_NATS_URL": site.nats_url, "VIBE_POSTGRES_DSN": site.dsn}
    environment.pop("VIBE_SUPERVISED", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vibe",
        *arguments,
        "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    except TimeoutError:
        raise UnavailableError(f"it took longer than {timeout:g} s; choose a shorter span") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise UnavailableError(f"it failed: {err.decode(errors='replace').strip()[-500:]}")
    return msgspec.json.decode(out)
