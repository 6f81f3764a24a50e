"""The connections of the venue: what each is subscribed to, the limits per client address, and what each has used."""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from gateways.sandbox.hyperliquid.faults import Faults
from gateways.sandbox.hyperliquid.subscriptions import USER_CHANNELS, Subscription, Topic
from gateways.sandbox.websocket_connection import QueuedConnection
from gateways.sandbox.windows import SlidingWindow

_MINUTE_S = 60.0
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Limits:
    """What the venue allows; the defaults are the real venue's, counted per client address.

    More than `messages_per_minute` ends the connection: what the venue does then is not documented.
    """

    idle_s: float = 60.0
    users: int = 15
    subscriptions: int = 1_000
    connections: int = 10
    connections_per_minute: int = 30
    messages_per_minute: int = 2_000
    weight_per_minute: int = 1_200
    queued_frames: int = 4_096


@dataclass
class Usage:
    """What all clients have used so far, for tests and benchmarks."""

    weight: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    """Answered `/info` requests by type."""
    requests_refused: int = 0
    connections: int = 0
    connections_refused: int = 0
    messages: int = 0
    subscriptions: int = 0
    """The most that were open at a time."""
    subscriptions_refused: int = 0


class Client:
    """One client address: what it spent of the limits that count within a minute."""

    def __init__(self, limits: Limits) -> None:
        self.weight = SlidingWindow(limits.weight_per_minute, _MINUTE_S)
        self.connections = SlidingWindow(limits.connections_per_minute, _MINUTE_S)
        self.messages = SlidingWindow(limits.messages_per_minute, _MINUTE_S)


class Connection(QueuedConnection):
    """One client, with its address and its subscriptions."""

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport, client: str, limits: Limits) -> None:
        super().__init__(ws, transport, limits.queued_frames)
        self.client = client
        self.subscriptions: dict[Topic, Subscription] = {}
        self.number = next(_NUMBERS)
        """Higher than that of every connection before."""


class WebsocketHub:
    """Routes frames to subscribers and enforces the limits."""

    def __init__(self, limits: Limits, faults: Faults) -> None:
        self.limits = limits
        self.usage = Usage()
        self.connections: set[Connection] = set()
        self._faults = faults
        self._clients: dict[str, Client] = {}
        self._subscribers: defaultdict[Topic, set[Connection]] = defaultdict(set)

    def client(self, address: str) -> Client:
        return self._clients.setdefault(address, Client(self.limits))

    def may_connect(self, address: str) -> bool:
        """True when this client may open one more connection, which then counts."""
        open_now = sum(connection.client == address for connection in self.connections)
        if open_now < self.limits.connections and self.client(address).connections.take():
            self.usage.connections += 1
            return True
        self.usage.connections_refused += 1
        return False

    def may_send(self, connection: Connection) -> bool:
        """True when this client may send one more message, which then counts."""
        self.usage.messages += 1
        return self.client(connection.client).messages.take()

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
        subscribed = sum(len(other.subscriptions) for other in siblings)
        if subscribed >= self.limits.subscriptions:
            self.usage.subscriptions_refused += 1
            return f"Cannot subscribe to more than {self.limits.subscriptions} channels."
        if wanted.topic.channel in USER_CHANNELS:
            subscribed_now = (topic for other in siblings for topic in other.subscriptions)
            users = {topic.name for topic in subscribed_now if topic.channel in USER_CHANNELS}
            if len(users | {wanted.topic.name}) > self.limits.users:
                return f"Cannot track more than {self.limits.users} total users."
        connection.subscriptions[wanted.topic] = wanted
        self._subscribers[wanted.topic].add(connection)
        self.usage.subscriptions = max(self.usage.subscriptions, subscribed + 1)
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
        """Queue `frame` for every subscriber of `topic`: with a fault in force twice, or not at all."""
        faulty = self._oldest_listener() if self._faults.listener_faulty else None
        for connection in tuple(self._subscribers.get(topic, ())):
            if connection is not faulty or not self._faults.withholds(topic.channel):
                self.push(connection, frame)

    def _oldest_listener(self) -> Connection | None:
        """The connection that has listened to trades for the longest."""
        listening = (one for one in self.connections if any(topic.channel == "trades" for topic in one.subscriptions))
        return min(listening, key=lambda one: one.number, default=None)

    def push(self, connection: Connection, frame: bytes) -> None:
        """Queue `frame` for one subscriber, as `publish` does for all."""
        if self._faults.silent:
            return
        for _ in range(2 if self._faults.duplicate else 1):
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
