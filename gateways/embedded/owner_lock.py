"""Owns or joins the servers of a data folder.

The process that holds the folder's lock starts, watches and stops the servers; every other process uses them. The
kernel releases the lock when its holder ends, and one of the processes that use the servers or wait for them becomes
their owner. It starts them again on the same ports, and clients reconnect by themselves: `vibe up` goes on after the
command whose servers it used has ended.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from gateways.embedded import orphans
from gateways.embedded.errors import ServerError
from gateways.embedded.folder import Folder, Running, State
from gateways.embedded.restart_loop import Supervised
from gateways.embedded.server import Progress, Server
from gateways.embedded.timing import Timing

POLL_S = 0.1
TAKE_OVER_POLL_S = 0.05

log = structlog.get_logger()

Ports = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Embedded:
    """The ports of each running server by its name, and whether this process stops them."""

    ports: Ports
    owned: bool


@asynccontextmanager
async def embedded(
    folder: Folder, wanted: Sequence[Server], progress: Progress, timing: Timing
) -> AsyncIterator[Embedded]:
    """The wanted servers, ready: started here unless another process runs them already."""
    began = time.monotonic()
    reported = 0.0
    while True:
        with folder.try_lock() as locked:
            if locked:
                async with _owned(folder, wanted, progress, timing) as ports:
                    yield Embedded(ports, owned=True)
                return
        state = folder.read()
        missing = await _unready(state, wanted)
        if missing is None:
            ports = {server.name: state.servers[server.name].ports for server in wanted}
            async with _joined(folder, wanted, ports, progress, timing):
                yield Embedded(ports, owned=False)
            return
        waited = time.monotonic() - began
        if waited > timing.join_s:
            raise ServerError(
                f"expected process {state.owner} to start the servers of {folder.root} within {timing.join_s:.0f} s, "
                f"but {missing}; look into {folder.logs}, stop that process, then start again"
            )
        if waited - reported >= timing.report_every_s:
            reported = waited
            progress(f"waiting for process {state.owner} to start the servers of {folder.root} ({waited:.0f} s)")
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def _joined(
    folder: Folder, wanted: Sequence[Server], ports: Ports, progress: Progress, timing: Timing
) -> AsyncIterator[None]:
    successor = asyncio.create_task(_take_over(folder, wanted, ports, progress, timing))
    try:
        yield
    finally:
        successor.cancel()
        await asyncio.gather(successor, return_exceptions=True)


async def _take_over(
    folder: Folder, wanted: Sequence[Server], ports: Ports, progress: Progress, timing: Timing
) -> None:
    """Own the servers as soon as their owner has ended, until cancelled."""
    while True:
        try:
            with folder.try_lock() as locked:
                if locked:
                    log.warning(
                        "the process that ran the servers has ended, running them here", folder=str(folder.root)
                    )
                    async with _owned(folder, wanted, progress, timing) as now:
                        if now != ports:
                            log.error("servers have other ports now, restart this process", before=ports, now=now)
                        await asyncio.Event().wait()
        except ServerError as error:
            log.error("servers did not come back, trying again", why=str(error))
        await asyncio.sleep(TAKE_OVER_POLL_S)


@asynccontextmanager
async def _owned(folder: Folder, wanted: Sequence[Server], progress: Progress, timing: Timing) -> AsyncIterator[Ports]:
    owner = _Owner(folder, wanted, progress, timing)
    owner.save()
    watchers: list[asyncio.Task[None]] = []
    try:
        await owner.end_orphans()
        await _start_all(owner.servers)
        owner.ready = True
        owner.save()
        watchers = [asyncio.create_task(each.watch()) for each in owner.servers]
        yield {each.server.name: each.running.ports for each in owner.servers}
    finally:
        owner.ready = False
        try:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
        finally:
            await asyncio.gather(*(each.stop() for each in owner.servers))
            owner.save()


class _Owner:
    def __init__(self, folder: Folder, wanted: Sequence[Server], progress: Progress, timing: Timing) -> None:
        self.ready = False
        self._folder = folder
        self._progress = progress
        self._timing = timing
        self._before = folder.read().servers
        self.servers = [
            Supervised(server, self._before.get(server.name), progress, self.save, timing) for server in wanted
        ]

    def save(self) -> None:
        # The last ports of a server that this process does not run are kept for the next owner that does.
        others = {name: Running(ports=last.ports) for name, last in self._before.items()}
        ours = {each.server.name: each.running for each in self.servers}
        self._folder.write(State(owner=os.getpid(), ready=self.ready, servers=others | ours))

    async def end_orphans(self) -> None:
        for server in (each.server for each in self.servers):
            known = self._before.get(server.name)
            for pid in {known.pid if known else None, orphans.pid_in(server.pid_file)}:
                if pid is not None:
                    await orphans.end_orphan(server, pid, self._progress, self._timing.orphan_s)


async def _start_all(servers: Sequence[Supervised]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for each in servers:
                group.create_task(each.start())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _unready(state: State, wanted: Sequence[Server]) -> str | None:
    # A clean stop leaves ready=False; after a kill the owner's pid is gone, though servers.json still says ready.
    if not (state.ready and orphans.alive(state.owner)):
        return "they are not ready"
    for server in wanted:
        running = state.servers.get(server.name)
        if running is None or running.pid is None:
            raise ServerError(
                f"expected process {state.owner}, which owns the servers of this folder, to run {server.name} too, but "
                f"it was started with {server.setting}; give this process the same setting, or stop that one"
            )
        if (missing := await server.unready(running)) is not None:
            return f"{server.name}: {missing}"
    return None
