"""Errors of commands: each becomes one line that says what happened and what to do, and an exit code.

Exit code 2: the command was called wrongly (an unknown option, a value that is not allowed, a wrong setting).
Exit code 1: the command could not do its work (a file or an id that does not exist, a server that does not answer).
Errors that `explain` does not know are defects of the program: they keep their traceback.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_NUMBER = re.compile(r"\[Errno -?\d+\] ")
"""The number of an error of the operating system inside a message."""

FAILED = 1
WRONG_USAGE = 2


class UsageError(Exception):
    """An argument or a combination of arguments that the command does not take."""


class CommandError(Exception):
    """What the command was asked for cannot be done; the message says what to do."""


class Failure(NamedTuple):
    lines: list[str]
    code: int


def explain(error: Exception) -> Failure | None:
    """The lines and the exit code for an error; None for an error that is a defect."""
    failure = _of_this_program(error) or _of_a_library(error)
    return failure and failure._replace(lines=[_NUMBER.sub("", line) for line in failure.lines])


def _of_this_program(error: Exception) -> Failure | None:
    match error:
        case UsageError():
            return Failure([str(error)], WRONG_USAGE)
        case CommandError():
            return Failure([str(error)], FAILED)
        case OSError():
            return Failure([os_error_text(error)], FAILED)
        case UnicodeDecodeError():
            return Failure([f"the input is not UTF-8 text: {error.reason} at byte {error.start}"], FAILED)
    return None


def _of_a_library(error: Exception) -> Failure | None:
    # Imported here: `vibe --help` needs none of them.
    import asyncpg
    from pydantic import ValidationError

    from gateways.embedded import ServerError
    from gateways.keys.errors import KeysError
    from projections.engine.errors import ProjectionError
    from streams.errors import LogError, UnprocessableError
    from vibe.app.demo import NotADemoError
    from vibe.app.folder_lock import FolderBusyError
    from vibe.app.session import BadConfigError
    from vibe.app.web_process import PortTakenError
    from vibe.backup.errors import BackupError

    expected = (
        BackupError,
        BadConfigError,
        FolderBusyError,
        KeysError,
        LogError,
        NotADemoError,
        PortTakenError,
        ProjectionError,
        ServerError,
        UnprocessableError,
    )
    match error:
        case ValidationError():
            return Failure([_wrong_setting(wrong) for wrong in error.errors()], WRONG_USAGE)
        case asyncpg.PostgresError() | asyncpg.InterfaceError():
            return Failure([f"Postgres reports: {error}"], FAILED)
    return Failure([str(error) or type(error).__name__], FAILED) if isinstance(error, expected) else None


def _wrong_setting(wrong: "object") -> str:
    facts = dict(wrong)  # type: ignore[call-overload]
    name = "_".join(("vibe", *map(str, facts["loc"]))).upper()
    return f"{name}={facts['input']!s:.100}: {facts['msg'].removeprefix('Value error, ')}"


def os_error_text(error: OSError) -> str:
    """An error of the operating system in a sentence, without its number."""
    where = str(error.filename) if error.filename is not None else ""
    match error.errno:
        case errno.ENOENT if where:
            folder = Path(where).parent
            return f"{where} does not exist" if folder.exists() else f"the folder {folder} does not exist"
        case errno.EACCES | errno.EPERM if where:
            return f"no permission to use {where}"
        case errno.EISDIR if where:
            return f"{where} is a folder; name a file"
        case errno.ENOTDIR | errno.EEXIST if where:
            return f"{_file_on_the_way(Path(where))} is a file where a folder is needed"
        case errno.ENOSPC:
            return "no space is left on the disk" + (f" for {where}" if where else "")
        case errno.ECONNREFUSED:
            return "a server refused the connection; see its log in the data folder, under logs"
    text = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{where}: {text}" if where else text


def _file_on_the_way(path: Path) -> Path:
    return next((one for one in (*reversed(path.parents), path) if one.is_file()), path)


@contextmanager
def errors_about(path: Path) -> Iterator[None]:
    """Errors of the operating system inside are reported with this path, whatever file they happened on."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, BrokenPipeError):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def complain(text: str) -> None:
    """Write one message to stderr, as "vibe: ..."."""
    from rich.console import Console

    with suppress(OSError):
        Console(stderr=True).print(f"vibe: {text}", style="red", markup=False, highlight=False, soft_wrap=True)
