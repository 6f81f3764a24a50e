"""A local cluster of three nats-servers with the configurations of ops/nats/cluster, to be killed node by node."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gateways.embedded.nats_server import binary
from gateways.embedded.ports import HOST
from gateways.embedded.process import Command, Process
from streams.connection import Connection, connect
from streams.errors import LogError
from tests.streams.own_ports import own_ports

CONFIGURATIONS = Path(__file__).parents[2] / "ops" / "nats" / "cluster"
NODES = ("n1", "n2", "n3")
PASSWORD = "of-the-tests"
START_SECONDS = 30.0


class Cluster:
    """Three nodes by name, n1 to n3; each keeps its ports and its store through every kill and restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ports = iter(own_ports(3 * len(NODES)))
        self._client, self._cluster, self._monitor = ({node: next(ports) for node in NODES} for _ in range(3))
        self._processes: dict[str, Process] = {}

    def url(self, node: str) -> str:
        """Where clients connect to a node; from it they learn the others."""
        return f"nats://{HOST}:{self._client[node]}"

    @property
    def environment(self) -> dict[str, str]:
        """What the configurations of all nodes take from the environment."""
        found = {f"NATS_{name}_PASSWORD": PASSWORD for name in ("CLUSTER", "SYSTEM")}
        for node in NODES:
            prefix = f"NATS_{node.upper()}"
            found |= {
                f"{prefix}_LISTEN": f"{HOST}:{self._client[node]}",
                f"{prefix}_MONITOR": f"{HOST}:{self._monitor[node]}",
                f"{prefix}_CLUSTER": f"{HOST}:{self._cluster[node]}",
                f"{prefix}_ROUTE": f"nats://cluster:{PASSWORD}@{HOST}:{self._cluster[node]}",
                f"{prefix}_STORE": str(self._folder / node),
            }
        return found

    @property
    def alive(self) -> list[str]:
        """The nodes that run."""
        return [node for node, process in self._processes.items() if process.exit_code is None]

    def start(self, node: str) -> None:
        """Start one node, without waiting for it."""
        self._processes[node] = Process(
            Command(
                program=binary(),
                args=("-c", str(CONFIGURATIONS / f"{node}.conf")),
                log=self._folder / f"{node}.log",
                stop_signal=signal.SIGTERM,
                env={**os.environ, **self.environment},
            )
        )

    def pid(self, node: str) -> int:
        return self._processes[node].pid

    async def kill(self, node: str) -> None:
        """kill -9, and wait until it is dead."""
        os.kill(self._processes[node].pid, signal.SIGKILL)
        await self._processes[node].exited()

    async def ready(self, within: float = START_SECONDS) -> None:
        """Wait until the nodes that run have chosen a leader and each of them says that it is healthy."""
        async with asyncio.timeout(within), aiohttp.ClientSession() as session:
            for node in NODES:
                while node in self.alive and not await self._healthy(session, node):
                    await asyncio.sleep(0.05)
                process = self._processes[node]
                assert process.exit_code in (None, -signal.SIGKILL), f"{node} ended:\n{process.tail()}"

    async def leader(self, connection: Connection, stream: str, within: float = START_SECONDS) -> str:
        """The node that leads a stream, among those that run."""
        async with asyncio.timeout(within):
            while True:
                with contextlib.suppress(LogError):
                    found = await connection.api(f"STREAM.INFO.{stream}", timeout=0.5)
                    node = str(found["cluster"].get("leader", ""))
                    if node in self.alive:
                        return node
                await asyncio.sleep(0.05)

    async def caught_up(self, connection: Connection, stream: str, within: float = START_SECONDS) -> None:
        """Wait until every replica of a stream is on line and has everything."""
        async with asyncio.timeout(within):
            while True:
                with contextlib.suppress(LogError):
                    found = await connection.api(f"STREAM.INFO.{stream}", timeout=0.5)
                    replicas = found["cluster"].get("replicas", ())
                    if len(replicas) == len(NODES) - 1 and all(map(_current, replicas)):
                        return
                await asyncio.sleep(0.1)

    async def _healthy(self, session: aiohttp.ClientSession, node: str) -> bool:
        at = f"http://{HOST}:{self._monitor[node]}"
        try:
            async with session.get(f"{at}/healthz") as health, session.get(f"{at}/jsz") as page:
                state = json.loads(await page.read())
                return health.status == 200 and bool(state.get("meta_cluster", {}).get("leader"))
        except (aiohttp.ClientError, OSError):
            return False


def _current(replica: dict[str, Any]) -> bool:
    return bool(replica.get("current")) and not replica.get("offline") and not replica.get("lag")


@asynccontextmanager
async def cluster_in(folder: Path) -> AsyncIterator[Cluster]:
    """A running cluster without streams; killed at the end."""
    cluster = Cluster(folder)
    try:
        for node in NODES:
            cluster.start(node)
        await cluster.ready()
        yield cluster
    finally:
        for node in cluster.alive:
            await cluster.kill(node)


async def connected(cluster: Cluster, node: str) -> Connection:
    """A connection that starts at a node and goes on at the others when that one dies."""
    return await connect(cluster.url(node), f"tests at {node}")
