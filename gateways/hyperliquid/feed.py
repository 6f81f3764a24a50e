"""The public feed: one WebSocket that subscribes to `trades` of many coins, and comes back by itself.

The feed has no sequence numbers: on every subscribe the venue replays the last 30 trades of the coin, unflagged.
Frames are handed on as text; who reads them knows what to do with replays.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

import msgspec
import structlog
import websockets
from websockets.asyncio.client import ClientConnection, connect

log = structlog.get_logger()

PING_SECONDS = 30.0
SILENCE_SECONDS = 75.0
"""The venue answers pings, so a connection that says nothing for this long is dead, whatever TCP believes."""
MAX_FRAME_BYTES = 64 * 1024 * 1024


class Connected:
    """Handed out instead of a frame when a (new) connection has subscribed; `attempt` counts from 1."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt


async def trades(url: str, coins: Iterable[str], *, stop: asyncio.Event) -> AsyncIterator[str | Connected]:
    """Frames of the `trades` feed of `coins` until `stop`; reconnects with backoff and jitter for ever."""
    wanted = list(coins)
    attempt = 0
    async for socket in connect(url, max_size=MAX_FRAME_BYTES, ping_interval=None, close_timeout=1, open_timeout=10):
        attempt += 1
        heartbeat = asyncio.create_task(_heartbeat(socket))
        stopper = asyncio.create_task(_close_on(stop, socket))
        try:
            for coin in wanted:
                await socket.send(
                    msgspec.json.encode(
                        {"method": "subscribe", "subscription": {"type": "trades", "coin": coin}}
                    ).decode()
                )
            yield Connected(attempt)
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    frame = await socket.recv(decode=True)
                yield frame
        except (websockets.ConnectionClosed, TimeoutError, UnicodeDecodeError) as error:
            if not stop.is_set():
                log.warning("feed.lost", url=url, error=str(error) or type(error).__name__, attempt=attempt)
        finally:
            heartbeat.cancel()
            stopper.cancel()
            await socket.close()
        if stop.is_set():
            return
        await asyncio.sleep(min(0.2 * attempt, 2.0))


async def _heartbeat(socket: ClientConnection) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        await socket.send('{"method":"ping"}')


async def _close_on(stop: asyncio.Event, socket: ClientConnection) -> None:
    await stop.wait()
    await socket.close()
