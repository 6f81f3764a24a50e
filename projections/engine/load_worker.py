"""A filler in a process of its own: `python -m projections.engine.load_worker`, steered over its pipes.

Lines of JSON. In: first the job (base64 of a pickle), then {"chunk": [...]} and {"turn": true}. Out: "open",
{"read": events}, "ready" (waiting for the turn), "done", or {"failed": kind, ...}. The end of stdin means that the
parent is gone, and then so is the worker; what it had not committed is not there.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import pickle
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import structlog

from projections.engine.bulk_load import BulkLoader, Chunk, Job, Tell, Turn
from projections.engine.errors import LostPositionError, RebuildError, UnprocessableRowError, passing
from streams.errors import DataLossError, UnavailableError

_LONGEST_LINE = 2**24


class Worker:
    """The parent's side. `fill` does what Filler.fill does, elsewhere."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled
        self._process: asyncio.subprocess.Process | None = None

    async def open(self) -> Worker:
        """Start the process and wait until it is connected."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "projections.engine.load_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
        try:
            self._say(base64.b64encode(self._pickled).decode())
            await self._hear("open")
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Kill it: what it had not committed is not there."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def fill(self, chunk: Chunk, turn: Turn, tell: Tell) -> None:
        self._say(json.dumps({"chunk": chunk}))
        while True:
            match await self._line():
                case {"read": events}:
                    tell(events)
                case "ready":
                    await turn()
                    self._say(json.dumps({"turn": True}))
                case "done":
                    return
                case {"failed": _} as failure:
                    raise _error(failure)

    async def _hear(self, word: str) -> None:
        heard = await self._line()
        if isinstance(heard, dict) and "failed" in heard:
            raise _error(heard)
        if heard != word:
            raise RebuildError(f"a worker said {heard!r} instead of {word!r}")

    def _say(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def _line(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise UnavailableError(f"a worker process ended with {await self._process.wait()}")
        return json.loads(line)


def _failure(error: Exception) -> dict[str, Any]:
    match error:
        case UnprocessableRowError():
            facts = [error.projection, error.stream, error.sequence, error.event, error.reason]
            return {"failed": "poison", "facts": facts}
        case DataLossError():
            return {"failed": "loss", "facts": [error.stream, error.first, error.last]}
        case LostPositionError():
            return {"failed": "place", "facts": [str(error)]}
        case RebuildError():
            return {"failed": "other", "facts": [str(error)]}
    return {"failed": "passing" if passing(error) else "other", "facts": [f"{type(error).__name__}: {error}"]}


def _error(failure: dict[str, Any]) -> Exception:
    kinds: dict[str, type[Exception]] = {
        "poison": UnprocessableRowError,
        "loss": DataLossError,
        "place": LostPositionError,
        "passing": UnavailableError,
        "other": RebuildError,
    }
    return kinds[failure["failed"]](*failure["facts"])


async def _serve() -> None:
    lines = asyncio.StreamReader(limit=_LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    job: Job = pickle.loads(base64.b64decode(await lines.readline()))
    heard: asyncio.Queue[Any] = asyncio.Queue()
    listening = asyncio.create_task(_listen(lines, heard))
    filler = BulkLoader(job)
    try:
        job.check_code()
        await filler.open()
        _say("open")
        gc.freeze()
        while True:
            stream, after, until, positions = (await heard.get())["chunk"]

            async def turn() -> None:
                _say("ready")
                await heard.get()

            await filler.fill(Chunk(stream, after, until, positions), turn, lambda events: _say({"read": events}))
            _say("done")
    except Exception as error:
        _say(_failure(error))
    finally:
        listening.cancel()
        filler.close()


async def _listen(lines: asyncio.StreamReader, heard: asyncio.Queue[Any]) -> None:
    while line := await lines.readline():
        heard.put_nowait(json.loads(line))
    os._exit(70)


def _say(word: object) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the parent
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    _run(_serve())
