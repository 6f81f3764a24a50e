"""Reconnecting: pauses with backoff, errors that end it, and a stop that works at any time, against a local server."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import islice

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidURI

from gateways.reconnecting_websocket import Backoff, Connected, SessionLostError, reconnecting


class LocalServer:
    """Accepts connections, and closes each right away while `closes` is true."""

    def __init__(self) -> None:
        self.url = ""
        self.times: list[float] = []
        self.closes = False

    async def handle(self, socket: ServerConnection) -> None:
        self.times.append(time.monotonic())
        if not self.closes:
            await socket.send("hello")
            await socket.wait_closed()


@asynccontextmanager
async def serving() -> AsyncIterator[LocalServer]:
    local = LocalServer()
    async with serve(local.handle, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        local.url = f"ws://{host}:{port}"
        yield local


async def session(socket: ClientConnection, attempt: int) -> AsyncGenerator[str | Connected, None]:
    yield Connected(attempt)
    while True:
        yield str(await socket.recv())


def test_delays_double_up_to_the_longest_with_jitter() -> None:
    delays = list(islice(Backoff(0.2, 1.0).delays(), 50))
    for delay, full in zip(delays, [0.2, 0.4, 0.8, *[1.0] * 47], strict=True):
        assert full / 2 <= delay <= full
    assert len(set(delays[3:])) > 1


async def test_a_server_that_closes_every_connection_is_not_hammered() -> None:
    stop = asyncio.Event()
    async with serving() as server:
        server.closes = True
        found = []
        async with aclosing(reconnecting(server.url, session, stop=stop, backoff=Backoff(0.1, 0.1))) as items:
            async for item in items:
                found.append(item)
                if len(found) == 4:
                    stop.set()
        assert found == [Connected(number) for number in (1, 2, 3, 4)]
        pauses = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
        assert min(pauses) >= 0.05


async def test_the_backoff_begins_again_after_a_long_session() -> None:
    stop, lasted = asyncio.Event(), [0.0, 0.0, 0.0, 0.4, 0.0]

    async def measured(socket: ClientConnection, attempt: int) -> AsyncGenerator[int, None]:
        yield attempt
        await asyncio.sleep(lasted[attempt - 1])
        raise SessionLostError("over")

    async with serving() as server:
        async with aclosing(reconnecting(server.url, measured, stop=stop, backoff=Backoff(0.02, 0.18))) as items:
            async for attempt in items:
                if attempt == len(lasted):
                    stop.set()
        third, fourth = server.times[3] - server.times[2], server.times[4] - server.times[3] - lasted[3]
        assert third >= 0.04, "0.08 times at least 0.5"
        assert fourth < third


async def test_errors_of_the_session_itself_end_it() -> None:
    async def broken(socket: ClientConnection, attempt: int) -> AsyncGenerator[str, None]:
        yield str(await socket.recv())
        raise KeyError("a bug")

    async with serving() as server:
        items = reconnecting(server.url, broken, stop=asyncio.Event())
        assert await anext(items) == "hello"
        with pytest.raises(KeyError, match="a bug"):
            await anext(items)


async def test_an_invalid_url_is_refused_at_once() -> None:
    with pytest.raises(InvalidURI):
        await anext(reconnecting("http://127.0.0.1", session, stop=asyncio.Event()))


async def test_stop_ends_a_pause_and_a_handshake_that_is_never_answered() -> None:
    accepted = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        stop = asyncio.Event()
        items = reconnecting(f"ws://{host}:{port}", session, stop=stop)
        reading = asyncio.ensure_future(anext(items))
        await asyncio.wait_for(accepted.wait(), 3)
        stop.set()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(reading, 1)
    async with serving() as local:
        local.closes, stop = True, asyncio.Event()
        items = reconnecting(local.url, session, stop=stop, backoff=Backoff(60, 60))
        assert await anext(items) == Connected(1)
        reading = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0.2)
        assert not reading.done(), "it pauses for at least half a minute"
        stop.set()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(reading, 1)


async def test_a_reader_that_leaves_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def handle(socket: ServerConnection) -> None:
        await socket.wait_closed()
        closed.set()

    async with serve(handle, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        async with aclosing(reconnecting(f"ws://{host}:{port}", session, stop=asyncio.Event())) as items:
            assert await anext(items) == Connected(1)
        await asyncio.wait_for(closed.wait(), 2)
