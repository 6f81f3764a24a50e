"""Orphans: servers that outlived the owner of their folder. A new owner ends them before it starts its own.

On Linux the kernel sends them their stop signal when the owner dies, so mostly this only waits for them to end.
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
from gateways.embedded.server import Progress, Server

POLL_S = 0.05
REMOVING_S = 10.0

log = structlog.get_logger()


async def end_orphan(server: Server, pid: int, progress: Progress, step_s: tuple[float, float, float]) -> None:
    """Return when no process `pid` serves the server's folder any more. Raises ServerError when it cannot be ended.

    `step_s` is how long it may take to end by itself, after its stop signal, and after SIGKILL.
    """
    if not serves(pid, server.data):
        return
    progress(f"waiting for the former {server.name} server (process {pid}) to stop")
    for number, seconds in zip((None, server.stop_signal, signal.SIGKILL), step_s, strict=True):
        if number is not None:
            log.warning("ending a server that outlived its owner", server=server.name, pid=pid, signal=number.name)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
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

    Postgres would take that process for itself and refuse to start. This happens after a reboot and in a container,
    where low numbers come back. A number without a process is left to Postgres' own, stricter checks.
    """
    pid = pid_in(pid_file)
    if pid is not None and alive(pid) and not serves(pid, data):
        log.warning("removing a pid file that names another program's process", path=str(pid_file), pid=pid)
        pid_file.unlink(missing_ok=True)


async def remove(tree: Path) -> None:
    """Remove a folder into which an orphan may still be writing; a folder that stays is logged."""
    deadline = time.monotonic() + REMOVING_S
    while not await asyncio.to_thread(_removed, tree):
        if time.monotonic() > deadline:
            log.warning("an unfinished folder could not be removed, remove it by hand", path=str(tree))
            return
        await asyncio.sleep(POLL_S)


def _removed(tree: Path) -> bool:
    # A file that is made or removed between the listing of a folder and its removal leaves the rest behind.
    shutil.rmtree(tree, ignore_errors=True)
    return not tree.exists()


def pid_in(pid_file: Path) -> int | None:
    """The process number on the first line of the file; None without such a file."""
    try:
        return int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def alive(pid: int) -> bool:
    """Whether there is such a process; a zombie counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def serves(pid: int, data: Path) -> bool:
    """Whether the process runs and has the folder among its arguments: the system reuses pids, but not folders."""
    if not alive(pid):
        return False
    if Path("/proc/self/cmdline").exists():
        with contextlib.suppress(OSError):
            return os.fsencode(data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return False
    listed = subprocess.run(["ps", "-p", str(pid), "-o", "args="], capture_output=True, text=True, check=False)
    return f"{data} " in listed.stdout.replace("\n", " ")
