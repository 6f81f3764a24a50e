"""The feed of fills: one WebSocket to a Polygon node that subscribes to the logs of many wallets, and reconnects.

A node sends every log of the filter from the time at which it has answered the subscription, and none from before:
the reader fetches the blocks in between at every `Connected`. New heads come over the same connection; they carry the
times of blocks, and show that the node still follows the chain (docs/venues/polymarket.md, Polygon nodes).
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Raw, Struct
from websockets.asyncio.client import ClientConnection

from gateways.polymarket.log_parsing import Log, block_seconds, block_time, filter_of, log_id
from gateways.reconnecting_websocket import DEFAULT_BACKOFF, Backoff, Connected, SessionLostError, reconnecting
from gateways.venue_errors import WireError

log = structlog.get_logger()

WALLETS_PER_SUBSCRIPTION = 500
STALE_SECONDS = 30.0
"""Blocks come every two seconds: a node without a new one for this long has stopped, whatever its pings answer."""
ANSWER_SECONDS = 10.0
PING_SECONDS = 10.0
REMEMBERED_BLOCKS = 512
_HEADS = 1
"""The request id of the subscription to new heads."""


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


def fills(
    ws_url: str,
    wallets: Sequence[str],
    *,
    stop: asyncio.Event,
    backoff: Backoff = DEFAULT_BACKOFF,
    stale_seconds: float = STALE_SECONDS,
    answer_seconds: float = ANSWER_SECONDS,
) -> AsyncIterator[Connected | Log]:
    """Logs of the fills of `wallets` until `stop`, removed ones among them, and `Connected` after each subscription.

    Raises WireError when one of `wallets` is no address. Logs of one connection come in the node's order; around a
    reconnect some come twice (they have ids) and some not at all (`PolygonRpc.logs` has them).
    """
    wanted = list(dict.fromkeys(wallets))
    parts = [wanted[at : at + WALLETS_PER_SUBSCRIPTION] for at in range(0, len(wanted), WALLETS_PER_SUBSCRIPTION)]
    subscriptions: list[list[Any]] = [["newHeads"], *(["logs", filter_of(part)] for part in parts)]

    async def session(socket: ClientConnection, attempt: int) -> AsyncGenerator[Connected | Log, None]:
        heads, early = await _subscribe(socket, subscriptions, answer_seconds)
        yield Connected(attempt)
        clock = asyncio.get_running_loop().time
        times: dict[str, int] = {}
        fresh_until = clock() + stale_seconds
        while True:
            params = early.popleft() if early else await _next(socket, fresh_until)
            if params is None:
                continue
            if params.subscription == heads:
                fresh_until = clock() + stale_seconds
                _remember(times, params.result)
            elif (found := _log(params.result, times)) is not None:
                yield found

    return reconnecting(
        ws_url, session, stop=stop, backoff=backoff, ping_interval=PING_SECONDS, ping_timeout=stale_seconds
    )


async def _subscribe(
    socket: ClientConnection, subscriptions: list[list[Any]], answer_seconds: float
) -> tuple[str, deque[_Params]]:
    """The name of the subscription to heads, and the notifications that came before the last answer."""
    for number, subscription in enumerate(subscriptions, _HEADS):
        request = {"jsonrpc": "2.0", "id": number, "method": "eth_subscribe", "params": subscription}
        await socket.send(msgspec.json.encode(request), text=True)
    names: dict[int, str] = {}
    early: deque[_Params] = deque()
    async with asyncio.timeout(answer_seconds):
        while len(names) < len(subscriptions):
            frame = _decoded(await socket.recv(decode=False))
            if frame is None:
                continue
            if frame.error and frame.error != Raw(b"null"):
                raise SessionLostError(f"eth_subscribe was refused: {bytes(frame.error)[:200]!r}")
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
        raise SessionLostError("no new block for too long: the node has stopped following the chain") from None
    return None if frame is None else frame.params


def _log(payload: Raw, times: dict[str, int]) -> Log | None:
    try:
        place = log_id(payload)
        venue_time = block_time(payload)
    except WireError as error:
        # There is no id to store it under; polling the Data API brings the fill.
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
        raise SessionLostError(f"eth_subscribe was answered with {bytes(result)[:200]!r}, not with a name") from None
