"""`vibe up`: servers, all stages and the read models, in one supervised process group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from gateways.embedded import Addresses, servers
from handlers.services.config_import import Imported, import_lines
from streams import topology
from streams.connection import Connection, connect
from vibe.app import pipeline_lag
from vibe.app.settings import Settings, nats_conf
from vibe.app.supervisor import Supervisor

PROCESSES: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest",),
    "signals": ("normalize", "group", "quote", "match", "mark", "resolve"),
    "copies": ("plan", "execute"),
    "projections": ("projections",),
}
"""Which stages share a process on one machine. Any other split works as well: `vibe run STAGE...`."""

DRAIN_SECONDS = 60.0
_START_SECONDS = 60.0


class NotDrainedError(Exception):
    """Input ended, and something was not worked off in time."""


@dataclass
class RunningSystem:
    """Everything that runs, for whoever watches it."""

    settings: Settings
    addresses: Addresses
    connection: Connection
    database: asyncpg.Pool[Any]
    """Connections that come back after Postgres was away."""
    supervisor: Supervisor


@asynccontextmanager
async def running_system(
    settings: Settings, progress: Callable[[str], None], environment: dict[str, str] | None = None
) -> AsyncIterator[RunningSystem]:
    """Servers running, streams applied, no stage started yet; everything stops at the end."""
    async with servers(
        settings.data_dir,
        nats_conf(),
        nats_url=settings.nats_url,
        postgres_dsn=settings.dsn,
        progress=progress,
    ) as addresses:
        connection = await connect(addresses.nats_url, "vibe up")
        await topology.apply(connection, settings.replicas)
        database = await asyncpg.create_pool(addresses.postgres_dsn, min_size=0, max_size=2, timeout=10)
        supervisor = Supervisor(
            {
                "VIBE_NATS_URL": addresses.nats_url,
                "VIBE_POSTGRES_DSN": addresses.postgres_dsn,
                **(environment or {}),
            },
            settings.data_dir / "logs",
        )
        try:
            yield RunningSystem(settings, addresses, connection, database, supervisor)
        finally:
            await supervisor.stop()
            await connection.close()
            database.terminate()


async def configure(
    connection: Connection, path: Path | None, now: int, actor: str, bankroll_micros: int
) -> Imported | None:
    """Import a configuration file before anything starts."""
    if path is None:
        return None
    with path.open(encoding="utf-8") as lines:
        return await import_lines(connection, lines, actor=actor, now=now, bankroll_micros=bankroll_micros)


async def import_demo(running: RunningSystem, lines: Iterable[str], now: int) -> None:
    """The demo's own configuration, recorded on the scenario's clock."""
    bankroll = running.settings.bankroll_micros
    imported = await import_lines(running.connection, lines, actor="vibe demo", now=now, bankroll_micros=bankroll)
    assert not imported.bad, imported.bad


def start_stages(supervisor: Supervisor) -> None:
    """Start every process of stages; they wait for `go`."""
    for name, stages in PROCESSES.items():
        supervisor.start(name, ["run", *stages])


async def prepared(supervisor: Supervisor) -> None:
    await supervisor.all(lambda child: child.prepared.wait(), _START_SECONDS, "started")


async def ready(supervisor: Supervisor) -> None:
    await supervisor.all(lambda child: child.ready.wait(), _START_SECONDS, "ready")


async def drain(running: RunningSystem, progress: Callable[[str], None]) -> None:
    """Take no more input, then wait until every event has gone the whole way. Raises NotDrainedError."""
    await running.supervisor.stop("ingest")
    deadline = time.monotonic() + DRAIN_SECONDS
    calm = 0
    while True:
        waiting = await pipeline_lag.drained(running.connection, running.database)
        calm = 0 if waiting else calm + 1
        if calm >= 2:  # twice in a row: nothing was between two places at the first look
            return
        if time.monotonic() > deadline:
            raise NotDrainedError(f"not drained after {DRAIN_SECONDS:g} s: {waiting}")
        if waiting:
            progress(f"draining: {waiting}")
        await asyncio.sleep(0.2)
