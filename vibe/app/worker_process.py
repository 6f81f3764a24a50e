"""A process of stages: by itself (`vibe run`), or as a child of `vibe up`, which decides when it starts to work.

The child's stdin: one line 'go <clock offset ns>', and 'end input' when nothing more is to be taken from venues; its
end means that the parent has died, and the child ends too. Its stdout: 'prepared' when connected, 'ready' when working,
'input ended' when what was received is stored. SIGTERM ends the stages; a terminal's SIGINT is left to the
parent, which then ends its children in order.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar

import structlog

from vibe.app.clock import Clock
from vibe.app.http_endpoints import child_endpoints, endpoints
from vibe.app.log_metrics import watched_log
from vibe.app.observability import of_this_process
from vibe.app.settings import Settings
from vibe.app.wiring import Process

log = structlog.get_logger()


T = TypeVar("T")

SUPERVISED = "VIBE_SUPERVISED"
"""Set in the environment of the children of `vibe up` and `vibe demo`."""


class Parent:
    """The pipes to the parent."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._go: asyncio.Future[int] = self._loop.create_future()
        self.end_input = asyncio.Event()
        threading.Thread(target=self._read, name="parent", daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "go":
                self._loop.call_soon_threadsafe(self._go.set_result, int(rest))
            elif word == "end":
                self._loop.call_soon_threadsafe(self.end_input.set)
        # The parent was killed, and its servers end with it: there is nothing left to do here.
        os._exit(70)

    async def go(self, stop: asyncio.Event) -> int | None:
        """The clock's offset in ns, once the parent sends it; None when `stop` is set before."""
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        await asyncio.wait([stopped, self._go], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        return self._go.result() if self._go.done() else None

    def report(self, word: str) -> None:
        sys.stdout.write(word + "\n")
        sys.stdout.flush()


def stop_on_signals(*, terminal: bool) -> asyncio.Event:
    """An event that SIGTERM sets, and with `terminal` SIGINT (Ctrl-C) too; without, SIGINT is ignored."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if terminal:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return stop


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; cancelled, raising KeyboardInterrupt, when `stop` is set before it is done."""
    task, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise KeyboardInterrupt
    finally:
        stopped.cancel()
        task.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


Beside = Callable[[Clock], AbstractAsyncContextManager[object]]
"""What a process runs beside its stages, on their clock."""


def nothing_beside(clock: Clock) -> AbstractAsyncContextManager[object]:
    """Only stages."""
    return nullcontext()


async def run_supervised(
    settings: Settings, nats_url: str, dsn: str, stages: tuple[str, ...], beside: Beside = nothing_beside
) -> None:
    """Connect, wait for the parent's `go`, work until SIGTERM."""
    stop = stop_on_signals(terminal=False)
    parent = Parent()
    async with Process(settings, nats_url, dsn, stages) as process:
        parent.report("prepared")
        offset = await parent.go(stop)
        if offset is None:
            return
        clock = Clock(offset)
        answers = of_this_process(lambda: health_of(process, stages))
        async with child_endpoints(answers, parent.report), beside(clock):
            ending = asyncio.create_task(_end_input(parent, process))
            try:
                await process.run(clock, stop, lambda: parent.report("ready"))
            finally:
                ending.cancel()


async def _end_input(parent: Parent, process: Process) -> None:
    await parent.end_input.wait()
    await process.end_input()
    parent.report("input ended")


async def run_alone(
    settings: Settings, nats_url: str, dsn: str, stages: tuple[str, ...], beside: Beside = nothing_beside
) -> None:
    """Work until SIGTERM or Ctrl-C; serve health and metrics when a port is set."""
    stop = stop_on_signals(terminal=True)
    async with Process(settings, nats_url, dsn, stages) as process:
        clock = Clock()
        answers = of_this_process(lambda: health_of(process, stages))
        async with endpoints(settings, answers), watched_log(settings, nats_url, stages), beside(clock):
            await process.run(clock, stop)


def health_of(process: Process, stages: tuple[str, ...]) -> dict[str, object]:
    """The body of /healthz: a process that has a problem works on, and is not well. It is not ready while a server does
    not answer, and while the log refuses one of its stages or one is behind."""
    problems = process.problems
    ready = process.ready and not process.waits_for and not process.stuck
    return {"ok": ready and not problems, "ready": ready, "stages": list(stages), "problems": problems}
