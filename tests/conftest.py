"""The suite's servers: one nats-server and one Postgres for all tests of a process.

    async def test_of_the_log(log: Connection) -> None: ...           empty streams, as the topology makes them
    async def test_of_read_models(databases: Databases) -> None: ...  as many empty databases as a test wants

Starting the servers takes a second, emptying the streams 20 ms, making a database 60 ms. A test that kills servers
starts its own nats-server: tests/streams/own_server.py. Where the servers come from: tests/servers.py.
"""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
from hypothesis import settings

from gateways.embedded import Addresses
from streams import topology
from streams.connection import Connection, connect
from streams.errors import UnavailableError
from tests.servers import CHOICES, started

# The machine is shared: how long an example takes says nothing about the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--servers", choices=CHOICES, default=CHOICES[0], help="where nats-server and Postgres come from")


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts background jobs with SIGINT ignored, and the commands that tests interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--servers") == "external" and (config.getoption("numprocesses", None) or 1) > 1:
        raise pytest.UsageError("--servers=external needs one process, because all would empty the same streams: -n 0")


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_the_machine() -> None:
    """Removes the VIBE_* settings of this machine, but for VIBE_TEST_*, which are meant for the tests."""
    for name in [name for name in os.environ if name.startswith("VIBE_") and not name.startswith("VIBE_TEST_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
async def running(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Addresses]:
    """Both servers. An embedded one that is killed comes back on its port."""
    async with started(pytestconfig.getoption("--servers"), tmp_path_factory.mktemp("suite")) as at:
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
        """The DSN of a new empty database, which is dropped after the test even while it is in use."""
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
