"""The root of the command line: what all commands share."""

import logging
import os
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Annotated, Any

import uvloop
from cyclopts import App, Parameter
from pydantic import ValidationError
from rich.console import Console

from gateways.embedded import ServerError
from projections.engine.errors import ProjectionError
from streams.errors import LogError, UnprocessableError
from vibe.app.demo import NotADemoError
from vibe.app.folder_lock import FolderBusyError
from vibe.app.observability import configure_logging
from vibe.app.session import BadConfigError
from vibe.app.settings import settings
from vibe.cli.time_arguments import BadTimeError

EXPECTED = (
    BadConfigError,
    BadTimeError,
    FolderBusyError,
    LogError,
    NotADemoError,
    OSError,
    ProjectionError,
    ServerError,
    UnicodeDecodeError,
    UnprocessableError,
)
"""Errors that explain themselves: shown without a traceback, exit code 1. What the system says of files, ports and
disks is among them; VIBE_LOG_LEVEL=DEBUG shows where it was said."""

_BROKEN_PIPE = 141
"""What a shell reports of a program that wrote to a pipe that nobody reads any more."""

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
    _open_what_is_closed()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        sys.exit(_BROKEN_PIPE)
    except ValidationError as error:
        for wrong in error.errors():
            name = "_".join(("vibe", *map(str, wrong["loc"]))).upper()
            _say(f"{name}={wrong['input']!s:.100}: {wrong['msg'].removeprefix('Value error, ')}")
        sys.exit(2)
    except EXPECTED as error:
        if logging.getLevelNamesMapping().get(os.environ.get("VIBE_LOG_LEVEL", "")) == logging.DEBUG:
            raise
        _say(str(error) or type(error).__name__)
        _forget_output()
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _say(what: str) -> None:
    with suppress(OSError):
        Console(stderr=True).print(f"vibe: {what}", style="red", markup=False, highlight=False, soft_wrap=True)


def _open_what_is_closed() -> None:
    """Standard streams that the caller closed go nowhere; else the next file or socket would get their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "r" if descriptor == 0 else "w", closefd=False))


def _forget_output() -> None:
    """What could not be written is not tried again at the end."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
