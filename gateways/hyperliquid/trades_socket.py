"""The public trades feed: one WebSocket that subscribes to `trades` of many coins, and reconnects.

The feed has no sequence numbers: on every subscribe the venue replays the last 30 trades of the coin, unflagged
(docs/venues/hyperliquid.md, replays and gaps). Frames are passed on as text; the reader recognises the replays.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterable

import msgspec
from websockets.asyncio.client import ClientConnection

from gateways.reconnecting_websocket import DEFAULT_BACKOFF, Backoff, Connected, SessionLostError, reconnecting

PING_SECONDS = 30.0
SILENCE_SECONDS = 75.0
"""The venue answers pings, so a connection without any frame for this long is dead, whatever TCP believes."""
TRADES_SILENCE_SECONDS = 120.0
"""Of many coins some trade every second. A connection that answers pings and brings no trade for this long has lost its
subscriptions; a new one costs a replay of what is known already."""
_MANY_COINS = 20
"""Fewer may well be quiet for that long."""
_HEAD = 40
_TRADES = '"channel":"trades"'


def trades(
    url: str,
    coins: Iterable[str],
    *,
    stop: asyncio.Event,
    backoff: Backoff = DEFAULT_BACKOFF,
    ping_seconds: float = PING_SECONDS,
    silence_seconds: float = SILENCE_SECONDS,
    trades_silence_seconds: float | None = None,
) -> AsyncIterator[str | Connected]:
    """Frames of the `trades` feed of `coins` until `stop`, and `Connected` at the beginning of each connection.

    One that brings no trade for `trades_silence_seconds` is replaced; None is TRADES_SILENCE_SECONDS for many coins,
    and never for few.
    """
    subscriptions = [
        msgspec.json.encode({"method": "subscribe", "subscription": {"type": "trades", "coin": coin}}).decode()
        for coin in coins
    ]

    limit = trades_silence_seconds
    if limit is None:
        limit = TRADES_SILENCE_SECONDS if len(subscriptions) >= _MANY_COINS else math.inf

    async def session(socket: ClientConnection, attempt: int) -> AsyncGenerator[str | Connected, None]:
        pings = asyncio.create_task(_ping(socket, ping_seconds))
        try:
            for subscription in subscriptions:
                await socket.send(subscription)
            yield Connected(attempt)
            now = asyncio.get_running_loop().time
            traded_at = now()
            while True:
                frame = await _frame(socket, silence_seconds)
                if _TRADES in frame[:_HEAD]:
                    traded_at = now()
                elif now() - traded_at > limit:
                    raise SessionLostError(f"no trade for {limit:g} s, though it answers")
                yield frame
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
