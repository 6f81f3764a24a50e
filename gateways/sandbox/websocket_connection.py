"""One client of a sandbox's WebSocket: frames are queued, so that a client that does not read delays no other.

Both venues' hubs send through it. What a client subscribed to and which limits and faults apply is theirs.
"""

import asyncio
from collections.abc import Callable

from aiohttp import WSMsgType, web

_ABNORMAL = 1006
"""The code that a client sees when the connection ends without a closing frame."""


class QueuedConnection:
    """`send` never blocks; `run` is the only writer to the socket. A full queue ends the connection."""

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport, queued_frames: int) -> None:
        self.closing = False
        self._ws = ws
        self._transport = transport
        self._queue: asyncio.Queue[bytes | int] = asyncio.Queue(queued_frames)
        self._last_sent = asyncio.get_running_loop().time()

    def send(self, frame: bytes) -> None:
        """Queue one frame; a full queue ends the connection instead."""
        if self.closing:
            return
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.abort()

    def close(self, code: int) -> None:
        """Close with `code` after what is queued; at once where the queue is full."""
        if self._queue.full():
            self.abort()
        elif not self.closing:
            self.closing = True
            self._queue.put_nowait(code)

    def hang_up(self) -> None:
        """Close the TCP connection after what is queued, without a closing frame."""
        self.close(_ABNORMAL)

    def abort(self) -> None:
        """End the connection now: the client sees 1006."""
        self.closing = True
        self._transport.abort()

    @property
    def idle_s(self) -> float:
        """Seconds since a frame was last written."""
        return asyncio.get_running_loop().time() - self._last_sent

    async def run(self, receive: Callable[[str | bytes], None]) -> None:
        """Write queued frames, and hand what the client sends to `receive`, until the connection ends."""
        writing = asyncio.create_task(self._write())
        try:
            async for message in self._ws:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY) and not self.closing:
                    receive(message.data)
        finally:
            writing.cancel()

    async def _write(self) -> None:
        while not isinstance(frame := await self._queue.get(), int):
            try:
                await self._ws.send_frame(frame, WSMsgType.TEXT)
            except ConnectionError:
                return
            self._last_sent = asyncio.get_running_loop().time()
        if frame == _ABNORMAL:
            self._transport.close()
        else:
            await self._ws.close(code=frame)
