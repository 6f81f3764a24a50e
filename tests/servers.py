"""Where the suite's servers come from: `pytest --servers=embedded|containers|external`.

embedded    nats-server and Postgres as wheels, in a temporary folder (the default)
containers  the images of docker-compose.yml, where a Docker engine answers and testcontainers is installed
external    the servers of VIBE_TEST_NATS_URL and VIBE_TEST_POSTGRES_DSN (else VIBE_NATS_URL and VIBE_POSTGRES_DSN);
            the tests delete every stream of the one, and make and drop databases on the other;
            VIBE_TEST_NATS_MONITOR_URL, where it is set, lets them look into nats-server's configuration
"""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest
import yaml

from gateways.embedded import Addresses, ServerError, servers
from tests.repository import ROOT

CHOICES = ("embedded", "containers", "external")
ENVIRONMENT = dict(os.environ)
"""As it was before the suite removed the settings of the machine from it."""

_READY_SECONDS = 60.0
_PASSWORD = "vibe"


@asynccontextmanager
async def started(choice: str, folder: Path) -> AsyncIterator[Addresses]:
    """The servers of a choice. Skips the tests that want them where there is no Docker engine for `containers`."""
    match choice:
        case "embedded":
            context = servers(folder / ".vibe", ROOT / "nats.conf")
        case "containers":
            context = containers()
        case _:
            context = external(ENVIRONMENT)
    async with context as at:
        yield at


@asynccontextmanager
async def external(environment: Mapping[str, str]) -> AsyncIterator[Addresses]:
    """The servers that the environment names; ServerError when one is not named or does not answer."""
    nats_url = environment.get("VIBE_TEST_NATS_URL") or environment.get("VIBE_NATS_URL")
    dsn = environment.get("VIBE_TEST_POSTGRES_DSN") or environment.get("VIBE_POSTGRES_DSN")
    if not nats_url or not dsn:
        raise ServerError("--servers=external needs VIBE_TEST_NATS_URL and VIBE_TEST_POSTGRES_DSN; set both")
    async with servers(Path(os.devnull), ROOT / "nats.conf", nats_url=nats_url, postgres_dsn=dsn) as at:
        yield replace(at, monitor_url=environment.get("VIBE_TEST_NATS_MONITOR_URL") or None)


@asynccontextmanager
async def containers() -> AsyncIterator[Addresses]:
    """Both servers in containers of their own, removed afterwards."""
    nats_container, postgres_container = _containers()
    try:
        await asyncio.to_thread(nats_container.start)
        await asyncio.to_thread(postgres_container.start)
        client, monitor = (_address(nats_container, port) for port in (4222, 8222))
        addresses = Addresses(
            nats_url=f"nats://{client}",
            postgres_dsn=f"postgresql://vibe:{_PASSWORD}@{_address(postgres_container, 5432)}/vibe",
            monitor_url=f"http://{monitor}",
            owned=True,
        )
        await _answering(addresses)
        yield addresses
    finally:
        for container in (nats_container, postgres_container):
            await asyncio.to_thread(container.stop)


def images() -> dict[str, str]:
    """The images of docker-compose.yml, by service."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return {name: services[name]["image"] for name in ("nats", "postgres")}


def _containers() -> tuple[Any, Any]:
    module = pytest.importorskip(
        "testcontainers.core.container", reason="--servers=containers needs the package testcontainers"
    )
    try:
        log = module.DockerContainer(images()["nats"])
        log.with_command("-c /etc/nats/nats.conf -sd /data -m 8222").with_exposed_ports(4222, 8222)
        log.with_volume_mapping(str(ROOT / "nats.conf"), "/etc/nats/nats.conf", "ro")
        database = module.DockerContainer(images()["postgres"]).with_exposed_ports(5432)
        database.with_env("POSTGRES_USER", "vibe").with_env("POSTGRES_PASSWORD", _PASSWORD)
    except Exception as error:
        # docker.errors.DockerException; the package is there only with testcontainers.
        if "docker" not in type(error).__module__:
            raise
        pytest.skip(f"no Docker engine answers: {error}")
    return log, database


def _address(container: Any, port: int) -> str:
    return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"


async def _answering(addresses: Addresses) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            # The image's first Postgres listens on a socket only, while it makes the database.
            await (await asyncpg.connect(addresses.postgres_dsn, timeout=5)).close()
            await (await nats.connect(addresses.nats_url, allow_reconnect=False, connect_timeout=5)).close()
            return
        except Exception as error:
            if time.monotonic() > deadline:
                hidden = re.sub(r"//[^/@]*@", "//", addresses.postgres_dsn)
                raise TimeoutError(f"{addresses.nats_url} or {hidden} does not answer: {error}") from error
            await asyncio.sleep(0.2)
