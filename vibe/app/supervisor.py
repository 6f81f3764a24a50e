"""The parent of the processes of `vibe up` and `vibe demo`: starts them together and restarts those that die."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateways.keys.sources import without_keys
from streams.retry import RetryPolicy
from vibe.app import metrics
from vibe.app.worker_process import SUPERVISED

log = structlog.get_logger()

_STOP_SECONDS = 10.0
_RESTARTS = RetryPolicy(first_delay=0.2, longest_delay=10.0)


@dataclass
class Child:
    """One child process: its command and its status. The start of the others waits for none that is not essential."""

    name: str
    arguments: list[str]
    essential: bool = True
    keys: bool = False
    process: asyncio.subprocess.Process | None = None
    prepared: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    input_ended: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False
    restarts: int = 0
    http_port: int | None = None
    """Where it serves its health and metrics, once it has reported that."""

    @property
    def serves_http(self) -> bool:
        """Whether it serves them: the sandbox is no part of the system."""
        return self.arguments[0] in ("run", "web")

    task: asyncio.Task[None] | None = None


class Supervisor:
    """Children by name. Each connects and waits for `go`; from then on a child that dies is started again."""

    def __init__(self, environment: Mapping[str, str], logs: Path, inherited: Sequence[int] = ()) -> None:
        """`inherited`: descriptors that every child gets."""
        self._inherited = tuple(inherited)
        self._environment = {**os.environ, **environment, SUPERVISED: "1"}
        self._logs = logs
        self._offset: int | None = None
        self.children: dict[str, Child] = {}

    def start(self, name: str, arguments: list[str], *, essential: bool = True, keys: bool = False) -> Child:
        """Start `vibe <arguments>` as a child; its log goes to logs/<name>.log. Only a child with `keys` gets what the
        environment holds of agents' keys."""
        child = Child(name, arguments, essential, keys)
        self.children[name] = child
        child.task = asyncio.create_task(self._keep(child))
        return child

    def go(self, offset_ns: int) -> None:
        """Let every child work, now and after every restart, on a clock shifted by `offset_ns`."""
        self._offset = offset_ns
        for child in self.children.values():
            if child.process is not None and child.prepared.is_set():
                self._send_go(child)

    async def end_input(self) -> None:
        """Take nothing more from venues; what was received is stored."""
        child = next(child for child in self.children.values() if "ingest" in child.arguments)
        if child.arguments == ["run", "ingest"]:
            await self.stop(child.name)
        elif child.process is not None and child.process.stdin is not None:
            child.process.stdin.write(b"end input\n")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.input_ended.wait(), _STOP_SECONDS)

    async def stop(self, *names: str) -> None:
        """End the named children (all when none is named): SIGTERM, then SIGKILL after ten seconds."""
        chosen = [self.children[name] for name in names] if names else list(self.children.values())
        for child in chosen:
            child.stopping = True
            if child.process is not None and child.process.returncode is None:
                child.process.terminate()
        for child in chosen:
            await self._gone(child)

    async def _gone(self, child: Child) -> None:
        if child.task is None:
            return
        done, _ = await asyncio.wait([child.task], timeout=_STOP_SECONDS)
        if not done:
            log.warning("child.killed", name=child.name, why=f"did not stop within {_STOP_SECONDS:g} s")
            if child.process is not None and child.process.returncode is None:
                child.process.kill()
            child.task.cancel()
            await asyncio.gather(child.task, return_exceptions=True)

    async def _keep(self, child: Child) -> None:
        backoff = _RESTARTS.start()
        while not child.stopping:
            started = asyncio.get_running_loop().time()
            code = await self._run(child)
            if child.stopping:
                return
            child.restarts += 1
            metrics.RESTARTS.labels(child.name).inc()
            if asyncio.get_running_loop().time() - started > 30:
                backoff.reset()
            delay = backoff.next_delay()
            log.warning(
                "child.died", name=child.name, code=code, restart_in_seconds=delay, log=str(self._log_path(child))
            )
            await asyncio.sleep(delay)

    async def _run(self, child: Child) -> int:
        child.prepared.clear()
        child.ready.clear()
        child.http_port = None
        metrics.UP.labels(child.name).set(0)
        self._logs.mkdir(parents=True, exist_ok=True)
        with self._log_path(child).open("ab") as logfile:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "vibe",
                *child.arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=logfile,
                env=self._environment if child.keys else without_keys(self._environment),
                pass_fds=self._inherited,
            )
        assert child.process.stdout is not None
        try:
            async for line in child.process.stdout:
                if line.startswith(b"http "):
                    child.http_port = int(line.split()[1])
                    continue
                match line.strip():
                    case b"prepared":
                        child.prepared.set()
                        if self._offset is not None:
                            self._send_go(child)
                    case b"ready":
                        child.ready.set()
                        metrics.UP.labels(child.name).set(1)
                    case b"done":
                        child.done.set()
                    case b"input ended":
                        child.input_ended.set()
            return await child.process.wait()
        except asyncio.CancelledError:
            if child.process.returncode is None:
                child.process.kill()
            raise

    def _send_go(self, child: Child) -> None:
        assert child.process is not None
        assert child.process.stdin is not None
        child.process.stdin.write(f"go {self._offset}\n".encode())

    def _log_path(self, child: Child) -> Path:
        return self._logs / f"{child.name}.log"

    async def wait_for_all(
        self,
        event: Callable[[Child], asyncio.Event],
        timeout: float,
        status: str,
        progress: Callable[[str], None],
        report_every: float = 2.0,
    ) -> None:
        """Return when `event` is set for every essential child, and report each one that got there as having this
        `status`.

        Reports every `report_every` seconds which it waits for. Raises TimeoutError with the names of those that are
        late and the ends of their logs.
        """
        essential = [child for child in self.children.values() if child.essential]
        waiting = {asyncio.ensure_future(event(child).wait()): child.name for child in essential}
        count, pending, deadline = len(waiting), set(waiting), asyncio.get_running_loop().time() + timeout
        try:
            while pending:
                left = deadline - asyncio.get_running_loop().time()
                done, pending = await asyncio.wait(
                    pending, timeout=min(left, report_every), return_when=asyncio.FIRST_COMPLETED
                )
                late = sorted(waiting[task] for task in pending)
                if not done and left > report_every:
                    progress(f"not {status} yet: {', '.join(late)}")
                    continue
                if not done:
                    tails = "\n".join(f"--- {self._logs / name}.log\n{self._tail(name)}" for name in late)
                    raise TimeoutError(f"not {status} within {timeout:g} s: {', '.join(late)}\n{tails}")
                names = ", ".join(sorted(waiting[task] for task in done))
                progress(f"{status}: {names} ({count - len(pending)} of {count})")
        finally:
            for task in pending:
                task.cancel()

    def _tail(self, name: str) -> str:
        path = self._logs / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-8:]) if path.exists() else ""
