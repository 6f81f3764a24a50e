"""The public trades feed: one WebSocket that subscribes to `trades` of many coins, and reconnects.

The feed has no sequence numbers: on every subscribe the venue replays the last 30 trades of the coin, unflagged
(docs/venues/hyperliquid.md, replays and gaps). Frames are passed on as text; the reader recognises the replays.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

import msgspec
from websockets.asyncio.client import ClientConnection

from gateways.reconnecting_websocket import DEFAULT_BACKOFF, Backoff, Connected, SessionLostError, reconnecting

PING_SECONDS = 30.0
SILENCE_SECONDS = 75.0
"""The venue answers pings, so a connection without any frame for this long is dead, whatever TCP believes."""


def trades(
    url: str,
    coins: Iterable[str],
    *,
    stop: asyncio.Event,
    backoff: Backoff = DEFAULT_BACKOFF,
    ping_seconds: float = PING_SECONDS,
    silence_seconds: float = SILENCE_SECONDS,
) -> AsyncIterator[str | Connected]:
    """Frames of the `trades` feed of `coins` until `stop`, and `Connected` at the beginning of each connection."""
    subscriptions = [
        msgspec.json.encode({"method": "subscribe", "subscription": {"type": "trades", "coin": coin}}).decode()
        for coin in coins
    ]

    async def session(socket: ClientConnection, attempt: int) -> AsyncGenerator[str | Connected, None]:
        pings = asyncio.create_task(_ping(socket, ping_seconds))
        try:
            for subscription in subscriptions:
                await socket.send(subscription)
            yield Connected(attempt)
            while True:
                yield await _frame(socket, silence_seconds)
        finally:
            pings.cancel()

    return reconnecting(url, session, stop=stop, backoff=backoff, ping_interval=None)


async def _frame(socket: ClientConnection, silence_seconds: float) -> str:
    try:
        async with asyncio.timeout(silence_seconds):
            return await socket.recv(decode=True)
    except TimeoutError:
        raise SessionLostError(f"no frame for {silence_seconds:g} s") from None


async def _ping(socket: ClientConnection, every_seconds: float) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        await socket.send('{"method":"ping"}')
