"""A WebSocket that reconnects: one session after the other, each on a new connection, until it is stopped.

The websockets library connects again, with backoff, when a connection cannot be made. This module adds a pause after
a session that was lost, and ends at once when it is stopped, also during a pause.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar, cast

import structlog
import websockets
from websockets.asyncio.client import ClientConnection, connect

log = structlog.get_logger()

MAX_FRAME_BYTES = 64 * 1024 * 1024
T = TypeVar("T")


class Connected(NamedTuple):
    """What a session yields when it has subscribed; `attempt` counts the connections that were made, from 1."""

    attempt: int


class Backoff(NamedTuple):
    """Seconds between two connections: `first`, then twice as long each time up to `longest`, with jitter."""

    first: float = 0.2
    longest: float = 5.0

    def delays(self) -> Generator[float, None, None]:
        delay = self.first
        while True:
            yield delay * random.uniform(0.5, 1.0)
            delay = min(2 * delay, self.longest)


DEFAULT_BACKOFF = Backoff()


class SessionLostError(Exception):
    """The server refuses what the session needs, or has stopped sending it; a new connection may help."""


RETRIED = (websockets.WebSocketException, OSError, TimeoutError, EOFError, UnicodeDecodeError, SessionLostError)


async def reconnecting(
    url: str,
    session: Callable[[ClientConnection, int], AsyncGenerator[T, None]],
    *,
    stop: asyncio.Event,
    backoff: Backoff = DEFAULT_BACKOFF,
    **options: Any,
) -> AsyncGenerator[T, None]:
    """What `session(connection, attempt)` yields, on one connection after the other, until `stop`.

    `options` go to the library's `connect`. The backoff begins again after a session that lasted longer than twice its
    longest delay. Raises what a session raises, except connection errors and SessionLostError, and InvalidURI.
    """
    clock = asyncio.get_running_loop().time
    delays = backoff.delays()
    attempt = 0
    connections = connect(
        url,
        max_size=MAX_FRAME_BYTES,
        open_timeout=10,
        close_timeout=1,
        reconnect_delays=backoff.delays,
        process_exception=_process_exception,
        **options,
    )
    stopped = asyncio.create_task(stop.wait())
    try:
        async with aclosing(_until(stopped, aiter(connections))) as sockets:
            async for socket in sockets:
                attempt, began = attempt + 1, clock()
                closer = asyncio.create_task(_close_after(stopped, socket))
                try:
                    async with aclosing(session(socket, attempt)) as items:
                        async for item in items:
                            yield item
                except RETRIED as error:
                    if not stop.is_set():
                        log.warning("websocket.lost", url=url, error=_text(error), attempt=attempt)
                finally:
                    closer.cancel()
                    await socket.close()
                if clock() - began > 2 * backoff.longest:
                    delays = backoff.delays()
                await asyncio.wait({stopped}, timeout=next(delays))
    finally:
        stopped.cancel()


def _process_exception(error: Exception) -> Exception | None:
    if not isinstance(error, RETRIED):
        return error
    log.warning("websocket.not_connected", error=_text(error))
    return None


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _until(stopped: asyncio.Task[bool], items: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """The items until `stopped` is done; the next one is not waited for then."""
    async with aclosing(cast(AsyncGenerator[T, None], items)):
        while not stopped.done():
            following = asyncio.ensure_future(anext(items))
            try:
                await asyncio.wait({stopped, following}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    return
                yield following.result()
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)


async def _close_after(stopped: asyncio.Task[bool], socket: ClientConnection) -> None:
    await asyncio.wait({stopped})
    await socket.close()
