"""Web servers for tests: one in this process on empty servers, and a whole demo that runs while the tests do."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from gateways.embedded import Addresses
from streams.connection import connect
from tests.conftest import Databases, empty
from tests.system.command import start
from tests.web.browser import Browser, browser
from vibe.app.clock import Clock
from vibe.app.settings import Settings
from vibe.web.identity import open_session
from vibe.web.routing import Role
from vibe.web.running import served
from vibe.web.site import Site, open_site

_LINK = re.compile(r"(http://\S+)/#/sign-in\?token=(\S+)")
_START_SECONDS = 90.0


class Server(NamedTuple):
    """A web server in this process."""

    site: Site
    address: str
    port: int

    async def admin(self, stack: AsyncExitStack) -> Browser:
        """A browser with a new session of an admin."""
        token = await open_session(
            self.site.pool, actor="local:admin", name="admin", role=Role.ADMIN, address="127.0.0.1", agent="tests"
        )
        one = await stack.enter_async_context(browser(self.address, Cookie=f"vibe_{self.port}={token}"))
        one.csrf = (await one.get("/session")).json["csrf"]
        return one


@asynccontextmanager
async def site_on(at: Addresses, dsn: str, folder: Path, **settings: object) -> AsyncIterator[Site]:
    """A site with these settings, beside the least that a test wants."""
    wanted: dict[str, object] = {"web_port": 0, "web_requests_per_second": 10_000, **settings}
    known = Settings(_env_file=None, data_dir=folder, **wanted)  # type: ignore[arg-type]
    async with open_site(known, at.nats_url, dsn, Clock()) as site:
        yield site


@asynccontextmanager
async def server_on(site: Site) -> AsyncIterator[Server]:
    async with served(site, site.settings.data_dir / "pages") as found:
        yield Server(site, found.address, found.port)


@pytest.fixture(scope="module")
async def site(running: Addresses, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A site on empty streams and an empty database, for the tests of a module."""
    connection = await connect(running.nats_url, "tests")
    session = await asyncpg.connect(running.postgres_dsn)
    made = Databases(running.postgres_dsn.rpartition("/")[0], session)
    try:
        await empty(connection)
        async with site_on(running, await made.new(), tmp_path_factory.mktemp("web")) as found:
            yield found
    finally:
        await made.drop()
        await session.close()
        await connection.close()


@pytest.fixture
async def server(site: Site) -> AsyncIterator[Server]:
    """A server without sessions, and with all of its limits untouched."""
    await site.pool.execute("TRUNCATE vibe_web.session, vibe_web.one_time_link, vibe_web.api_key, vibe_web.audit_event")
    async with server_on(site) as found:
        yield found


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[Browser]:
    """A signed-in browser of `server`."""
    async with AsyncExitStack() as stack:
        yield await server.admin(stack)


class Demo(NamedTuple):
    """A running demo: its data folder, its web server, and the token of its first link."""

    folder: Path
    address: str
    browser: Browser


@pytest.fixture(scope="session")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    """`vibe demo`, from its first decisions on, with a browser that is signed in by the link that it printed."""
    folder = tmp_path_factory.mktemp("demo") / ".vibe"
    settings = {"VIBE_WEB_PORT": "0", "VIBE_WEB_REQUESTS_PER_SECOND": "10000"}
    process = await start(folder, "demo", settings=settings)
    try:
        async with asyncio.timeout(_START_SECONDS):
            address, token = await _link(process)
            reading = asyncio.create_task(_discard(process))
            async with browser(address) as one:
                assert (await one.sign_in(token)).status == 200
                await _until_decided(one)
                yield Demo(folder, address, one)
            reading.cancel()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _link(process: asyncio.subprocess.Process) -> tuple[str, str]:
    """The address and the token in what the demo prints first."""
    assert process.stderr is not None
    lines: list[str] = []
    async for line in process.stderr:
        lines.append(line.decode())
        if (found := _LINK.search(lines[-1])) is not None:
            return found[1], found[2]
    raise AssertionError(f"the demo printed no link:\n{''.join(lines)}")


async def _discard(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    while await process.stderr.readline():
        pass


async def _until_decided(one: Browser) -> None:
    """Return when some decisions of both kinds are in the read models."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        answered = await one.get("/attempts/counts?since=2025-12-31T00:00:00Z")
        if answered.status == 200 and answered.json["executed"] >= 10 and answered.json["skipped"] >= 10:
            return
        await asyncio.sleep(0.3)
    raise AssertionError("the demo decided too little")
