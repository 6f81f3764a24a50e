"""The ends that commands work on: the log and Postgres, of running servers or of ones started for their time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg

from gateways.embedded import servers
from streams.connection import Connection, connect
from vibe.app.settings import Settings, nats_conf
from vibe.cli.output import progress_reporter


class Connections(NamedTuple):
    connection: Connection
    database: asyncpg.Connection[Any]
    nats_url: str


@asynccontextmanager
async def open_connections(settings: Settings) -> AsyncIterator[Connections]:
    """Connections to the log and to Postgres; streams exist afterwards."""
    async with servers(
        settings.data_dir,
        nats_conf(),
        nats_url=settings.nats_url,
        postgres_dsn=settings.dsn,
        progress=progress_reporter(False),
    ) as at:
        connection = await connect(at.nats_url, "vibe")
        database = await asyncpg.connect(at.postgres_dsn, timeout=10)
        try:
            yield Connections(connection, database, at.nats_url)
        finally:
            database.terminate()
            await connection.close()
