"""Running the web server: its port, its one-time link, and its end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from projections.engine.sessions import COMMAND_SECONDS, open_pool
from vibe.app.web_process import LOOPBACK, address_of, handed_down, link_of, listening
from vibe.web.identity import Pool, new_link
from vibe.web.pages import FOLDER
from vibe.web.server import application
from vibe.web.site import Site
from vibe.web.store import SCHEMA, prepare

_SHUTDOWN_SECONDS = 3.0


class Served(NamedTuple):
    """A running server; `link` signs in once, within ten minutes, and is None where it would be of no use."""

    address: str
    port: int
    link: str | None


@asynccontextmanager
async def served(site: Site, pages: Path = FOLDER) -> AsyncIterator[Served]:
    """Serve until the context ends. Raises PortTakenError when the port that was set is taken."""
    settings = site.settings
    host = settings.web_host
    listener = handed_down() or listening(host, settings.web_port)
    port: int = listener.getsockname()[1]
    runner = web.AppRunner(
        application(site, port, pages), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, handler_cancellation=True
    )
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        address = address_of(settings, port)
        await _remember(site.pool, address)
        link = None
        if host in LOOPBACK or settings.web_token_file is not None:
            token = await new_link(site.pool)
            if settings.web_token_file is not None:
                _write(settings.web_token_file, token)
            link = link_of(address, token)
        yield Served(address, port, link)
    finally:
        await runner.cleanup()
        listener.close()


async def fresh_link(dsn: str) -> str | None:
    """A new one-time link of the server that ran last on this Postgres; None when there was none."""
    pool = await open_pool(dsn, COMMAND_SECONDS, max_size=1)
    try:
        await prepare(pool)
        address = await pool.fetchval(f"SELECT address FROM {SCHEMA}.server")
        return link_of(address, await new_link(pool)) if address is not None else None
    finally:
        pool.terminate()


async def _remember(pool: Pool, address: str) -> None:
    await pool.execute(
        f"INSERT INTO {SCHEMA}.server (address, started_at) VALUES ($1, now()) "
        "ON CONFLICT (only_row) DO UPDATE SET address = excluded.address, started_at = excluded.started_at",
        address,
    )


def _write(path: Path, token: str) -> None:
    """Store the token in a file that only this user can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token + "\n")
    temporary.replace(path)
