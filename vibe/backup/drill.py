"""The drill: a set is restored into a fresh folder with servers of its own, the read models are rebuilt, and decisions
are traced and made again from what was restored."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from gateways.embedded import Addresses, servers
from handlers.live.event_codec import codec
from handlers.services.trace import Tracer
from handlers.services.trace_verification import verify_trace
from projections.engine.runner import Engine
from projections.engine.sessions import LOAD_SECONDS, open_pool
from projections.models import PROJECTIONS
from projections.queries.trace_index import PostgresTraceIndex
from streams.connection import Connection, connect
from vibe.app import pipeline_lag
from vibe.app.clock import Clock
from vibe.app.settings import Settings, nats_conf
from vibe.backup.restoring import Progress, RestoredStream, restore_streams, restore_tables
from vibe.backup.sets import BackupSets, Manifest
from vibe.web.store import prepare

_REBUILD_SECONDS = 3600.0


class DrilledTrace(NamedTuple):
    """One decision that was traced: `why` is None when its chain is whole and it comes out equal when made again."""

    id: str
    why: str | None


class Drill(NamedTuple):
    """What came of a drill; `seconds` is how long a restore takes until all read models are there."""

    name: str
    seconds: float
    streams: list[RestoredStream]
    tables_equal: bool
    traces: list[DrilledTrace]

    @property
    def digests_equal(self) -> bool:
        return self.tables_equal and all(stream.equal for stream in self.streams)

    @property
    def ok(self) -> bool:
        return self.digests_equal and not any(trace.why for trace in self.traces)


async def drill(
    sets: BackupSets, manifest: Manifest, settings: Settings, traces: int, progress: Progress = lambda _: None
) -> Drill:
    """Restore `manifest` into a temporary folder, which is removed in the end, and check what is there."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vibe-drill-", ignore_cleanup_errors=True) as folder:
        async with servers(Path(folder), nats_conf(), nats_memory_mb=settings.nats_memory_mb, progress=progress) as at:
            connection = await connect(at.nats_url, "vibe backup drill")
            try:
                streams = await restore_streams(sets, manifest, connection, at.nats_url, 1, progress)
                async with await open_pool(at.postgres_dsn, LOAD_SECONDS, max_size=4) as pool:
                    await prepare(pool)
                    rows = await restore_tables(sets, manifest, at.postgres_dsn)
                    progress("rebuilding the read models")
                    await _rebuild(connection, at, settings, pool)
                    seconds = time.monotonic() - began
                    drilled = await _traces(connection, pool, traces)
            finally:
                await connection.close()
    tables_equal = rows == {name: count for name, count in manifest.tables.items() if count}
    return Drill(manifest.name, round(seconds, 1), streams, tables_equal, drilled)


async def _rebuild(connection: Connection, at: Addresses, settings: Settings, pool: asyncpg.Pool[Any]) -> None:
    engine = Engine(connection, codec(), at.postgres_dsn, PROJECTIONS, Clock(), archive=settings.archive)
    stop = asyncio.Event()
    running = asyncio.create_task(engine.run(stop))
    try:
        async with asyncio.timeout(_REBUILD_SECONDS):
            # A poll: the engine notifies of no position that is the end of every stream.
            while not running.done() and await pipeline_lag.projection_lag(connection, pool):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        stop.set()
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _traces(connection: Connection, pool: asyncpg.Pool[Any], count: int) -> list[DrilledTrace]:
    chosen = await pool.fetch("SELECT attempt_id FROM copy_attempt ORDER BY random() LIMIT $1", count)
    async with pool.acquire() as session:
        return [await _traced(connection, session, row["attempt_id"]) for row in chosen]


async def _traced(connection: Connection, session: Any, attempt_id: str) -> DrilledTrace:
    found = await Tracer(connection, PostgresTraceIndex(session)).trace(attempt_id)
    if found is None:
        return DrilledTrace(attempt_id, "nothing has this id")
    verdicts = (await verify_trace(connection, found)).values()
    wrong = next((verdict.text() for verdict in verdicts if verdict.difference is not None), None)
    return DrilledTrace(attempt_id, wrong)
