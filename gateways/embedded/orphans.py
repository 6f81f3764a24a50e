"""Servers that outlived the owner of their folder: a new owner ends them before it starts its own.

On Linux they are told to stop when their owner dies, so mostly this only waits for them to finish.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import structlog

from gateways.embedded.errors import ServerError
from gateways.embedded.server import Server, Tell

POLL_S = 0.05
# How long each step may take, in seconds: finishing by itself, after its stop signal, after SIGKILL.
PATIENCE_S = (5.0, 15.0, 10.0)
REMOVING_PATIENCE_S = 10.0

log = structlog.get_logger()


async def end_leftover(server: Server, pid: int, tell: Tell) -> None:
    """Return when no process `pid` serves the server's folder any more; ServerError when it cannot be ended."""
    if not serves(pid, server.data):
        return
    tell(f"waiting for the former {server.name} server (process {pid}) to stop")
    for number, patience in zip((None, server.stop_signal, signal.SIGKILL), PATIENCE_S, strict=True):
        if number is not None:
            log.warning("ending a server that outlived its owner", server=server.name, pid=pid, signal=number.name)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not serves(pid, server.data):
                return
            await asyncio.sleep(POLL_S)
    raise ServerError(
        f"expected the former {server.name} server of {server.data} to end, but process {pid} is still there "
        "after SIGKILL; end it by hand (it may belong to another user), then start again"
    )


def forget_reused_pid(pid_file: Path, data: Path) -> None:
    """Remove Postgres' pid file when its number now belongs to a process that is not this folder's Postgres.

    Postgres would take that process for itself and refuse to start, which happens after a reboot or in a container,
    where low numbers come back. A number that belongs to nobody is left to Postgres' own, stricter checks.
    """
    pid = pid_in(pid_file)
    if pid is not None and alive(pid) and not serves(pid, data):
        log.warning("removing a pid file that names a process of somebody else", path=str(pid_file), pid=pid)
        pid_file.unlink(missing_ok=True)


async def remove(tree: Path) -> None:
    """Remove a folder in which something that outlived its owner may still be writing; what stays is logged."""
    deadline = time.monotonic() + REMOVING_PATIENCE_S
    while not await asyncio.to_thread(_removed, tree):
        if time.monotonic() > deadline:
            log.warning("an unfinished folder could not be removed, remove it by hand", path=str(tree))
            return
        await asyncio.sleep(POLL_S)


def _removed(tree: Path) -> bool:
    # One file made or removed by another between the look into a folder and its removal is enough to leave the rest.
    shutil.rmtree(tree, ignore_errors=True)
    return not tree.exists()


def pid_in(pid_file: Path) -> int | None:
    """The process on the file's first line, if there is such a file."""
    try:
        return int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def alive(pid: int) -> bool:
    """Whether there is such a process, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def serves(pid: int, data: Path) -> bool:
    """Whether the process runs and has the folder among its arguments: pids are used again, folders are not."""
    if not alive(pid):
        return False
    if Path("/proc/self/cmdline").exists():
        with contextlib.suppress(OSError):
            return os.fsencode(data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return False
    listed = subprocess.run(["ps", "-p", str(pid), "-o", "args="], capture_output=True, text=True, check=False)
    return f"{data} " in listed.stdout.replace("\n", " ")
