"""The projection engine: batch, fold, rows and position in one transaction, acknowledge (DESIGN 8).

Exactly once by position: a projection's place in a stream moves in the same transaction as its rows, and only from
where it was, in the generation it was. Postgres is the truth; the durable consumer is acknowledged afterwards so that
ops see the lag. One runner at a time holds an advisory lock.

A projection whose version or shape is not the stored one is rebuilt beside the live tables, which stay as they are
until the swap; so is a new one when the log is long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import structlog

from projections.engine import metrics, positions, schemas
from projections.engine.errors import BAD_ARCHIVE, LOST, LostPositionError, ProjectionError, UnprocessableRowError
from projections.engine.follow import ProjectionFollower
from projections.engine.projection import Projection
from projections.engine.rebuild import rebuild
from projections.engine.status import ProjectionStatus, projection_statuses
from streams.connection import Connection
from streams.envelope import Codec
from streams.errors import DataLossError, TopologyError
from streams.topology import Stream

log = structlog.get_logger()

ENGINE_LOCK = 0x76696265  # "vibe"
LONG_LOG = 100_000
"""From so many events on, a projection that has nothing yet is built by a rebuild rather than event by event."""


class Engine:
    """Runs projections over the streams they read; each stream is read once for all of them."""

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        dsn: str,
        projections: Sequence[Projection],
        clock: Callable[[], int],
        *,
        long_log: int = LONG_LOG,
        archive: str | None = None,
    ) -> None:
        """`archive` is where closed days are, for rebuilds of what the streams do not hold any more."""
        self._connection = connection
        self._codec = codec
        self._dsn = dsn
        self._projections = tuple(projections)
        self._clock = clock
        self._long_log = long_log
        self._archive = archive
        self._given_up: set[str] = set()
        self._writer = False
        self.ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. A lost database or log is waited for; nothing is lost or doubled meanwhile.

        Raises OtherLogError or DataLossError when the log is not what the read models were built from.
        """
        delay = 0.2
        while not stop.is_set():
            session: asyncpg.Connection[Any] | None = None
            try:
                session = await asyncpg.connect(self._dsn, timeout=10)
                if await self._acquire(session, stop):
                    delay = 0.2
                    live, outdated = await self._prepare(session)
                    await self._run(live, outdated, stop)
            except LOST as error:
                if isinstance(error, DataLossError | TopologyError):
                    raise
                log.warning("projections.retry", error=str(error) or type(error).__name__, in_seconds=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
            except LostPositionError as error:
                log.info("projections.reload", why=str(error))
            finally:
                if session is not None:
                    session.terminate()

    async def _acquire(self, session: asyncpg.Connection[Any], stop: asyncio.Event) -> bool:
        """Hold the lock; False when told to stop. Polled, because waiting for the lock inside Postgres can deadlock
        with index builds."""
        waited = False
        while not await session.fetchval("SELECT pg_try_advisory_lock($1)", ENGINE_LOCK):
            if stop.is_set():
                return False
            if not waited:
                log.info("projections.standby", why="another runner holds the lock")
                waited = True
            await asyncio.sleep(0.5)
        return True

    async def _prepare(self, session: asyncpg.Connection[Any]) -> tuple[list[ProjectionStatus], list[ProjectionStatus]]:
        """Make what is missing; which projections are live, and which have to be rebuilt first."""
        schema = await schemas.live_schema(session)
        await positions.prepare(session, schema)
        self._writer = await schemas.make_writer(session)
        if self._writer:
            await schemas.grant(session, schema, (), positions.TABLE)
        live: list[ProjectionStatus] = []
        outdated: list[ProjectionStatus] = []
        for standing in await projection_statuses(self._connection, session, self._projections):
            standing.check_log()
            if standing.absent:
                standing = await standing.create(session, writer=self._writer)
            if standing.outdated is None and standing.untouched and standing.waiting > self._long_log:
                standing = standing.marked(f"{standing.waiting:,} events are to be read")
            (live if standing.outdated is None else outdated).append(standing)
        return live, outdated

    async def _run(
        self, live: Sequence[ProjectionStatus], outdated: Sequence[ProjectionStatus], stop: asyncio.Event
    ) -> None:
        """Follow the streams, and rebuild the outdated beside; ends when a rebuild is done, to load all again."""
        streams = {stream.name: stream for standing in live for stream in standing.projection.reads}
        tasks = [asyncio.create_task(self._follow(stream, live, stop)) for stream in streams.values()]
        wanted = [standing for standing in outdated if standing.projection.name not in self._given_up]
        if wanted:
            tasks.append(asyncio.create_task(self._rebuild(wanted)))
        self.ready.set()
        stopped: asyncio.Task[Any] = asyncio.create_task(stop.wait())
        try:
            # The first to end takes the others with it: all start again from their positions.
            await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set() and streams:
                # A batch that is being stored is finished; a rebuild is not waited for.
                await asyncio.wait(tasks[: len(streams)], timeout=5)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in [*tasks, stopped]:
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)

    async def _follow(self, stream: Stream, live: Sequence[ProjectionStatus], stop: asyncio.Event) -> None:
        reading = [standing for standing in live if stream in standing.projection.reads]
        run = ProjectionFollower(self._connection, self._codec, stream, reading, self._clock, writer=self._writer)
        await run.run(self._dsn, stop)

    async def _rebuild(self, outdated: Sequence[ProjectionStatus]) -> None:
        for standing in outdated:
            log.info("projections.engine.rebuild", projection=standing.projection.name, why=standing.outdated)
        chosen = [standing.projection for standing in outdated]
        url = self._connection.client.connected_url
        assert url is not None
        try:
            await rebuild(
                url.geturl(),
                self._dsn,
                self._codec,
                chosen,
                resume=True,
                inside=False,
                archive=self._archive,
                shorten=True,  # nobody is here to be asked
            )
        except (ProjectionError, *BAD_ARCHIVE) as error:
            # The old tables stay; the next start tries again.
            names = [error.projection] if isinstance(error, UnprocessableRowError) else [each.name for each in chosen]
            self._given_up.update(names)
            for name in names:
                metrics.REBUILDS.labels(name, "failed").inc()
            log.error("projections.rebuild_failed", projections=names, why=str(error))
