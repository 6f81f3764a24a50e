"""What the web process holds: connections to the log and to Postgres, its settings, the clock, and cached answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg

from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from projections.engine.sessions import open_pool
from streams.connection import Connection, connect
from streams.login import as_role
from streams.roles import WEB
from vibe.app.clock import Clock
from vibe.app.settings import Settings
from vibe.web import store
from vibe.web.cache import Cache
from vibe.web.freshness import Freshness

T = TypeVar("T")

_POOL = 8
_QUERY_SECONDS = 20.0


@dataclass
class Site:
    """One web process. `nats_url` and `dsn` are for services that open connections of their own."""

    settings: Settings
    connection: Connection
    pool: asyncpg.Pool[Any]
    nats_url: str
    dsn: str
    configuration: LiveConfiguration
    freshness: Freshness
    clock: Clock
    cache: Cache
    background: set[asyncio.Task[Any]] = field(default_factory=set)

    def now(self) -> datetime:
        """The time of the log, UTC."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.clock() // 1000)

    async def cached(self, key: Hashable, seconds: float, make: Callable[[], Awaitable[T]]) -> T:
        """The answer under a key, at most so old; an older one is given while a new one is made."""
        return await self.cache.get(key, seconds, make)

    def spawn(self, work: Any) -> None:
        """Run work in the background until the process ends."""
        task = asyncio.ensure_future(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)


@asynccontextmanager
async def open_site(settings: Settings, nats_url: str, dsn: str, clock: Clock) -> AsyncIterator[Site]:
    """A site on running servers; everything is closed at the end."""
    nats_url = as_role(nats_url, WEB)
    connection = await connect(nats_url, "vibe web")
    configuration = LiveConfiguration(connection, codec())
    try:
        pool = await open_pool(dsn, _QUERY_SECONDS, min_size=1, max_size=_POOL, server_settings={"jit": "off"})
        try:
            await store.prepare(pool)
            await configuration.start()
            freshness = Freshness(pool)
            site = Site(settings, connection, pool, nats_url, dsn, configuration, freshness, clock, Cache())
            site.spawn(freshness.run())
            try:
                yield site
            finally:
                for task in list(site.background):
                    task.cancel()
                await asyncio.gather(*site.background, return_exceptions=True)
        finally:
            pool.terminate()
    finally:
        await configuration.close()
        await connection.close()
