"""A bulk loader in a process of its own: `python -m projections.engine.load_worker`, controlled through its pipes.

Messages are lines of JSON. In: first the job (base64 of a pickle), then {"chunk": [...]} and {"turn": true}. Out:
"open", {"read": events}, "ready" (it waits for its turn), "done", or {"failed": kind, ...}. When stdin ends the parent
has died: the worker exits, and Postgres rolls its transaction back.
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

from projections.engine.bulk_load import BulkLoader, Chunk, Job, OnRead, Turn
from projections.engine.errors import LostPositionError, RebuildError, UnprocessableRowError, is_transient
from streams.errors import DataLossError, UnavailableError

_LONGEST_LINE = 2**24


class Worker:
    """The parent's side: `fill` does what `BulkLoader.fill` does, in the other process."""

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
            self._send(base64.b64encode(self._pickled).decode())
            await self._expect("open")
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Kill the process; Postgres rolls its transaction back."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def fill(self, chunk: Chunk, turn: Turn, on_read: OnRead) -> None:
        self._send(json.dumps({"chunk": chunk}))
        while True:
            match await self._line():
                case {"read": events}:
                    on_read(events)
                case "ready":
                    await turn()
                    self._send(json.dumps({"turn": True}))
                case "done":
                    return
                case {"failed": _} as failure:
                    raise _error(failure)

    async def _expect(self, message: str) -> None:
        received = await self._line()
        if isinstance(received, dict) and "failed" in received:
            raise _error(received)
        if received != message:
            raise RebuildError(f"expected {message!r} from a load worker, got {received!r}")

    def _send(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def _line(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise UnavailableError(f"a load worker ended with exit code {await self._process.wait()}")
        return json.loads(line)


def _failure(error: Exception) -> dict[str, Any]:
    match error:
        case UnprocessableRowError():
            facts = [error.projection, error.stream, error.sequence, error.event, error.reason]
            return {"failed": "unprocessable", "facts": facts}
        case DataLossError():
            return {"failed": "loss", "facts": [error.stream, error.first, error.last]}
        case LostPositionError():
            return {"failed": "position", "facts": [str(error)]}
        case RebuildError():
            return {"failed": "other", "facts": [str(error)]}
    return {"failed": "transient" if is_transient(error) else "other", "facts": [f"{type(error).__name__}: {error}"]}


def _error(failure: dict[str, Any]) -> Exception:
    kinds: dict[str, type[Exception]] = {
        "unprocessable": UnprocessableRowError,
        "loss": DataLossError,
        "position": LostPositionError,
        "transient": UnavailableError,
        "other": RebuildError,
    }
    return kinds[failure["failed"]](*failure["facts"])


async def _serve() -> None:
    lines = asyncio.StreamReader(limit=_LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    job: Job = pickle.loads(base64.b64decode(await lines.readline()))
    messages: asyncio.Queue[Any] = asyncio.Queue()
    listening = asyncio.create_task(_listen(lines, messages))
    loader = BulkLoader(job)
    try:
        job.check_code()
        await loader.open()
        _send("open")
        gc.freeze()
        while True:
            stream, after, until, positions = (await messages.get())["chunk"]

            async def turn() -> None:
                _send("ready")
                await messages.get()

            await loader.fill(Chunk(stream, after, until, positions), turn, lambda events: _send({"read": events}))
            _send("done")
    except Exception as error:
        _send(_failure(error))
    finally:
        listening.cancel()
        loader.close()


async def _listen(lines: asyncio.StreamReader, messages: asyncio.Queue[Any]) -> None:
    while line := await lines.readline():
        messages.put_nowait(json.loads(line))
    os._exit(70)


def _send(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the parent
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    _run(_serve())
