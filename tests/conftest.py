"""The suite's servers: one nats-server and one Postgres for all tests, started in a temporary folder.

    async def test_of_the_log(log: Connection) -> None: ...           empty streams, as the topology makes them
    async def test_of_read_models(databases: Databases) -> None: ...  as many empty databases as a test wants

Starting the servers takes a second, emptying the streams 20 ms, making a database 60 ms. A test that kills servers
starts its own nats-server: tests/streams/own_server.py.
"""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import settings

from gateways.embedded import Addresses, servers
from streams import topology
from streams.connection import Connection, connect
from streams.errors import UnavailableError

PROJECT = Path(__file__).parents[1]
# The machine is shared: how long an example takes says nothing about the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_the_machine() -> None:
    """What VIBE_* settings this machine has is not for the tests; VIBE_TEST_* is meant for them."""
    for name in [name for name in os.environ if name.startswith("VIBE_") and not name.startswith("VIBE_TEST_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Addresses]:
    """Both servers, with the project's own nats.conf. A killed one comes back on its port."""
    async with servers(tmp_path_factory.mktemp("suite") / ".vibe", PROJECT / "nats.conf") as at:
        yield at


@pytest.fixture
async def log(running: Addresses) -> AsyncIterator[Connection]:
    """A connection to empty streams."""
    connection = await connect(running.nats_url, "tests")
    try:
        await empty(connection)
        yield connection
    finally:
        await connection.close()


async def empty(connection: Connection) -> None:
    """Delete every stream of the server and make those of the topology again."""
    found = await connection.api("STREAM.NAMES")
    for name in found["streams"] or ():
        await connection.api(f"STREAM.DELETE.{name}")
    deadline = time.monotonic() + 10
    while True:
        try:
            await topology.apply(connection)
            return
        except UnavailableError:
            # The server still removes the folder of the stream that had this name.
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


class Databases:
    """Makes empty databases; the DSN of each."""

    _numbers = itertools.count(1)

    def __init__(self, server: str, session: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._server = server
        self._session = session
        self._made: list[str] = []

    async def new(self) -> str:
        """The DSN of a new empty database; dropped, whoever uses it, after the test."""
        name = f"test_{next(self._numbers)}"
        await self._session.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        self._made.append(name)
        return f"{self._server}/{name}"

    async def drop(self) -> None:
        for name in self._made:
            await self._session.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def databases(running: Addresses) -> AsyncIterator[Databases]:
    """Empty databases on the suite's Postgres."""
    session = await asyncpg.connect(running.postgres_dsn)
    made = Databases(running.postgres_dsn.rpartition("/")[0], session)
    try:
        yield made
    finally:
        await made.drop()
        await session.close()


@pytest.fixture
async def database(databases: Databases) -> str:
    """The DSN of an empty database."""
    return await databases.new()
