"""The sockets of the venue: who listens to what, the limits per client address, and slow clients cut off.

Frames are encoded once and queued per connection; a connection whose queue overflows is aborted, so that a client that
does not read holds up nobody else.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from aiohttp import WSMsgType, web

from gateways.sandbox.hyperliquid.subscriptions import Subscription, Topic


@dataclass(frozen=True)
class Limits:
    """What the venue allows; the defaults are the real venue's. Users and subscriptions count per client address."""

    idle_s: float = 60.0
    users: int = 15
    subscriptions: int = 1_000
    queued_frames: int = 4_096


class Connection:
    """One client. `send` never blocks; `pump` is the only writer to the socket."""

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport, client: str, limits: Limits) -> None:
        self.client = client
        self.subscriptions: dict[Topic, Subscription] = {}
        self.closing = False
        self._ws = ws
        self._transport = transport
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(limits.queued_frames)
        self._last_sent = asyncio.get_running_loop().time()

    def send(self, frame: bytes) -> None:
        """Queue one frame; a full queue ends the connection instead."""
        if self.closing:
            return
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.abort()

    def hang_up(self) -> None:
        """Close the TCP connection after what is queued, without a closing frame."""
        if self._queue.full():
            self.abort()
        elif not self.closing:
            self.closing = True
            self._queue.put_nowait(None)

    def abort(self) -> None:
        """Cut the connection now: the client sees 1006."""
        self.closing = True
        self._transport.abort()

    @property
    def idle_s(self) -> float:
        """Seconds since a frame was last written."""
        return asyncio.get_running_loop().time() - self._last_sent

    async def pump(self) -> None:
        """Write queued frames until the connection ends."""
        while (frame := await self._queue.get()) is not None:
            try:
                await self._ws.send_frame(frame, WSMsgType.TEXT)
            except ConnectionError:
                return
            self._last_sent = asyncio.get_running_loop().time()
        self._transport.close()


class WebsocketHub:
    """Routes frames to subscribers and keeps the limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.connections: set[Connection] = set()
        self._listeners: defaultdict[Topic, set[Connection]] = defaultdict(set)

    def admit(self, connection: Connection) -> None:
        self.connections.add(connection)

    def remove(self, connection: Connection) -> None:
        self.connections.discard(connection)
        for topic in tuple(connection.subscriptions):
            self._leave(connection, topic)

    def subscribe(self, connection: Connection, wanted: Subscription) -> str | None:
        """Enter a subscription; answers the venue's error text when it is refused."""
        if wanted.topic in connection.subscriptions:
            return f"Already subscribed: {_json(wanted.wire)}"
        siblings = [other for other in self.connections if other.client == connection.client]
        if sum(len(other.subscriptions) for other in siblings) >= self.limits.subscriptions:
            return f"Cannot subscribe to more than {self.limits.subscriptions} channels."
        if wanted.topic.channel == "userFills":
            users = {topic.name for other in siblings for topic in other.subscriptions if topic.channel == "userFills"}
            if len(users | {wanted.topic.name}) > self.limits.users:
                return f"Cannot track more than {self.limits.users} total users."
        connection.subscriptions[wanted.topic] = wanted
        self._listeners[wanted.topic].add(connection)
        return None

    def unsubscribe(self, connection: Connection, unwanted: Subscription) -> str | None:
        """Leave a subscription; answers the venue's error text when there is none."""
        if unwanted.topic not in connection.subscriptions:
            return f"Invalid subscription {_json(unwanted.wire)}"
        self._leave(connection, unwanted.topic)
        return None

    def _leave(self, connection: Connection, topic: Topic) -> None:
        del connection.subscriptions[topic]
        self._listeners[topic].discard(connection)
        if not self._listeners[topic]:
            del self._listeners[topic]

    def topics(self, channel: str) -> list[Topic]:
        """The feeds of `channel` that somebody listens to."""
        return [topic for topic in self._listeners if topic.channel == channel]

    def heard(self, topic: Topic) -> bool:
        return topic in self._listeners

    def publish(self, topic: Topic, frame: bytes) -> None:
        """Queue `frame` for everybody who listens to `topic`."""
        for connection in tuple(self._listeners.get(topic, ())):
            connection.send(frame)

    def inject(self, frames: Iterable[str]) -> None:
        """Queue raw text for every connection that listens to anything."""
        encoded = [frame.encode() for frame in frames]
        for connection in tuple(self.connections):
            if connection.subscriptions:
                for frame in encoded:
                    connection.send(frame)

    def abort_all(self) -> None:
        for connection in tuple(self.connections):
            connection.abort()

    def abort_idle(self) -> None:
        """Cut every connection that was sent nothing for `limits.idle_s`."""
        for connection in tuple(self.connections):
            if connection.idle_s >= self.limits.idle_s:
                connection.abort()


def _json(wire: dict[str, object]) -> str:
    return msgspec.json.encode(wire).decode()
