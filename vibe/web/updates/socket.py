"""`/ws/v1/updates`: the socket of live updates, from the check of who opens it to its end.

A client sends `{"op":"subscribe","topic":"positions","key":"alice","after":17}` (key and after may be absent) and
`{"op":"unsubscribe","topic":"positions","key":"alice"}`. It gets `{"op":"subscribed",...,"seq":n}`, then
`{"topic","key","seq","rows"}`, each row with its own `seq` in the stream; `{"op":"reset",...,"seq":n}` says that rows
up to n were left out, and that the read models have them; `{"op":"error","detail"}` says what a message should be. A
frame without rows moves `seq` on: everything up to it was looked at. `subscribed` comes again after the log was away.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import structlog
from aiohttp import WSMsgType, web
from msgspec import Struct

from streams.errors import LogError
from vibe.web import metrics
from vibe.web.checks import Checks
from vibe.web.problems import TooManyError, UnavailableError
from vibe.web.routing import Role
from vibe.web.updates.client import MOST_TOPICS, Client, frame
from vibe.web.updates.feed import Feed
from vibe.web.updates.topics import LAG, TOPICS

log = structlog.get_logger()

PATH = "/ws/v1/updates"
MOST_CLIENTS = 2_000
MOST_OF_ONE = 50
"""Sockets of one session or API key."""
SESSION_ENDED = 4401
"""The close code of a socket whose session has ended."""
_LARGEST_MESSAGE = 4_096
_FLUSH_SECONDS = 0.05
"""Rows of this long share a frame."""
_SEND_SECONDS = 10.0
_CHECK_SECONDS = 10.0
"""How often the session of an open socket is looked at."""


class Asked(Struct, kw_only=True):
    """One message of a client."""

    op: str
    topic: str
    key: str = ""
    after: int | None = None


_asked = msgspec.json.Decoder(Asked)


class Updates:
    """The sockets of one server."""

    def __init__(self, feed: Feed, checks: Checks) -> None:
        self._feed = feed
        self._checks = checks
        self._of: Counter[str] = Counter()
        self._open: set[web.WebSocketResponse] = set()

    async def close(self) -> None:
        """Close every socket: the server ends."""
        await asyncio.gather(*(socket.close(code=1001) for socket in list(self._open)), return_exceptions=True)
        await self._feed.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket until it closes. Raises problems for one that may not be opened."""
        self._checks.origin(request)
        identity = await self._checks.identity(request)
        self._checks.role(identity, Role.VIEWER)
        assert identity is not None
        if len(self._feed.clients) >= MOST_CLIENTS:
            raise UnavailableError("this server has as many live clients as it serves; ask again later")
        if self._of[identity.session_id] >= MOST_OF_ONE:
            raise TooManyError(f"a session has at most {MOST_OF_ONE} live sockets; close one")
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=_LARGEST_MESSAGE, compress=False)
        await socket.prepare(request)
        client = Client()
        self._feed.clients.add(client)
        self._open.add(socket)
        self._of[identity.session_id] += 1
        metrics.LIVE_CLIENTS.set(len(self._feed.clients))
        helpers = [
            asyncio.create_task(self._send(socket, client)),
            asyncio.create_task(self._check(socket, request)),
        ]
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    break
                await self._answer(client, message.data)
        finally:
            self._feed.clients.discard(client)
            self._open.discard(socket)
            self._of[identity.session_id] -= 1
            metrics.LIVE_CLIENTS.set(len(self._feed.clients))
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        return socket

    async def _answer(self, client: Client, text: str) -> None:
        try:
            asked = _asked.decode(text)
        except msgspec.DecodeError as error:
            client.send(frame(op="error", detail=f'send {{"op":"subscribe","topic":"decisions"}}: {error}'))
            return
        match asked:
            case Asked(op="subscribe", topic=topic) if topic == LAG:
                self._feed.watch_lag(client)
                client.send(frame(op="subscribed", topic=LAG, key="", seq=None))
            case Asked(op="unsubscribe", topic=topic) if topic == LAG:
                client.lag = False
            case Asked(op="subscribe", topic=topic) if topic in TOPICS:
                if (topic, asked.key) not in client.wanted and len(client.wanted) >= MOST_TOPICS:
                    client.send(frame(op="error", detail=f"a socket has at most {MOST_TOPICS} subscriptions"))
                    return
                try:
                    await self._feed.subscribe(client, TOPICS[topic], asked.key, asked.after)
                except LogError as error:
                    client.wanted.pop((topic, asked.key), None)
                    client.send(frame(op="error", detail=f"{topic} cannot be followed now, subscribe again: {error}"))
            case Asked(op="unsubscribe", topic=topic):
                client.wanted.pop((topic, asked.key), None)
            case Asked(op="subscribe"):
                known = ", ".join([*TOPICS, LAG])
                client.send(frame(op="error", detail=f"there is no topic {asked.topic[:40]!r}; topics: {known}"))
            case _:
                client.send(frame(op="error", detail=f"there is no op {asked.op[:40]!r}; use subscribe or unsubscribe"))

    async def _send(self, socket: web.WebSocketResponse, client: Client) -> None:
        """Send what waits, a few frames at a time; a client that takes none for ten seconds is given up."""
        while not socket.closed:
            await client.waiting.wait()
            for sent in client.take():
                try:
                    async with asyncio.timeout(_SEND_SECONDS):
                        await socket.send_str(sent.decode())
                except (TimeoutError, ConnectionError):
                    metrics.LIVE_CLOSED.labels("slow").inc()
                    await socket.close(code=1013, message=b"too slow")
                    return
            await asyncio.sleep(_FLUSH_SECONDS)

    async def _check(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        """Close the socket once its session or key has ended."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                identity = await self._checks.identity(request, seen=False)
            except Exception as error:
                # Whether it has ended is not known: it is asked again, and until then the socket stays open.
                log.warning("updates.session_not_checked", why=str(error))
                continue
            if identity is None:
                metrics.LIVE_CLOSED.labels("session").inc()
                await socket.close(code=SESSION_ENDED, message=b"the session has ended")
                return
