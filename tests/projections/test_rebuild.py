"""A rebuild beside the live tables gives the same rows, and readers of the live tables do not notice it."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateways.embedded import Addresses
from projections.engine import rebuild as rebuilding
from projections.engine import schemas
from projections.engine.errors import RebuildError
from projections.models.copy_attempt import CopyAttempts
from projections.models.ledger_entry import LedgerEntries
from projections.models.position import Positions
from streams.connection import Connection
from tests.conftest import Databases, empty
from tests.projections.engines import (
    CORE,
    build_schemas,
    built,
    caught_up,
    constant_reader,
    contents,
    dead_letters,
    engine,
    rebuilt,
)
from tests.projections.example_log import append_events, flows
from tests.streams.deadlines import settled
from tests.streams.subprocesses import heard, process


async def test_a_rebuild_while_the_engine_runs_and_a_reader_reads(
    log: Connection, running: Addresses, database: str
) -> None:
    tables = [table.name for projection in CORE for table in projection.tables]
    await append_events(log, flows(1, 400))
    async with engine(log, database):
        await caught_up(log, database)

        async def more() -> None:
            for first in range(401, 901, 25):
                await append_events(log, flows(first, 25))
                await asyncio.sleep(0.01)

        async with constant_reader(database, *tables) as seen:
            appending = asyncio.create_task(more())
            results = await rebuilt(running, database, chunk=500)
            await appending
            await caught_up(log, database)
            assert len(seen) > 20
        assert {result.projection for result in results} == {projection.name for projection in CORE}
        live = await contents(database)
        again = await rebuilt(running, database, chunk=50_000)
        assert [result.generation for result in again] == [3] * len(CORE)
        await caught_up(log, database)
    assert await contents(database) == live
    assert len(live["copy_attempt"]) == 900
    partitioned = {p.name for p in CORE if any(table.by_day for table in p.tables)}
    assert await build_schemas(database) == {schemas.build_schema(name, 3) for name in partitioned}
    assert await dead_letters(log) == []


async def test_a_rebuild_by_several_processes_equals_the_engines_rows(
    log: Connection, running: Addresses, database: str, databases: Databases
) -> None:
    await append_events(log, flows(1, 800))
    await built(log, database)
    other = await databases.new()
    results = await rebuilt(running, other, chunk=200, long=1000)
    assert sum(result.events for result in results if result.projection == "event_count") > 5_000
    assert await contents(other) == await contents(database)
    await built(log, other)
    assert await contents(other) == await contents(database), "the engine continues from there"


async def test_an_interrupted_rebuild_leaves_the_live_tables_and_resumes(
    log: Connection, running: Addresses, database: str
) -> None:
    await append_events(log, flows(1, 600))
    await built(log, database)
    before = await contents(database)

    def interrupt(what: str, done: int, total: int) -> None:
        if done > total // 2:
            work.cancel()

    chosen = (CopyAttempts(), Positions(), LedgerEntries())
    work = asyncio.create_task(rebuilt(running, database, chosen, chunk=300, progress=interrupt))
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await contents(database) == before
    assert schemas.build_schema("position", 2) in await build_schemas(database)
    results = await rebuilt(running, database, chosen, chunk=300, resume=True)
    end = (await log.api("STREAM.INFO.EXECUTIONS"))["state"]["last_seq"]
    assert all(0 < result.events < end for result in results), "only the rest was read"
    assert await contents(database) == before
    results = await rebuilt(running, database, chosen, resume=True)
    assert all(result.events == end for result in results), "there was nothing to resume"


async def test_two_rebuilds_of_one_projection_at_once_are_refused(
    log: Connection, running: Addresses, database: str
) -> None:
    await append_events(log, flows(1, 50))
    session = await asyncpg.connect(database)
    await session.execute("SELECT pg_advisory_lock($1, hashtext('position'))", rebuilding._BUILD_LOCK)
    with pytest.raises(RebuildError, match="position is being rebuilt already"):
        await rebuilt(running, database, (Positions(), LedgerEntries()), lock_seconds=0.2)
    # The lock of a rebuild that has just ended may be held a little longer.
    again = rebuilt(running, database, (Positions(), LedgerEntries()), lock_seconds=10.0)
    second = asyncio.create_task(again)
    await asyncio.sleep(0.3)
    assert not second.done()
    session.terminate()
    assert len(await second) == 2


async def test_a_lock_that_a_reader_holds_is_waited_for(log: Connection, running: Addresses, database: str) -> None:
    await append_events(log, flows(1, 50))
    await built(log, database)
    session = await asyncpg.connect(database)
    transaction = session.transaction()
    await transaction.start()
    ((count,),) = await session.fetch("SELECT count(*) FROM position")
    activities: list[str] = []
    rebuilding = rebuilt(
        running,
        database,
        (Positions(),),
        progress=lambda activity, *_: activities.append(activity),
        reader_seconds=0.1,
    )
    work = asyncio.create_task(rebuilding)
    await settled(_value(activities), lambda found: found.count("waiting for the lock to swap") > 1)
    assert await session.fetchval("SELECT count(*) FROM position") == count
    other = await asyncpg.connect(database)
    assert await asyncio.wait_for(other.fetchval("SELECT count(*) FROM position"), 1) == count
    await transaction.rollback()
    await asyncio.wait_for(work, 10)
    await session.close()
    await other.close()


async def test_a_transaction_with_an_older_snapshot_is_waited_for(
    log: Connection, running: Addresses, database: str
) -> None:
    await append_events(log, flows(1, 50))
    await built(log, database)
    activities: list[str] = []
    session = await asyncpg.connect(database)
    async with session.transaction(isolation="repeatable_read"):
        await session.fetchval("SELECT 1")  # takes the snapshot; the table is not read yet
        work = asyncio.create_task(
            rebuilt(running, database, (Positions(),), progress=lambda activity, *_: activities.append(activity))
        )
        await settled(_value(activities), lambda found: "waiting for transactions that began before" in found)
        assert await session.fetchval("SELECT count(*) FROM position") > 10
    await asyncio.wait_for(work, 5)
    await session.close()


def _value(activities: list[str]) -> Any:
    async def read() -> list[str]:
        return activities

    return read


async def test_grants_are_kept_and_a_rebuild_under_a_view_is_refused(
    log: Connection, running: Addresses, database: str
) -> None:
    await append_events(log, flows(1, 20))
    await built(log, database)
    session = await asyncpg.connect(database)
    await session.execute("GRANT SELECT ON position TO PUBLIC")
    await session.execute("CREATE VIEW mine AS SELECT * FROM position")
    with pytest.raises(RebuildError, match="the views mine would be lost"):
        await rebuilt(running, database, (Positions(),))
    await session.execute("DROP VIEW mine")
    await rebuilt(running, database, (Positions(),), resume=True)
    rights = "SELECT relacl::text FROM pg_class WHERE oid = 'position'::regclass"
    assert "=r/" in await session.fetchval(rights)
    options = await session.fetchval("SELECT reloptions FROM pg_class WHERE oid = 'position'::regclass")
    assert options == ["fillfactor=50"], "autovacuum is enabled again"
    await session.close()


async def test_views_are_swapped_with_their_tables(log: Connection, running: Addresses, database: str) -> None:
    chosen = (CopyAttempts(), LedgerEntries())
    await append_events(log, flows(1, 20))
    await built(log, database, chosen)
    before = await contents(database, chosen)
    session = await asyncpg.connect(database)
    await session.execute("GRANT SELECT ON execution TO PUBLIC")
    async with constant_reader(database, "execution", "ledger_entry", "executable_fill"):
        await rebuilt(running, database, chosen)
    assert "=r/" in await session.fetchval("SELECT relacl::text FROM pg_class WHERE oid = 'execution'::regclass")
    await session.execute("CREATE VIEW mine AS SELECT * FROM execution")
    with pytest.raises(RebuildError, match="the views mine would be lost"):
        await rebuilt(running, database, chosen)
    await session.execute("DROP VIEW mine, execution")
    await rebuilt(running, database, chosen, resume=True)
    assert await contents(database, chosen) == before, "a missing view is created again"
    await session.execute("DROP VIEW execution")
    await session.execute("CREATE TABLE execution (order_id text)")
    with pytest.raises(RebuildError, match="the view execution cannot be created, because something else has its name"):
        await rebuilt(running, database, chosen, resume=True)
    await session.close()


async def test_a_rebuild_of_all_builds_from_another_log(log: Connection, running: Addresses, database: str) -> None:
    await append_events(log, flows(1, 30))
    await built(log, database)
    await empty(log)
    await append_events(log, flows(1, 12))
    await rebuilt(running, database)
    assert len((await contents(database))["copy_attempt"]) == 12
    await append_events(log, flows(13, 3))
    await built(log, database)
    assert len((await contents(database))["copy_attempt"]) == 15


async def test_a_killed_rebuild_is_resumed(
    log: Connection, running: Addresses, database: str, databases: Databases, tmp_path: Path
) -> None:
    await append_events(log, flows(1, 500))
    for wait in (0.05, 0.2):
        async with process(
            "tests.projections.rebuild_process", running.nats_url, database, "100", log=tmp_path / "log"
        ) as rebuilder:
            await heard(rebuilder, "ready")
            await asyncio.sleep(wait)
            rebuilder.kill()
            assert await rebuilder.wait() == -signal.SIGKILL
    await rebuilt(running, database, resume=True)
    clean = await databases.new()
    await built(log, clean)
    assert await contents(database) == await contents(clean)


async def test_a_rebuild_survives_killed_connections(
    log: Connection, running: Addresses, database: str, databases: Databases
) -> None:
    await append_events(log, flows(1, 600))
    session = await asyncpg.connect(database)
    task = asyncio.create_task(rebuilt(running, database, chunk=200))
    for _ in range(4):
        await asyncio.sleep(0.15)
        await session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await asyncio.wait_for(task, 30)
    await session.close()
    clean = await databases.new()
    await built(log, clean)
    assert await contents(database) == await contents(clean)
