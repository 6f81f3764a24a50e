"""The root of the command line: what all commands share."""

import sys
from collections.abc import Coroutine
from typing import Annotated, Any

import uvloop
from cyclopts import App, Parameter
from rich.console import Console

from gateways.servers import ServerError
from projections.errors import ProjectionError
from streams.errors import LogError, UnprocessableError
from vibe.demo import NotADemoError
from vibe.folder_lock import FolderBusyError
from vibe.moments import BadMomentError
from vibe.play import BadConfigError
from vibe.settings import settings
from vibe.telemetry import configure_logging

EXPECTED = (
    BadConfigError,
    BadMomentError,
    FileNotFoundError,
    FolderBusyError,
    LogError,
    NotADemoError,
    ProjectionError,
    ServerError,
    TimeoutError,
    UnprocessableError,
)
"""Errors that explain themselves: shown without a traceback, exit code 1."""

app = App(name="vibe", help="Copy trading on one event log.", version_flags=["--version"])

Json = Annotated[bool, Parameter(name="--json", negative=(), help="one JSON object on stdout")]


def group(name: str, what: str) -> App:
    """A group of commands under one name."""
    made = App(name=name, help=what)
    app.command(made)
    return made


def finish(work: Coroutine[Any, Any, int | None], *, quiet: bool = False) -> None:
    """Run a command's work to its end and exit with its code."""
    known = settings()
    configure_logging("WARNING" if quiet and known.log_level == "INFO" else known.log_level, known.log_format)
    sys.exit(uvloop.run(work) or 0)


def main() -> None:
    """The entry point: errors that explain themselves are shown without a traceback."""
    try:
        app()
    except EXPECTED as error:
        Console(stderr=True).print(f"vibe: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
