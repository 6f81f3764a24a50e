"""`vibe doctor`: whether everything that the system needs is there and right, on a running system or without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import asyncpg
from rich.console import Console

from gateways.embedded import ServerError
from projections.engine.sessions import open_pool
from streams.connection import Connection, connect
from streams.login import as_role
from streams.roles import OPS_WRITER
from vibe.app.dependencies import answer_of, ask_postgres
from vibe.app.doctor import CHECK_SECONDS, Check, Examined, examine
from vibe.app.folder_lock import in_use
from vibe.app.servers import running_addresses
from vibe.app.settings import Settings
from vibe.cli.command import Json, run_command
from vibe.cli.connections import NoEventLogError, open_servers
from vibe.cli.errors import CommandError
from vibe.cli.output import print_json

_CONNECT_SECONDS = 3.0


def doctor(*, json: Json = False) -> None:
    """Check every dependency, the streams, read models, stages, clocks, disk, versions and settings.

    Example: vibe doctor --json

    Exit code 1 when a check fails. Secrets are not shown.
    """
    run_command(run_doctor, json)


async def run_doctor(settings: Settings, json: bool) -> int:
    """Print every check; returns the exit code. Raises NoEventLogError."""
    async with _examined(settings, json) as at:
        checks = await examine(at)
    ok = all(check.ok for check in checks)
    if json:
        print_json({"ok": ok, "checks": [check._asdict() for check in checks]})
    else:
        _show(checks)
    return 0 if ok else 1


@asynccontextmanager
async def _examined(settings: Settings, json: bool) -> AsyncIterator[Examined]:
    """Both servers as they are: running ones are never waited for, since a stopped one is what is looked for."""
    folder = settings.data_dir
    if folder.is_file():
        raise CommandError(f"{folder} is a file where a data folder is needed; set VIBE_DATA_DIR to a folder")
    external = settings.nats_url is not None and settings.dsn is not None
    if settings.nats_url is None and not (folder / "nats").is_dir():
        raise NoEventLogError(str(folder))
    away: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        nats_url, dsn = settings.nats_url, settings.dsn
        if not external:
            at = running_addresses(folder)
            if at is None:
                try:
                    at = await stack.enter_async_context(open_servers(settings, json=json))
                except ServerError as error:
                    away = dict.fromkeys(("nats", "postgres"), str(error))
            if at is not None:
                nats_url, dsn = nats_url or at.nats_url, dsn or at.postgres_dsn
        connection = database = None
        if not away:
            assert nats_url is not None
            assert dsn is not None
            connection = await _connected(stack, nats_url, away)
            database = await _pool(stack, dsn, away)
        yield Examined(
            settings,
            connection,
            database,
            away,
            stages_expected=external or in_use(folder),
            demo=(folder / "demo.json").is_file() and not external,
        )


async def _connected(stack: AsyncExitStack, url: str, away: dict[str, str]) -> Connection | None:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            connection = await connect(as_role(url, OPS_WRITER), "vibe doctor")
    except Exception as error:
        away["nats"] = str(error) or f"no connection within {_CONNECT_SECONDS:g} s"
        return None
    stack.push_async_callback(connection.close)
    return connection


async def _pool(stack: AsyncExitStack, dsn: str, away: dict[str, str]) -> asyncpg.Pool[asyncpg.Record] | None:
    if (why := await answer_of(partial(ask_postgres, dsn))) is not None:
        away["postgres"] = why
        return None
    pool = await open_pool(dsn, CHECK_SECONDS, max_size=4, connect_seconds=_CONNECT_SECONDS)
    stack.callback(pool.terminate)
    return pool


def _show(checks: list[Check]) -> None:
    console = Console()
    for check in checks:
        mark = "[green]ok    [/]" if check.ok else "[red]FAILED[/]"
        console.print(f"{mark} {check.name}", highlight=False)
        console.print(f"       {check.detail}", markup=False, highlight=False, style="dim" if check.ok else "")
