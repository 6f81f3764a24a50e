"""A TCP proxy in front of a server, which goes silent; in front of NATS it also disconnects at a chosen byte, and loses
an answer or a single message."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    """Forwards everything until armed. Each arm goes off once; later connections pass untouched."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._disconnect_at: bytes | None = None
        self._lose_after: bytes | None = None
        self._drop: bytes | None = None
        self._silent = asyncio.Event()
        self._pairs: set[asyncio.Task[None]] = set()
        self.interruptions = 0
        self.url = ""

    def disconnect_at(self, marker: bytes) -> None:
        """Forward what the client sends up to `marker`, not a byte more, and cut its connection."""
        self._disconnect_at = marker

    def lose_answer_to(self, marker: bytes) -> None:
        """Forward everything up to and after `marker`, then nothing back: cut when the server has answered."""
        self._lose_after = marker

    def drop_message(self, marker: bytes) -> None:
        """Lose the next message to the client whose first line holds `marker`, and only that."""
        self._drop = marker

    def silence(self) -> None:
        """From now on the open connections carry nothing in either direction, and none of them is closed."""
        self._silent.set()
        self._silent = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        deaf, silent = asyncio.Event(), self._silent
        ways = [
            asyncio.create_task(self._forth(reader, server_writer, deaf, silent)),
            asyncio.create_task(self._back(server_reader, writer, deaf, silent)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, server_writer):
                with contextlib.suppress(OSError, RuntimeError):
                    end.transport.abort()

    async def _forth(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, deaf: asyncio.Event, silent: asyncio.Event
    ) -> None:
        seen = b""
        while chunk := await reader.read(65536):
            if silent.is_set():
                continue
            seen = (seen + chunk)[-len(chunk) - 200 :]
            if self._disconnect_at is not None and (found := seen.find(self._disconnect_at)) >= 0:
                self._disconnect_at = None
                server.write(chunk[: max(0, found - (len(seen) - len(chunk)))])
                await server.drain()
                self.interruptions += 1
                return
            if self._lose_after is not None and self._lose_after in seen:
                self._lose_after = None
                deaf.set()
            server.write(chunk)
            await server.drain()

    async def _back(
        self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, deaf: asyncio.Event, silent: asyncio.Event
    ) -> None:
        while chunk := await server.read(65536):
            if silent.is_set():
                continue
            if deaf.is_set() and (b'"seq":' in chunk or b'"error":' in chunk):
                self.interruptions += 1
                return
            if not deaf.is_set():
                writer.write(self._without_the_dropped(chunk))
                await writer.drain()

    def _without_the_dropped(self, chunk: bytes) -> bytes:
        at = chunk.find(self._drop) if self._drop is not None else -1
        if at < 0:
            return chunk
        before, end = chunk.rfind(b"\r\n", 0, at), chunk.find(b"\r\n", at)
        start = 0 if before < 0 else before + 2
        # MSG <subject> <sid> [<reply>] <bytes>: line and payload each end with a line break
        end += 2 + int(chunk[start:end].split()[-1]) + 2
        if not chunk.startswith((b"MSG ", b"HMSG "), start) or end > len(chunk):
            return chunk
        self._drop = None
        self.interruptions += 1
        return chunk[:start] + chunk[end:]


@asynccontextmanager
async def proxied(server_url: str) -> AsyncIterator[Proxy]:
    """A proxy on a free port in front of a server's URL."""
    parts = urlsplit(server_url)
    assert parts.port is not None
    proxy = Proxy(parts.port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    login, at, _ = parts.netloc.rpartition("@")
    proxy.url = parts._replace(netloc=f"{login}{at}127.0.0.1:{server.sockets[0].getsockname()[1]}").geturl()
    try:
        yield proxy
    finally:
        server.close()
