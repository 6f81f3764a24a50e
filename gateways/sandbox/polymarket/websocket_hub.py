"""The connections of the venue's two sockets, and the faults that sending goes through."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from gateways.sandbox.polymarket.faults import Faults, Socket
from gateways.sandbox.websocket_connection import QueuedConnection


@dataclass(frozen=True)
class Limits:
    """What the venue allows: page offsets of the first Data API, blocks of one `eth_getLogs`, queued frames."""

    trades_offset: int = 10_000
    activity_offset: int = 5_000
    log_blocks: int = 10_000
    queued_frames: int = 4_096


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
