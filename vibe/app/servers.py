"""The servers that the settings name: the operator's own, or the data folder's, whose nats-server knows the roles.

The URL of the data folder's nats-server names the folder of its keys; each client chooses its role
(`streams.login.as_role`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from gateways.embedded import Addresses, running_servers, servers
from streams import topology
from streams.connection import connect
from streams.login import as_role, with_keys
from streams.processing.lost_data import refuse_lost_data
from streams.roles import ADMIN, LOG_ACCOUNT
from vibe.app.nats_roles import keys_folder, make_keys, write_configuration
from vibe.app.settings import Settings, nats_conf


@asynccontextmanager
async def open_addresses(settings: Settings, progress: Callable[[str], None]) -> AsyncIterator[Addresses]:
    """Both servers, ready to use; the data folder's own are started by the first process that needs them. Raises
    ServerError when one does not start or does not answer."""
    conf = nats_conf()
    keys = keys_folder(settings.data_dir)
    if settings.nats_url is None:
        make_keys(keys)
        conf = settings.data_dir / "nats.conf"
        write_configuration(nats_conf(), keys, conf)
    async with servers(
        settings.data_dir,
        conf,
        nats_url=settings.nats_url,
        postgres_dsn=settings.dsn,
        nats_memory_mb=settings.nats_memory_mb,
        nats_account=LOG_ACCOUNT,
        progress=progress,
    ) as at:
        yield at if settings.nats_url else _with_keys(at, keys)


async def prepare_streams(nats_url: str, replicas: int) -> None:
    """Create and update the streams, as the one role that may. Raises DataLossError when stored data is lost, and
    RefusedError where this process does not have the admin's key."""
    admin = await connect(as_role(nats_url, ADMIN), "vibe, before the start")
    try:
        await refuse_lost_data(admin)
        await topology.apply(admin, replicas)
    finally:
        await admin.close()


def running_addresses(data_dir: Path) -> Addresses | None:
    """The servers that another process runs for this data folder, whether they answer or not; None without such."""
    at = running_servers(data_dir)
    return None if at is None else _with_keys(at, keys_folder(data_dir))


def _with_keys(at: Addresses, keys: Path) -> Addresses:
    return replace(at, nats_url=with_keys(at.nats_url, keys))
