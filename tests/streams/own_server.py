"""A nats-server of a test's own, to be killed and started again on the same port and store."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateways.embedded.nats_server import binary
from gateways.embedded.ports import HOST
from gateways.embedded.process import Command, Process
from streams import topology
from streams.connection import connect
from tests.streams.own_ports import own_ports

CONF = Path(__file__).parents[2] / "nats.conf"


class OwnServer:
    """One nats-server: `url` stays the same through every kill and start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = own_ports(1)[0]
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it and wait until JetStream answers."""
        store = self._folder / "nats"
        store.mkdir(parents=True, exist_ok=True)
        self._process = Process(
            Command(
                program=binary(),
                args=("-c", str(CONF), "-a", HOST, "-p", str(self._port), "-sd", str(store)),
                log=self._folder / "nats.log",
                stop_signal=signal.SIGTERM,
            )
        )
        async with asyncio.timeout(20):
            connection = await connect(self.url, "waits for the server")
            while True:
                try:
                    await connection.api("INFO", timeout=0.5)
                    break
                except Exception:
                    assert self._process.exit_code is None, self._process.tail()
                    await asyncio.sleep(0.02)
            await connection.close()

    async def kill(self) -> None:
        """kill -9, and wait until it is dead."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        await self._process.exited()

    async def stop_in_order(self) -> None:
        """SIGTERM: it stores what it knows of its blocks, so that it does not read them whole at the next start."""
        assert self._process is not None
        await self._process.stop()

    async def stop(self) -> None:
        if self._process is not None and self._process.exit_code is None:
            await self.kill()


@asynccontextmanager
async def own_server(folder: Path) -> AsyncIterator[OwnServer]:
    """A running server with the topology's empty streams; killed at the end."""
    server = OwnServer(folder)
    try:
        await server.start()
        connection = await connect(server.url, "makes the streams")
        await topology.apply(connection)
        await connection.close()
        yield server
    finally:
        await server.stop()
