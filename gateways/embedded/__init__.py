"""nats-server and Postgres for a data folder: started by the first process that needs them, shared by the others.

    async with servers(Path(".vibe"), Path("nats.conf")) as at:
        connection = await nats.connect(at.nats_url)

One process owns the servers of a folder and stops them when it leaves the context; it restarts a server that dies on
the same port. Other processes use the running servers. A `kill -9` of the owner ends its servers too, and the next
process starts them again. A server that a setting names is external: it is only checked that it answers.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateways.embedded import external
from gateways.embedded.errors import ServerError
from gateways.embedded.folder import Folder
from gateways.embedded.nats_server import DEFAULT_MEMORY_MB, NatsServer
from gateways.embedded.owner_lock import embedded
from gateways.embedded.ports import HOST
from gateways.embedded.postgres_server import PostgresServer
from gateways.embedded.server import Progress, Server
from gateways.embedded.timing import Timing

__all__ = ["Addresses", "ServerError", "Timing", "running_servers", "servers"]

DEFAULT = Timing()


@dataclass(frozen=True)
class Addresses:
    """Where the servers are, and whether leaving the context stops any of them (`owned`)."""

    nats_url: str
    postgres_dsn: str
    monitor_url: str | None  # nats-server's http monitoring; None for an external server
    owned: bool


@asynccontextmanager
async def servers(
    data_dir: Path,
    nats_conf: Path,
    *,
    nats_url: str | None = None,
    postgres_dsn: str | None = None,
    nats_memory_mb: int = DEFAULT_MEMORY_MB,
    nats_account: str | None = None,
    progress: Progress | None = None,
    timing: Timing = DEFAULT,
) -> AsyncIterator[Addresses]:
    """Both servers, ready to use. `progress` gets a line of text on the first start, and every 2 s while waiting.

    `nats_memory_mb` is the memory from which on nats-server collects garbage sooner; 0 = no limit.
    `nats_account` is the account of `nats_conf` that holds the streams; None for a configuration without accounts.
    Enter it in a thread that lives as long as the program: on Linux the servers die with the thread that started
    them. Raises ServerError when a server does not start, or an external one does not answer.
    """
    if nats_url is not None:
        await external.check_nats(nats_url, timing.answer_s)
    if postgres_dsn is not None:
        await external.check_postgres(postgres_dsn, timing.answer_s)
    folder = Folder(data_dir)
    nats = NatsServer(folder, nats_conf, nats_memory_mb, nats_account)
    postgres = PostgresServer(folder)
    wanted: list[Server] = []
    if nats_url is None:
        wanted.append(nats)
    if postgres_dsn is None:
        wanted.append(postgres)
    if nats_url is not None and postgres_dsn is not None:
        yield Addresses(nats_url, postgres_dsn, monitor_url=None, owned=False)
        return
    async with embedded(folder, wanted, progress or _ignore, timing) as running:
        client, monitor = running.ports.get(nats.name, (0, 0))
        yield Addresses(
            nats_url=nats_url or f"nats://{HOST}:{client}",
            postgres_dsn=postgres_dsn or postgres.dsn(running.ports[postgres.name][0]),
            monitor_url=None if nats_url else f"http://{HOST}:{monitor}",
            owned=running.owned,
        )


def running_servers(data_dir: Path) -> Addresses | None:
    """Where the servers are that another process runs for this data folder, whether they answer or not; None when no
    process runs them."""
    folder = Folder(data_dir)
    if not folder.lock.exists():
        return None
    with folder.try_lock() as unowned:
        if unowned:
            return None
    running = folder.read().servers
    if NatsServer.name not in running or PostgresServer.name not in running or not folder.password.exists():
        return None
    client, monitor = running[NatsServer.name].ports
    return Addresses(
        nats_url=f"nats://{HOST}:{client}",
        postgres_dsn=PostgresServer(folder).dsn(running[PostgresServer.name].ports[0]),
        monitor_url=f"http://{HOST}:{monitor}",
        owned=False,
    )


def _ignore(_: str) -> None:
    """Progress that the caller does not want."""
