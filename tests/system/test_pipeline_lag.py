"""The closing report of a system whose Postgres has been away."""

import asyncpg

from streams.connection import Connection
from vibe.app import pipeline_lag


async def test_connections_that_died_come_back(log: Connection, database: str) -> None:
    async with asyncpg.create_pool(database, min_size=0, max_size=2) as pool:
        assert await pool.fetchval("SELECT 1") == 1
        other = await asyncpg.connect(database)
        killed = await other.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await other.close()
        assert killed == 1
        # At worst the first look finds the dead connection; then there is a new one.
        looks = [await pipeline_lag.drained(log, pool) for _ in range(2)]
        assert looks[1] == "1 events not in the read models"
        assert (await pipeline_lag.closing(log, pool, 0))["lag"] == 1


async def test_a_postgres_that_is_away_is_waited_for(log: Connection) -> None:
    nowhere = "postgresql://vibe:x@127.0.0.1:1/vibe"
    async with asyncpg.create_pool(nowhere, min_size=0, max_size=1, timeout=2) as pool:
        look = await pipeline_lag.drained(log, pool)
        assert look is not None
        assert look.startswith("a server is away: ")
