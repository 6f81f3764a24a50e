"""The sockets of the venue. Frames are encoded once and queued per connection.

A connection whose queue overflows is closed as a slow consumer, so that a client that does not read holds up nobody.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from gateways.sandbox.polymarket.faults import Faults, Socket


@dataclass(frozen=True)
class Limits:
    """What the venue allows: page offsets of the first Data API, blocks of one `eth_getLogs`, queued frames."""

    trades_offset: int = 10_000
    activity_offset: int = 5_000
    log_blocks: int = 10_000
    queued_frames: int = 4_096


class Connection:
    """One client. `send` never blocks; `pump` is the only writer to the socket."""

    def __init__(self, kind: Socket, ws: web.WebSocketResponse, transport: asyncio.Transport, queued: int) -> None:
        self.kind = kind
        self.closing = False
        self.listening = False
        self._ws = ws
        self._transport = transport
        self._queue: asyncio.Queue[bytes | int] = asyncio.Queue(queued)

    def send(self, frame: bytes) -> None:
        """Queue one frame; a full queue ends the connection instead."""
        if self.closing:
            return
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.abort()

    def close(self, code: int) -> None:
        """Close with `code` after what is queued; 1006 is no frame at all."""
        if self._queue.full() or code == 1006:
            self.abort()
        elif not self.closing:
            self.closing = True
            self._queue.put_nowait(code)

    def abort(self) -> None:
        """Cut the connection now: the client sees 1006."""
        self.closing = True
        self._transport.abort()

    async def pump(self) -> None:
        """Write queued frames until the connection ends."""
        while not isinstance(frame := await self._queue.get(), int):
            try:
                await self._ws.send_frame(frame, WSMsgType.TEXT)
            except ConnectionError:
                return
        await self._ws.close(code=frame)


class WebsocketHub:
    """All connections, and the faults that sending goes through."""

    def __init__(self, faults: Faults) -> None:
        self.all: set[Connection] = set()
        self._faults = faults

    def push(self, connection: Connection, frame: bytes) -> None:
        """Send what nobody asked for: twice or not at all when a fault says so."""
        if self._faults.silent:
            return
        for _ in range(2 if self._faults.duplicate else 1):
            connection.send(frame)

    def inject(self, frames: Iterable[str], only: Socket | None) -> None:
        """Queue raw text for every connection that listens to anything."""
        encoded = [frame.encode() for frame in frames]
        for connection in self._chosen(only):
            if connection.listening:
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
