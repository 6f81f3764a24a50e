"""The child's side of `vibe up`: stages in a process of their own, told over pipes when to start.

stdin: one line 'go <clock offset ns>'; its end means that the parent is gone, and then so are we. stdout: 'prepared'
when connected, 'ready' when working. SIGTERM ends the stages in order; a terminal's SIGINT is left to the parent.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from vibe.app.clock import Clock
from vibe.app.observability import serve_health
from vibe.app.settings import Settings
from vibe.app.wiring import Process

log = structlog.get_logger()


T = TypeVar("T")


class Parent:
    """The pipes to the parent: `go` is set with the clock's offset."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.go: asyncio.Future[int] = self._loop.create_future()
        threading.Thread(target=self._listen, name="parent", daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "go":
                self._loop.call_soon_threadsafe(self.go.set_result, int(rest))
        # The parent died without a word: its servers go with it, so there is nothing left to do here.
        os._exit(70)

    def say(self, word: str) -> None:
        sys.stdout.write(word + "\n")
        sys.stdout.flush()


def stop_on_signals(*, terminal: bool) -> asyncio.Event:
    """An event set by SIGTERM, and by SIGINT when a terminal is ours to listen to."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if terminal:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return stop


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
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


async def run_supervised(settings: Settings, nats_url: str, dsn: str, stages: tuple[str, ...]) -> None:
    """Prepare, wait for the parent's go, work until SIGTERM."""
    stop = stop_on_signals(terminal=False)
    parent = Parent()
    async with Process(settings, nats_url, dsn, stages) as process:
        parent.say("prepared")
        clock = Clock(await parent.go)
        await process.run(clock, stop, lambda: parent.say("ready"))


async def run_alone(settings: Settings, nats_url: str, dsn: str, stages: tuple[str, ...]) -> None:
    """Work until SIGTERM or Ctrl-C, answering health questions when a port is set."""
    stop = stop_on_signals(terminal=True)
    async with Process(settings, nats_url, dsn, stages) as process:
        runner = None
        if settings.http_port:
            runner = await serve_health(
                settings.http_host, settings.http_port, lambda: {"ok": process.ready, "stages": list(stages)}
            )
        try:
            await process.run(Clock(), stop)
        finally:
            if runner is not None:
                await runner.cleanup()
