"""The feed of fills: one WebSocket to a Polygon node that subscribes to the logs of many wallets, and comes back alone.

A node sends every log of the filter from the moment it has answered the subscription, and nothing of what was before:
who hears `Connected` asks the node for the blocks in between. New heads come over the same connection; they tell the
times of blocks, and that the node still follows the chain.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import structlog
import websockets
from msgspec import Raw, Struct
from websockets.asyncio.client import ClientConnection, connect

from gateways.polymarket.log_parsing import Log, block_seconds, block_time, filter_of, log_id
from gateways.venue_errors import WireError

log = structlog.get_logger()

WALLETS_PER_SUBSCRIPTION = 500
STALE_SECONDS = 30.0
"""Blocks come every two seconds: a node that shows none for this long has stopped, whatever its pings say."""
ANSWER_SECONDS = 10.0
PING_SECONDS = 10.0
MAX_FRAME_BYTES = 64 * 1024 * 1024
REMEMBERED_BLOCKS = 512
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_HEADS = 1


class Connected:
    """Handed out instead of a log when a (new) connection has subscribed; `attempt` counts from 1."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt


class _Params(Struct):
    subscription: str
    result: Raw


class _Frame(Struct):
    id: int | None = None
    result: Raw = Raw()
    error: Raw = Raw()
    method: str = ""
    params: _Params | None = None


class _Head(Struct):
    hash: str
    timestamp: str


_FRAME = msgspec.json.Decoder(_Frame)
_HEAD = msgspec.json.Decoder(_Head)
_NAME = msgspec.json.Decoder(str)


class _RefusedError(Exception):
    """The node does not do what it was asked for."""


async def fills(ws_url: str, wallets: Sequence[str], *, stop: asyncio.Event) -> AsyncIterator[Connected | Log]:
    """Logs of the fills of `wallets` until `stop`, logs taken back among them; reconnects for ever.

    Raises WireError when one of `wallets` is no address. Logs of one connection come in the node's order; around a
    reconnection some come twice (they have ids) and some not at all (ask `Chain.logs`).
    """
    wanted = list(dict.fromkeys(wallets))
    parts = [wanted[at : at + WALLETS_PER_SUBSCRIPTION] for at in range(0, len(wanted), WALLETS_PER_SUBSCRIPTION)]
    wishes: list[list[Any]] = [["newHeads"]]
    wishes += (["logs", filter_of(part)] for part in parts)
    attempt, delay = 0, _FIRST_PAUSE
    clock = asyncio.get_running_loop().time
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            began = clock()
            try:
                async with connect(
                    ws_url,
                    max_size=MAX_FRAME_BYTES,
                    ping_interval=PING_SECONDS,
                    ping_timeout=STALE_SECONDS,
                    close_timeout=1,
                    open_timeout=10,
                ) as socket:
                    attempt += 1
                    async with aclosing(_subscribed(socket, wishes, attempt, stopped)) as ones:
                        async for one in ones:
                            yield one
            except (websockets.WebSocketException, OSError, TimeoutError, _RefusedError) as error:
                if not stop.is_set():
                    log.warning("chain.lost", url=ws_url, error=str(error) or type(error).__name__, attempt=attempt)
            if clock() - began > 2 * _LONGEST_PAUSE:
                delay = _FIRST_PAUSE
            await asyncio.wait({stopped}, timeout=delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, _LONGEST_PAUSE)
    finally:
        stopped.cancel()


async def _subscribed(
    socket: ClientConnection, wishes: list[list[Any]], attempt: int, stopped: asyncio.Task[bool]
) -> AsyncGenerator[Connected | Log, None]:
    closer = asyncio.create_task(_close_after(stopped, socket))
    times: dict[str, int] = {}
    try:
        heads, early = await _subscribe(socket, wishes)
        yield Connected(attempt)
        clock = asyncio.get_running_loop().time
        fresh_until = clock() + STALE_SECONDS
        while True:
            params = early.popleft() if early else await _next(socket, fresh_until)
            if params is None:
                continue
            if params.subscription == heads:
                fresh_until = clock() + STALE_SECONDS
                _remember(times, params.result)
            elif (found := _log(params.result, times)) is not None:
                yield found
    finally:
        closer.cancel()


async def _subscribe(socket: ClientConnection, wishes: list[list[Any]]) -> tuple[str, deque[_Params]]:
    """The name of the subscription to heads, and what came while the node was still answering."""
    for number, wish in enumerate(wishes, _HEADS):
        request = {"jsonrpc": "2.0", "id": number, "method": "eth_subscribe", "params": wish}
        await socket.send(msgspec.json.encode(request), text=True)
    names: dict[int, str] = {}
    early: deque[_Params] = deque()
    async with asyncio.timeout(ANSWER_SECONDS):
        while len(names) < len(wishes):
            frame = _decoded(await socket.recv(decode=False))
            if frame is None:
                continue
            if frame.error and frame.error != Raw(b"null"):
                raise _RefusedError(f"eth_subscribe was refused: {bytes(frame.error)[:200]!r}")
            if frame.params is not None:
                early.append(frame.params)
            elif frame.id is not None:
                names[frame.id] = _name(frame.result)
    return names[_HEADS], early


async def _next(socket: ClientConnection, fresh_until: float) -> _Params | None:
    try:
        async with asyncio.timeout_at(fresh_until):
            frame = _decoded(await socket.recv(decode=False))
    except TimeoutError:
        raise TimeoutError(f"no new block for {STALE_SECONDS:.0f} s") from None
    return None if frame is None else frame.params


def _log(payload: Raw, times: dict[str, int]) -> Log | None:
    try:
        place = log_id(payload)
        venue_time = block_time(payload)
    except WireError as error:
        # Nothing to store it under; the Data API's sweep brings the fill.
        log.warning("chain.log_refused", error=str(error), payload=bytes(payload)[:400])
        return None
    return Log(payload, times.get(place.split(":")[2]) if venue_time is None else venue_time)


def _remember(times: dict[str, int], payload: Raw) -> None:
    try:
        head = _HEAD.decode(payload)
        times[head.hash.lower()] = block_seconds(head.timestamp)
    except (msgspec.MsgspecError, WireError) as error:
        log.warning("chain.head_refused", error=str(error))
    if len(times) > REMEMBERED_BLOCKS:
        del times[next(iter(times))]


def _decoded(frame: bytes) -> _Frame | None:
    try:
        return _FRAME.decode(frame)
    except msgspec.MsgspecError as error:
        log.warning("chain.frame_refused", error=str(error), frame=frame[:400])
        return None


def _name(result: Raw) -> str:
    try:
        return _NAME.decode(result)
    except msgspec.MsgspecError:
        raise _RefusedError(f"eth_subscribe was answered with {bytes(result)[:200]!r}, not with a name") from None


async def _close_after(stopped: asyncio.Task[bool], socket: ClientConnection) -> None:
    await asyncio.wait({stopped})
    await socket.close()
