from pathlib import Path
from streams import topology
from streams.connection import Connection
from tests.streams.own_server import own_server

async def test_a(log: Connection, database: str) -> None:
    await topology.verify(log)
async def test_b(log: Connection, tmp_path: Path) -> None:
    async with own_server(tmp_path) as own:
        await own.kill()
        await own.start()
