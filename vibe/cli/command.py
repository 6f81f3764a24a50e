"""What the commands share: common parameters, and how a command's work runs."""

import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Concatenate, NoReturn, ParamSpec

import uvloop
from cyclopts import Parameter
from cyclopts.validators import Number

from vibe.app.observability import configure_logging
from vibe.app.settings import Settings, settings

P = ParamSpec("P")

Json = Annotated[bool, Parameter(name="--json", negative=(), help="one JSON object on stdout")]
AtLeastOne = Annotated[int, Parameter(validator=Number(gte=1))]


def run_command(
    work: Callable[Concatenate[Settings, P], Coroutine[Any, Any, int]], *args: P.args, **kwargs: P.kwargs
) -> NoReturn:
    """Run a command's work with the settings and exit with the code it returns."""
    finish(work(settings(), *args, **kwargs), quiet=True)


def finish(work: Coroutine[Any, Any, int], *, quiet: bool = False) -> NoReturn:
    """Run a coroutine to its end and exit with its code; `quiet` logs from WARNING on unless a level was set."""
    known = settings()
    configure_logging("WARNING" if quiet and known.log_level == "INFO" else known.log_level, known.log_format)
    sys.exit(uvloop.run(work))
