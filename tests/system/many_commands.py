"""Many `vibe` command lines in a short time, each in a process of its own.

A process of Python imports the whole command line once and forks for each command line, so that one takes
milliseconds instead of a second. `python -m tests.system.many_commands` reads the command lines as JSON.
"""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, NamedTuple

from cyclopts import App

from tests.system.command import environment
from vibe.cli import app, main

PARALLEL = 4
SECONDS = 60


class CommandLine(NamedTuple):
    """A command line to run; with `broken_pipe` nothing reads its standard output."""

    arguments: tuple[str, ...]
    settings: Mapping[str, str] = {}
    broken_pipe: bool = False


class Outcome(NamedTuple):
    arguments: tuple[str, ...]
    code: int
    out: str
    err: str


class Commands:
    """The process that forks."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, data_dir: Path, lines: Sequence[CommandLine]) -> list[Outcome]:
        """Run command lines on a data folder, a few at the same time; outcomes in their order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        folder = {"VIBE_DATA_DIR": str(data_dir)}
        asked = [line._replace(settings={**folder, **line.settings}) for line in lines]
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        answer = json.loads(await self._process.stdout.readline())
        return [Outcome(line.arguments, *outcome) for line, outcome in zip(lines, answer, strict=True)]


@asynccontextmanager
async def command_lines(folder: Path) -> AsyncIterator[Commands]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(folder, {}),
        limit=2**26,
    )
    try:
        yield Commands(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0


def commands(group: App, *names: str) -> Iterator[tuple[str, App]]:
    """Every command under its whole name, those in groups too."""
    for name in group:
        if name.startswith("-"):
            continue
        inner = group[name]
        if any(not one.startswith("-") for one in inner):
            yield from commands(inner, *names, name)
        else:
            yield " ".join((*names, name)), inner


def _start(line: CommandLine, files: Sequence[IO[str]]) -> int:
    """Fork a process for a command line; its pid."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    out, err = (file.fileno() for file in files)
    if line.broken_pipe:
        reading, out = os.pipe()
        os.close(reading)
    for descriptor, into in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(descriptor, into)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(each, mode, closefd=False) for each, mode in enumerate("rww"))
    signal.alarm(SECONDS)
    os.environ.update(line.settings)
    sys.argv = ["vibe", *line.arguments]
    os._exit(_run())


def _run() -> int:
    """Run the command line to its exit code; the end of the interpreter is left out, because it takes most time."""
    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            sys.stderr.write("Exception ignored while flushing\n")
    return code if isinstance(code, int) else 0


def _content(file: IO[str]) -> str:
    with file:
        file.seek(0)
        return file.read()


def _serve(lines: Sequence[CommandLine]) -> list[tuple[int, str, str]]:
    outcomes: dict[int, tuple[int, str, str]] = {}
    running: dict[int, tuple[int, list[IO[str]]]] = {}
    waiting = list(enumerate(lines))
    while waiting or running:
        while waiting and len(running) < PARALLEL:
            number, line = waiting.pop(0)
            files: list[IO[str]] = [tempfile.TemporaryFile("w+", errors="replace") for _ in range(2)]  # noqa: SIM115
            running[_start(line, files)] = number, files
        pid, status = os.wait()
        number, files = running.pop(pid)
        out, err = map(_content, files)
        outcomes[number] = os.waitstatus_to_exitcode(status), out, err
    return [outcomes[number] for number in range(len(lines))]


if __name__ == "__main__":
    for _ in commands(app):  # imports every command
        pass
    gc.freeze()
    for request in sys.stdin:
        asked = [CommandLine(tuple(arguments), settings, broken) for arguments, settings, broken in json.loads(request)]
        sys.stdout.write(json.dumps(_serve(asked)) + "\n")
        sys.stdout.flush()
