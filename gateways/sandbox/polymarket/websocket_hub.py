"""The connections of the venue's two sockets, and the faults that sending goes through."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from gateways.sandbox.polymarket.faults import Faults, Socket
from gateways.sandbox.websocket_connection import QueuedConnection
from gateways.sandbox.windows import SlidingWindow

_REQUESTS_PER_10_S = {
    "/data": 1_000,
    "/data/trades": 200,
    "/data/v2/trades": 200,
    "/data/positions": 150,
    "/data/v2/positions": 150,
    "/gamma": 4_000,
    "/gamma/markets": 300,
    "/clob": 9_000,
    "/clob/book": 1_500,
    "/clob/books": 500,
    "/clob/price": 1_500,
    "/clob/prices": 500,
    "/clob/midpoint": 1_500,
    "/clob/midpoints": 500,
}


@dataclass(frozen=True)
class Limits:
    """What the venue allows: page offsets of the first Data API, blocks of one `eth_getLogs`, queued frames.

    `requests_per_10_s` counts the requests of one client address by path: each of these counts everything below it.
    """

    trades_offset: int = 10_000
    activity_offset: int = 5_000
    log_blocks: int = 10_000
    queued_frames: int = 4_096
    requests_per_10_s: Mapping[str, int] = field(default_factory=lambda: _REQUESTS_PER_10_S)


class RequestWindows:
    """The requests of each client address within the last ten seconds."""

    def __init__(self, limits: Limits) -> None:
        self.served = 0
        self.refused = 0
        self._limits = limits.requests_per_10_s
        self._windows: dict[tuple[str, str], SlidingWindow] = {}

    def take(self, client: str, path: str) -> bool:
        """Count a request; False when it is one too many for its path or for one above it."""
        counted = [prefix for prefix in self._limits if path == prefix or path.startswith(prefix + "/")]
        allowed = all(self._window(client, prefix).take() for prefix in counted)
        self.served += allowed
        self.refused += not allowed
        return allowed

    def _window(self, client: str, prefix: str) -> SlidingWindow:
        key = (client, prefix)
        if key not in self._windows:
            self._windows[key] = SlidingWindow(self._limits[prefix], 10.0)
        return self._windows[key]


class Connection(QueuedConnection):
    """One client of one of the venue's sockets; `subscribed` once it wants anything."""

    def __init__(self, kind: Socket, ws: web.WebSocketResponse, transport: asyncio.Transport, queued: int) -> None:
        super().__init__(ws, transport, queued)
        self.kind = kind
        self.subscribed = False


class WebsocketHub:
    """All connections, and the faults that sending goes through."""

    def __init__(self, faults: Faults) -> None:
        self.all: set[Connection] = set()
        self._faults = faults

    def push(self, connection: Connection, frame: bytes) -> None:
        """Send an event that a client subscribed to: with a fault in force twice, or not at all."""
        if self._faults.silent:
            return
        for _ in range(2 if self._faults.duplicate else 1):
            connection.send(frame)

    def inject(self, frames: Iterable[str], only: Socket | None) -> None:
        """Queue raw text for every connection with a subscription."""
        encoded = [frame.encode() for frame in frames]
        for connection in self._chosen(only):
            if connection.subscribed:
                for frame in encoded:
                    connection.send(frame)

    def abort_all(self, only: Socket | None) -> None:
        for connection in self._chosen(only):
            connection.abort()

    def close_all(self, code: int, only: Socket | None) -> None:
        for connection in self._chosen(only):
            connection.close(code)

    def _chosen(self, only: Socket | None) -> list[Connection]:
        return [connection for connection in self.all if only in (None, connection.kind)]
