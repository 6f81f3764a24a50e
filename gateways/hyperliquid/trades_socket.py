"""The public feed: one WebSocket that subscribes to `trades` of many coins, and comes back by itself.

The feed has no sequence numbers: on every subscribe the venue replays the last 30 trades of the coin, unflagged.
Frames are handed on as text; who reads them knows what to do with replays.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable

import msgspec
import structlog
import websockets
from websockets.asyncio.client import ClientConnection, connect

log = structlog.get_logger()

PING_SECONDS = 30.0
SILENCE_SECONDS = 75.0
"""The venue answers pings, so a connection that says nothing for this long is dead, whatever TCP believes."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
MAX_FRAME_BYTES = 64 * 1024 * 1024


class Connected:
    """Handed out instead of a frame when a (new) connection has subscribed; `attempt` counts from 1."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt


async def trades(url: str, coins: Iterable[str], *, stop: asyncio.Event) -> AsyncIterator[str | Connected]:
    """Frames of the `trades` feed of `coins` until `stop`; reconnects with backoff and jitter for ever."""
    wanted = list(coins)
    attempt, delay = 0, _FIRST_PAUSE
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            try:
                async with connect(
                    url, max_size=MAX_FRAME_BYTES, ping_interval=None, close_timeout=1, open_timeout=10
                ) as socket:
                    attempt += 1
                    async for frame in _subscribed(socket, wanted, attempt, stopped):
                        delay = _FIRST_PAUSE
                        yield frame
            except (websockets.WebSocketException, OSError, TimeoutError, UnicodeDecodeError) as error:
                if not stop.is_set():
                    log.warning("feed.lost", url=url, error=str(error) or type(error).__name__, attempt=attempt)
            await asyncio.wait({stopped}, timeout=delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, _LONGEST_PAUSE)
    finally:
        stopped.cancel()


async def _subscribed(
    socket: ClientConnection, coins: list[str], attempt: int, stopped: asyncio.Task[bool]
) -> AsyncIterator[str | Connected]:
    heartbeat = asyncio.create_task(_heartbeat(socket))
    closer = asyncio.create_task(_close_after(stopped, socket))
    try:
        for coin in coins:
            wish = {"method": "subscribe", "subscription": {"type": "trades", "coin": coin}}
            await socket.send(msgspec.json.encode(wish).decode())
        yield Connected(attempt)
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                frame = await socket.recv(decode=True)
            yield frame
    finally:
        heartbeat.cancel()
        closer.cancel()


async def _heartbeat(socket: ClientConnection) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        await socket.send('{"method":"ping"}')


async def _close_after(stopped: asyncio.Task[bool], socket: ClientConnection) -> None:
    await asyncio.wait({stopped})
    await socket.close()
