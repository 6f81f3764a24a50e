"""The connections of the venue: what each is subscribed to, and the limits per client address."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from gateways.sandbox.hyperliquid.subscriptions import Subscription, Topic
from gateways.sandbox.websocket_connection import QueuedConnection


@dataclass(frozen=True)
class Limits:
    """What the venue allows; the defaults are the real venue's. Users and subscriptions count per client address."""

    idle_s: float = 60.0
    users: int = 15
    subscriptions: int = 1_000
    queued_frames: int = 4_096


class Connection(QueuedConnection):
    """One client, with its address and its subscriptions."""

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport, client: str, limits: Limits) -> None:
        super().__init__(ws, transport, limits.queued_frames)
        self.client = client
        self.subscriptions: dict[Topic, Subscription] = {}


class WebsocketHub:
    """Routes frames to subscribers and enforces the limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.connections: set[Connection] = set()
        self._subscribers: defaultdict[Topic, set[Connection]] = defaultdict(set)

    def admit(self, connection: Connection) -> None:
        self.connections.add(connection)

    def remove(self, connection: Connection) -> None:
        self.connections.discard(connection)
        for topic in tuple(connection.subscriptions):
            self._remove_from(connection, topic)

    def subscribe(self, connection: Connection, wanted: Subscription) -> str | None:
        """Add a subscription; returns the venue's error text when it is refused."""
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
        self._subscribers[wanted.topic].add(connection)
        return None

    def unsubscribe(self, connection: Connection, unwanted: Subscription) -> str | None:
        """Remove a subscription; returns the venue's error text when there is none."""
        if unwanted.topic not in connection.subscriptions:
            return f"Invalid subscription {_json(unwanted.wire)}"
        self._remove_from(connection, unwanted.topic)
        return None

    def _remove_from(self, connection: Connection, topic: Topic) -> None:
        del connection.subscriptions[topic]
        self._subscribers[topic].discard(connection)
        if not self._subscribers[topic]:
            del self._subscribers[topic]

    def topics(self, channel: str) -> list[Topic]:
        """The feeds of `channel` with a subscriber."""
        return [topic for topic in self._subscribers if topic.channel == channel]

    def has_subscribers(self, topic: Topic) -> bool:
        return topic in self._subscribers

    def publish(self, topic: Topic, frame: bytes) -> None:
        """Queue `frame` for every subscriber of `topic`."""
        for connection in tuple(self._subscribers.get(topic, ())):
            connection.send(frame)

    def inject(self, frames: Iterable[str]) -> None:
        """Queue raw text for every connection with a subscription."""
        encoded = [frame.encode() for frame in frames]
        for connection in tuple(self.connections):
            if connection.subscriptions:
                for frame in encoded:
                    connection.send(frame)

    def abort_all(self) -> None:
        for connection in tuple(self.connections):
            connection.abort()

    def abort_idle(self) -> None:
        """Abort every connection to which nothing was sent for `limits.idle_s`."""
        for connection in tuple(self.connections):
            if connection.idle_s >= self.limits.idle_s:
                connection.abort()


def _json(wire: dict[str, object]) -> str:
    return msgspec.json.encode(wire).decode()
