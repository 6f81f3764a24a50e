"""What the suite and the product expect of nats-server and Postgres, wherever they come from."""

from collections.abc import AsyncIterator

import aiohttp
import asyncpg
import nats
import pytest

from gateways.embedded import Addresses, ServerError
from streams import topology
from streams.connection import Connection, connect
from streams.topology import HISTORY
from tests import servers
from tests.conftest import Databases, empty


class ServersContract:
    """Subclasses provide the fixture `at`: the addresses of both servers."""

    @pytest.fixture
    async def connection(self, at: Addresses) -> AsyncIterator[Connection]:
        connection = await connect(at.nats_url, "contract")
        try:
            yield connection
        finally:
            await connection.close()

    async def test_both_answer(self, at: Addresses) -> None:
        client = await nats.connect(at.nats_url)
        assert (client.connected_server_version.major, client.connected_server_version.minor) >= (2, 12)
        await client.close()
        database = await asyncpg.connect(at.postgres_dsn)
        assert await database.fetchval("SELECT current_setting('server_version_num')::int") >= 160_000
        await database.close()

    async def test_postgres_commits_to_disk(self, at: Addresses) -> None:
        database = await asyncpg.connect(at.postgres_dsn)
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await database.fetchval(f"SHOW {setting}") == "on", setting
        await database.close()

    async def test_nats_acknowledges_what_is_on_disk(self, at: Addresses) -> None:
        if at.monitor_url is None:
            pytest.skip("VIBE_TEST_NATS_MONITOR_URL is not set; an external server shows its configuration there only")
        async with aiohttp.ClientSession() as session, session.get(f"{at.monitor_url}/jsz") as answer:
            config = (await answer.json(content_type=None))["config"]
        assert config["sync_always"] is True

    async def test_streams_are_as_the_topology_makes_them(self, connection: Connection) -> None:
        await empty(connection)
        await topology.verify(connection)
        for stream in HISTORY:
            found = await topology.info(connection, stream.name)
            assert found is not None
            assert found["config"]["storage"] == "file"

    async def test_streams_are_empty_for_the_next_test(self, connection: Connection) -> None:
        await empty(connection)
        subject = "dead.contract.RAW"
        for _ in range(3):
            await connection.client.jetstream().publish(subject, b"{}")
        found = await topology.info(connection, "DEAD")
        assert found is not None
        assert found["state"]["messages"] == 3
        await empty(connection)
        found = await topology.info(connection, "DEAD")
        assert found is not None
        assert found["state"]["messages"] == found["state"]["last_seq"] == 0

    async def test_databases_are_empty_and_dropped_after_the_test(self, at: Addresses) -> None:
        session = await asyncpg.connect(at.postgres_dsn)
        made = Databases(at.postgres_dsn.rpartition("/")[0], session)
        for _ in range(2):
            database = await asyncpg.connect(await made.new())
            await database.execute("CREATE TABLE left_behind (value int)")
        count = "SELECT count(*) FROM pg_database WHERE datname = current_database() OR datname LIKE 'test_%'"
        before = await session.fetchval(count)
        # The last connection is still open.
        await made.drop()
        assert await session.fetchval(count) == before - 2
        await session.close()


@pytest.fixture(scope="module")
async def embedded_servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Addresses]:
    async with servers.started("embedded", tmp_path_factory.mktemp("embedded")) as at:
        yield at


@pytest.fixture(scope="module")
async def external_servers(embedded_servers: Addresses) -> AsyncIterator[Addresses]:
    """The embedded ones by their URLs, so that the contract always runs on external servers too."""
    environment = {
        "VIBE_TEST_NATS_URL": embedded_servers.nats_url,
        "VIBE_TEST_NATS_MONITOR_URL": embedded_servers.monitor_url or "",
        "VIBE_TEST_POSTGRES_DSN": embedded_servers.postgres_dsn,
    }
    async with servers.external(environment) as at:
        yield at


@pytest.fixture(scope="module")
async def container_servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Addresses]:
    async with servers.started("containers", tmp_path_factory.mktemp("containers")) as at:
        yield at


class TestEmbedded(ServersContract):
    @pytest.fixture
    def at(self, embedded_servers: Addresses) -> Addresses:
        return embedded_servers


class TestExternal(ServersContract):
    @pytest.fixture
    def at(self, external_servers: Addresses) -> Addresses:
        return external_servers

    def test_they_are_not_ours_to_stop(self, at: Addresses) -> None:
        assert not at.owned


class TestContainers(ServersContract):
    @pytest.fixture
    def at(self, container_servers: Addresses) -> Addresses:
        return container_servers


@pytest.mark.parametrize("environment", [{}, {"VIBE_TEST_NATS_URL": "nats://127.0.0.1:1"}])
async def test_external_servers_have_to_be_named(environment: dict[str, str]) -> None:
    with pytest.raises(ServerError, match="set both"):
        async with servers.external(environment):
            pass


async def test_the_urls_of_the_product_are_external_servers_too() -> None:
    named = {"VIBE_NATS_URL": "nats://127.0.0.1:1", "VIBE_POSTGRES_DSN": "postgresql://vibe@127.0.0.1:1/vibe"}
    with pytest.raises(ServerError, match=r"expected a NATS server to answer at nats://127\.0\.0\.1:1"):
        async with servers.external(named):
            pass


def test_images_are_pinned() -> None:
    assert all(image.partition(":")[2] for image in servers.images().values())
