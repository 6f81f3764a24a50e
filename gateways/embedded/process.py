"""One server process: started through `exec_server.py`, watched by polling, stopped by its signal, then by SIGKILL.

Every server is in a process group of its own. Ctrl-C in a terminal signals the whole foreground group, and Postgres
would shut down on it at once, before the stages that still write to it have drained. `kill -9` of the caller's group
therefore misses the servers, which is why they also die with their parent (PR_SET_PDEATHSIG) and why the next owner
of the folder looks for orphans (`orphans.py`).

The kernel sends the death signal when the *thread* that started the process ends: start servers from the thread of
the event loop, not from a worker.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

LAUNCHER = Path(__file__).with_name("exec_server.py")
STOP_TIMEOUT_S = 20.0
POLL_S = 0.05
LOG_ROTATES_AT_BYTES = 16 * 1024 * 1024
TAIL_LINES = 20
TAIL_BYTES = 8 * 1024

log = structlog.get_logger()


@dataclass(frozen=True)
class Command:
    """What to run and how to stop it."""

    program: Path
    args: tuple[str, ...]
    log: Path
    stop_signal: signal.Signals
    user: tuple[int, int] | None = None  # uid and gid to become; None keeps the caller's
    needs: tuple[Path, ...] = ()  # what that user must be able to open
    env: Mapping[str, str] | None = None  # None passes on the caller's


class Process:
    """A running command; its standard output and error are appended to the command's log file."""

    def __init__(self, command: Command) -> None:
        """Start the command. Not a coroutine, so that no cancellation can lose a process that was just started."""
        self.command = command
        _rotate(command.log)
        plan = {
            "parent": os.getpid(),
            "death_signal": int(command.stop_signal),
            "user": command.user,
            "needs": [str(path) for path in command.needs],
        }
        launch = [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(plan)]
        with command.log.open("ab") as output:
            self._log_start = output.seek(0, os.SEEK_END)
            self._popen = subprocess.Popen(
                [*launch, str(command.program), *command.args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=command.env,
                process_group=0,
            )
        self.pid = self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -N when signal N ended it."""
        return self._popen.poll()

    async def exited(self) -> int:
        """Wait for the end and return the exit code."""
        # Polled, because a child watcher belongs to one kind of event loop and this runs on any.
        while True:
            if (code := self.exit_code) is not None:
                return code
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """Send the stop signal, wait up to 20 s, then kill. Cancelling kills at once: no process is left behind."""
        if self.exit_code is not None:
            return
        self._signal(self.command.stop_signal)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.exited()
        except TimeoutError:
            log.warning("server ignored its stop signal, killing it", program=self.name, pid=self.pid)
        finally:
            if self.exit_code is None:
                self._signal(signal.SIGKILL)
                self._popen.wait()

    @property
    def name(self) -> str:
        """The program's file name."""
        return self.command.program.name

    def tail(self) -> str:
        """The last lines this process wrote to its log."""
        with contextlib.suppress(OSError), self.command.log.open("rb") as written:
            end = written.seek(0, os.SEEK_END)
            written.seek(max(self._log_start, end - TAIL_BYTES))
            return "\n".join(written.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
        return ""

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._popen.send_signal(number)


def _rotate(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_ROTATES_AT_BYTES:
        path.replace(path.with_name(path.name + ".1"))
