"""The projection engine: read a batch, fold it, write rows and positions in one transaction, acknowledge.

Rows are written exactly once because the position moves in their transaction, and only from its expected value
(docs/design.md, projections). The durable consumer is acknowledged afterwards and only shows operators the lag. An
advisory lock keeps a second engine in standby.

A projection whose version or shape differs from the stored one is rebuilt beside the live tables, which stay unchanged
until the swap. A new projection is built the same way when the log is long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import structlog

from projections.engine import metrics, positions, schemas
from projections.engine.errors import (
    ARCHIVE_ERRORS,
    RETRIES,
    UNAVAILABLE,
    LostPositionError,
    ProjectionError,
    UnprocessableRowError,
)
from projections.engine.follow import ProjectionFollower
from projections.engine.projection import Projection
from projections.engine.rebuild import rebuild
from projections.engine.sessions import open_session
from projections.engine.status import ProjectionStatus, projection_statuses
from streams.connection import Connection
from streams.envelope import Codec
from streams.errors import DataLossError, TopologyError
from streams.topology import Stream

log = structlog.get_logger()

ENGINE_LOCK = 0x76696265  # "vibe"
LONG_LOG = 100_000
"""A new projection with more pending events than this is built by a rebuild instead of event by event."""

_COMMAND_SECONDS = 60.0
"""The longest that one statement of the session that holds the engine's lock may take."""
_KEEPALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "2"}
"""Lets Postgres release the engine's lock seconds after an engine is gone without closing its connection."""


class Engine:
    """Runs projections over the streams that they read; each stream is read once for all of them."""

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
        """`archive`: the URL or folder of closed days, for rebuilds of what the streams no longer hold."""
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
        """Run until `stop` is set. While Postgres or the log is unreachable, retry with backoff.

        Raises OtherLogError or DataLossError when the log is not the one that the read models were built from.
        """
        backoff = RETRIES.start()
        while not stop.is_set():
            session: asyncpg.Connection[Any] | None = None
            try:
                session = await open_session(self._dsn, _COMMAND_SECONDS, server_settings=_KEEPALIVE)
                if await self._acquire(session, stop):
                    backoff.reset()
                    live, outdated = await self._prepare(session)
                    await self._run(live, outdated, stop)
            except UNAVAILABLE as error:
                if isinstance(error, DataLossError | TopologyError):
                    raise
                delay = backoff.next_delay()
                log.warning("projections.retry", error=str(error) or type(error).__name__, in_seconds=delay)
                await asyncio.sleep(delay)
            except LostPositionError as error:
                log.info("projections.reload", why=str(error))
            finally:
                if session is not None:
                    session.terminate()

    async def _acquire(self, session: asyncpg.Connection[Any], stop: asyncio.Event) -> bool:
        """Acquire the engine's lock; False when stopped first. Polls, because waiting for the lock inside Postgres can
        deadlock with index builds."""
        waited = False
        while not await session.fetchval("SELECT pg_try_advisory_lock($1)", ENGINE_LOCK):
            if stop.is_set():
                return False
            if not waited:
                log.info("projections.standby", why="another engine holds the lock")
                waited = True
            await asyncio.sleep(0.5)
        return True

    async def _prepare(self, session: asyncpg.Connection[Any]) -> tuple[list[ProjectionStatus], list[ProjectionStatus]]:
        """Create missing tables; returns the live projections and those that have to be rebuilt first."""
        schema = await schemas.live_schema(session)
        await positions.prepare(session, schema)
        self._writer = await schemas.make_writer(session)
        if self._writer:
            await schemas.grant(session, schema, (), positions.TABLE)
        live: list[ProjectionStatus] = []
        outdated: list[ProjectionStatus] = []
        for status in await projection_statuses(self._connection, session, self._projections):
            status.check_log()
            if status.absent:
                status = await status.create(session, writer=self._writer)
            if status.outdated is None and status.unread and status.pending > self._long_log:
                status = status.as_outdated(f"{status.pending:,} events are pending")
            (live if status.outdated is None else outdated).append(status)
        return live, outdated

    async def _run(
        self, live: Sequence[ProjectionStatus], outdated: Sequence[ProjectionStatus], stop: asyncio.Event
    ) -> None:
        """Follow the streams and rebuild outdated projections meanwhile; returns after a rebuild, to load everything
        again."""
        streams = {stream.name: stream for status in live for stream in status.projection.reads}
        tasks = [asyncio.create_task(self._follow(stream, live, stop)) for stream in streams.values()]
        wanted = [status for status in outdated if status.projection.name not in self._given_up]
        if wanted:
            tasks.append(asyncio.create_task(self._rebuild(wanted)))
        self.ready.set()
        stopped: asyncio.Task[Any] = asyncio.create_task(stop.wait())
        try:
            # When one task ends all are cancelled; the next round starts from the stored positions.
            await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set() and streams:
                # Let followers finish the batch that they are storing; a rebuild is interrupted.
                await asyncio.wait(tasks[: len(streams)], timeout=5)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in [*tasks, stopped]:
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)

    async def _follow(self, stream: Stream, live: Sequence[ProjectionStatus], stop: asyncio.Event) -> None:
        reading = [status for status in live if stream in status.projection.reads]
        follower = ProjectionFollower(self._connection, self._codec, stream, reading, self._clock, writer=self._writer)
        await follower.run(self._dsn, stop)

    async def _rebuild(self, outdated: Sequence[ProjectionStatus]) -> None:
        for status in outdated:
            log.info("projections.rebuild", projection=status.projection.name, why=status.outdated)
        chosen = [status.projection for status in outdated]
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
                shorten=True,  # at start no operator can be asked
            )
        except (ProjectionError, *ARCHIVE_ERRORS) as error:
            # The live tables stay; the next start of the engine tries again.
            names = [error.projection] if isinstance(error, UnprocessableRowError) else [each.name for each in chosen]
            self._given_up.update(names)
            for name in names:
                metrics.REBUILDS.labels(name, "failed").inc()
            log.error("projections.rebuild_failed", projections=names, why=str(error))
