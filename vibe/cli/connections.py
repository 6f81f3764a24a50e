"""The servers that commands work on: running ones, or the data folder's own, started for the time of the command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import asyncpg

from gateways.embedded import Addresses
from projections.engine.sessions import COMMAND_SECONDS, open_session
from streams import topology
from streams.connection import Connection, connect
from streams.login import as_role, shown
from streams.roles import OPS_WRITER
from streams.topology import CONFIG
from vibe.app.servers import open_addresses
from vibe.app.settings import Settings
from vibe.cli.errors import CommandError
from vibe.cli.output import progress_reporter

BEGIN = "To begin: `vibe demo`, or `vibe config import FILE` and then `vibe up`"


class NoEventLogError(CommandError):
    """The data folder, or the NATS server of VIBE_NATS_URL, holds no event log yet."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} holds no event log yet. {BEGIN}")


class Connections(NamedTuple):
    connection: Connection
    database: asyncpg.Connection[Any]
    addresses: Addresses


@asynccontextmanager
async def open_servers(
    settings: Settings, *, json: bool = False, create: bool = False, role: str = OPS_WRITER
) -> AsyncIterator[Addresses]:
    """The addresses of both servers, for clients of a role. Raises NoEventLogError, before anything is started or
    written, for a data folder without an event log, unless `create`."""
    if settings.data_dir.is_file():
        raise CommandError(
            f"{settings.data_dir} is a file where a data folder is needed; set VIBE_DATA_DIR to a folder"
        )
    if not create and settings.nats_url is None and not (settings.data_dir / "nats").is_dir():
        raise NoEventLogError(str(settings.data_dir))
    async with open_addresses(settings, progress_reporter(json)) as at:
        yield replace(at, nats_url=as_role(at.nats_url, role))


@asynccontextmanager
async def open_connections(
    settings: Settings, *, json: bool = False, create: bool = False, verify: bool = True, role: str = OPS_WRITER
) -> AsyncIterator[Connections]:
    """Connections to the log and to Postgres.

    With `create` a new data folder is made, and its streams need not exist; otherwise, with `verify`, every stream is
    as the topology defines it. Raises NoEventLogError and TopologyError.
    """
    async with open_servers(settings, json=json, create=create, role=role) as at:
        connection = await connect(at.nats_url, "vibe")
        try:
            if verify and not create:
                if await topology.info(connection, CONFIG.name) is None:
                    raise NoEventLogError(shown(settings.nats_url) if settings.nats_url else str(settings.data_dir))
                await topology.verify(connection)
            database = await open_session(at.postgres_dsn, COMMAND_SECONDS)
            try:
                yield Connections(connection, database, at)
            finally:
                database.terminate()
        finally:
            await connection.close()
