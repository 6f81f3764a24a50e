"""Calls the log from synchronous code: one asyncio loop in a background thread, with one connection.

It also translates the log's errors to the library's:

ConflictError, DuplicateError                         IntegrityError
UnavailableError, UnknownOutcomeError, DataLossError  OperationalError
RefusedError, TopologyError                           ProgrammingError
the bridge is closed                                  InterfaceError
"""

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple, TypeVar

from eventsourcing.persistence import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    PersistenceError,
    ProgrammingError,
)

from streams.connection import Connection, connect
from streams.errors import ConflictError, DuplicateError, LogError, RefusedError, TopologyError

T = TypeVar("T")


class SyncBridge:
    """Runs coroutines for any thread.

    The thread ends with `close`, or when the bridge is garbage collected: applications of the library are often never
    closed.
    """

    def __init__(self, url: str) -> None:
        ready: Future[_Ready] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(_live(url, ready)), name="the log", daemon=True)
        self._thread.start()
        try:
            self.connection, self._loop, ended = ready.result()
        except LogError as error:
            raise translated(error) from error
        self._lock = threading.RLock()
        self._end = weakref.finalize(self, _end, self._loop, ended)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result; raises the library's errors for those of the log."""
        with self._lock:  # a coroutine scheduled before the end gets a result or is cancelled
            if not self._end.alive:
                work.close()
                raise InterfaceError("the connection to the log is closed")
            answer = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return answer.result()
        except CancelledError as error:
            raise InterfaceError("the connection to the log was closed before the call was answered") from error
        except LogError as error:
            raise translated(error) from error

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Start a coroutine without waiting for it; a closed bridge does not run it."""
        with self._lock:
            if self._end.alive:
                asyncio.run_coroutine_threadsafe(work, self._loop)
            else:
                work.close()

    def close(self) -> None:
        """Close the connection and end the thread. Waiting calls raise InterfaceError."""
        with self._lock:
            self._end()
        if threading.current_thread() is not self._thread:
            self._thread.join(10)


def translated(error: LogError) -> PersistenceError:
    """The library's error for an error of the log."""
    match error:
        case ConflictError() | DuplicateError():
            return IntegrityError(str(error))
        case RefusedError() | TopologyError():
            return ProgrammingError(str(error))
    return OperationalError(str(error))


class _Ready(NamedTuple):
    connection: Connection
    loop: asyncio.AbstractEventLoop
    ended: asyncio.Event


async def _live(url: str, ready: "Future[_Ready]") -> None:
    try:
        connection = await connect(url, "eventsourcing")
    except BaseException as error:
        ready.set_exception(error)
        return
    ended = asyncio.Event()
    ready.set_result(_Ready(connection, asyncio.get_running_loop(), ended))
    await ended.wait()
    await connection.close()


def _end(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    loop.call_soon_threadsafe(ended.set)
