"""`vibe up`: servers, all stages and the read models, in one supervised process group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from gateways.embedded import Addresses
from projections.engine.sessions import COMMAND_SECONDS, open_pool
from streams.connection import Connection, connect
from streams.login import as_role
from streams.roles import OPS_WRITER
from vibe.app import pipeline_lag
from vibe.app.group_endpoints import group_endpoints
from vibe.app.http_endpoints import endpoints
from vibe.app.log_metrics import watch
from vibe.app.servers import open_addresses, prepare_streams
from vibe.app.settings import Settings
from vibe.app.supervisor import Supervisor
from vibe.app.web_process import WEB
from vibe.app.wiring import EXECUTE

_SIGNALS = ("normalize", "group", "quote", "match", "exits", "mark", "resolve")
PROCESSES: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest",),
    "signals": _SIGNALS,
    "copies": ("plan",),
    "projections": ("projections",),
}
"""Which stages share a process on one machine. Any other split works as well: `vibe run STAGE...`."""
MOST_PROCESSES = len(PROCESSES) + 7
"""With a process of copies for each of eight lanes."""


def processes_of(count: int) -> dict[str, tuple[str, ...]]:
    """The processes by name and the stages of each, for so many processes; beyond four, `plan` is shared by several.

    Raises ValueError for more than there are lanes to share.
    """
    match count:
        case 1:
            return {"stages": ("ingest", *_SIGNALS, "plan", "projections")}
        case 2:
            return {"signals": ("ingest", *_SIGNALS), "copies": ("plan", "projections")}
        case 3:
            return {"signals": ("ingest", *_SIGNALS), "copies": ("plan",), "projections": ("projections",)}
    if not 1 <= count <= MOST_PROCESSES:
        raise ValueError(f"from 1 to {MOST_PROCESSES} processes, not {count}")
    more = {f"copies-{number}": ("plan",) for number in range(2, count - len(PROCESSES) + 2)}
    return {**PROCESSES, **more}


DRAIN_SECONDS = 60.0
EXITS_SECONDS = 240.0
"""How long a session that ends waits for owed exits: by default the seventh try, at the market, comes after 168 s."""
_START_SECONDS = 60.0


class NotDrainedError(Exception):
    """Input ended, and some of it was not processed in time."""


@dataclass
class RunningSystem:
    """Everything that runs, and the connections to look at it."""

    settings: Settings
    addresses: Addresses
    connection: Connection
    database: asyncpg.Pool[Any]
    """Reconnects after Postgres was away."""
    supervisor: Supervisor
    http_port: int | None
    """Where health and metrics of all processes are; None where they are off."""


@asynccontextmanager
async def running_system(
    settings: Settings,
    progress: Callable[[str], None],
    environment: dict[str, str] | None = None,
    inherited: tuple[int, ...] = (),
) -> AsyncIterator[RunningSystem]:
    """Servers running, streams applied, no stage started yet; everything stops at the end. Processes get the
    environment and inherit the descriptors."""
    async with open_addresses(settings, progress) as addresses:
        await prepare_streams(addresses.nats_url, settings.replicas)
        connection = await connect(as_role(addresses.nats_url, OPS_WRITER), "vibe up")
        database = await open_pool(addresses.postgres_dsn, COMMAND_SECONDS, max_size=2)
        supervisor = Supervisor(
            {
                "VIBE_NATS_URL": addresses.nats_url,
                "VIBE_POSTGRES_DSN": addresses.postgres_dsn,
                **(environment or {}),
            },
            settings.data_dir / "logs",
            inherited,
        )
        progress("nats-server and Postgres are running, starting the stages")
        watching = asyncio.create_task(watch(connection, settings.data_dir))
        try:
            async with endpoints(settings, group_endpoints(supervisor)) as port:
                yield RunningSystem(settings, addresses, connection, database, supervisor, port)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await supervisor.stop()
            await connection.close()
            database.terminate()


def usual_processes(settings: Settings) -> int:
    """How many processes run the stages where nothing else is said."""
    return 1 if settings.profile == "small" else len(PROCESSES)


def start_stages(supervisor: Supervisor, count: int, *, pages: bool = True, live: bool = False) -> None:
    """Start so many processes of stages, with `pages` one more, and with `live` one that sends live orders; they
    connect and wait for `go`. A single process of stages serves the pages too."""
    processes = processes_of(count)
    if live:
        supervisor.start(EXECUTE, ["run", EXECUTE], keys=True)
    if len(processes) == 1:
        ((name, stages),) = processes.items()
        supervisor.start(name, ["run", *stages, *(["--web"] if pages else [])])
        return
    if pages:
        supervisor.start(WEB, [WEB], essential=False)
    for name, stages in processes.items():
        supervisor.start(name, ["run", *stages])


async def prepared(supervisor: Supervisor, progress: Callable[[str], None]) -> None:
    """Return when every process is connected; TimeoutError names those that are not."""
    await supervisor.wait_for_all(lambda child: child.prepared, _START_SECONDS, "connected", progress)


async def ready(supervisor: Supervisor, progress: Callable[[str], None]) -> None:
    """Return when every process has loaded its state and works; TimeoutError names those that do not."""
    await supervisor.wait_for_all(lambda child: child.ready, _START_SECONDS, "ready", progress)


async def drain(running: RunningSystem, progress: Callable[[str], None]) -> None:
    """Stop the ingest, then wait until every stage has processed all of its input and no copy owes an exit. Raises
    NotDrainedError."""
    await running.supervisor.end_input()
    started, calm = time.monotonic(), 0
    deadline, limit = started + DRAIN_SECONDS, DRAIN_SECONDS
    while True:
        waiting = await pipeline_lag.drained(running.connection, running.database)
        if not waiting and (waiting := await pipeline_lag.exits_waiting(running.database)):
            # Nothing else is left. The last of the tries, at the market, comes minutes after the first.
            deadline, limit = max(deadline, started + EXITS_SECONDS), EXITS_SECONDS
        calm = 0 if waiting else calm + 1
        if calm >= 2:  # twice in a row: the first time an event may have been between two stages
            return
        if time.monotonic() > deadline:
            raise NotDrainedError(f"not drained after {limit:g} s: {waiting}")
        if waiting:
            progress(f"draining: {waiting}")
        await asyncio.sleep(0.2)
