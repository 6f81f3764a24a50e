"""Read your writes: a caller waits until the rows of an event are stored."""

import asyncio
import time

import asyncpg
import pytest

from projections.engine.wait import wait_until_stored
from projections.models.position import Positions
from streams.connection import Connection
from tests.projections.engines import engine
from tests.projections.example_log import append_events, flows


async def end(log: Connection) -> int:
    return int((await log.api("STREAM.INFO.EXECUTIONS"))["state"]["last_seq"])


async def test_the_wait_ends_when_the_rows_are_stored(log: Connection, database: str) -> None:
    async with (
        asyncpg.create_pool(database, min_size=1, max_size=3) as pool,
        engine(log, database, (Positions(),)) as running,
    ):
        await asyncio.wait_for(running.ready.wait(), 10)
        for first in (1, 21, 41):
            last = await end(log) + 1
            waiting = asyncio.create_task(wait_until_stored(pool, "position", "EXECUTIONS", last, 10))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await append_events(log, flows(first, 20))
            assert await waiting >= last
            assert await wait_until_stored(database, "position", "EXECUTIONS", await end(log), 10) == await end(log)
            assert await pool.fetchval("SELECT max(share_micros) FROM position") == first + 18


async def test_the_wait_does_not_poll(log: Connection, database: str) -> None:
    """The transaction that moves the position notifies: while no position moves, no query runs."""
    async with engine(log, database, (Positions(),)) as running:
        await asyncio.wait_for(running.ready.wait(), 10)
        waiting = asyncio.create_task(wait_until_stored(database, "position", "EXECUTIONS", 1, 10))
        session = await asyncpg.connect(database)
        query = (
            "SELECT max(query_start) FROM pg_stat_activity WHERE query LIKE '%SELECT position%' "
            "AND pid <> pg_backend_pid()"
        )
        await asyncio.sleep(0.2)
        before = await session.fetchval(query)
        await asyncio.sleep(0.3)
        assert before is not None
        assert await session.fetchval(query) == before
        begun = time.monotonic()
        await append_events(log, flows(1, 1))
        await waiting
        assert time.monotonic() - begun < 2
        await session.close()


async def test_a_timeout_states_the_position(log: Connection, database: str) -> None:
    await append_events(log, flows(1, 5))
    with pytest.raises(TimeoutError, match=r"position has not stored EXECUTIONS:9 within 0.1 s; it has no position"):
        await wait_until_stored(database, "position", "EXECUTIONS", 9, 0.1)
    async with engine(log, database, (Positions(),)):
        last = await end(log)
        await wait_until_stored(database, "position", "EXECUTIONS", last, 10)
        with pytest.raises(TimeoutError, match=rf"it is at {last}"):
            await wait_until_stored(database, "position", "EXECUTIONS", last + 1, 0.2)


async def test_a_lost_connection_is_opened_again(log: Connection, database: str) -> None:
    async with engine(log, database, (Positions(),)) as running:
        await asyncio.wait_for(running.ready.wait(), 10)
        waiting = asyncio.create_task(wait_until_stored(database, "position", "EXECUTIONS", 1, 10))
        await asyncio.sleep(0.2)
        session = await asyncpg.connect(database)
        await session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await session.close()
        await append_events(log, flows(1, 1))
        assert await waiting >= 1
