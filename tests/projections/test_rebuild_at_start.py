"""What the engine creates or rebuilds when it starts: partitions, changed versions, missing tables, old positions."""

import time
from collections.abc import Iterator
from typing import Any, ClassVar

import asyncpg
import pytest

from domain.events import CopyDecided
from projections.engine import schemas
from projections.engine.table import Change, Upsert
from projections.models.ledger_entry import LedgerEntries
from projections.models.position import Positions
from streams.connection import Connection
from streams.envelope import Recorded
from tests.conftest import Databases
from tests.projections.engines import build_schemas, built, caught_up, constant_reader, contents, engine
from tests.projections.example_log import append_events, flows
from tests.streams.deadlines import settled
from tests.streams.examples import example


class Version2(Positions):
    """Positions with sizes rounded down to a dozen."""

    version = 9
    maps: ClassVar = {}

    def fold(self, event: Recorded) -> Iterator[Change]:
        for change in Positions().changes(event):
            assert isinstance(change, Upsert)
            yield Upsert(change.table, change.row | {"share_micros": change.row["share_micros"] // 12 * 12})


async def test_a_new_version_is_rebuilt_at_start(log: Connection, database: str) -> None:
    await append_events(log, flows(1, 100))
    await built(log, database, (Positions(), LedgerEntries()))
    before = await contents(database, (Positions(),))
    async with constant_reader(database, "position"), engine(log, database, (Version2(), LedgerEntries())):
        await reached_version(database, 9)
    after = (await contents(database, (Positions(),)))["position"]
    assert [row[:3] for row in after] == [row[:3] for row in before["position"]]
    assert [row[3] for row in after] == [row[3] // 12 * 12 for row in before["position"]]
    await append_events(log, flows(101, 20))
    await built(log, database, (Version2(), LedgerEntries()))


async def reached_version(dsn: str, version: int) -> None:
    session = await asyncpg.connect(dsn)
    query = "SELECT version FROM projection_position WHERE projection = 'position'"
    await settled(lambda: session.fetchval(query), lambda found: found == version)
    await session.close()


async def test_a_new_projection_of_a_long_log_is_built_like_a_rebuild(
    log: Connection, database: str, databases: Databases
) -> None:
    await append_events(log, flows(1, 100))
    async with engine(log, database, (Positions(),), long_log=100):
        await caught_up(log, database, (Positions(),))
        # The replaced tables are dropped some time after the swap.
        await settled(lambda: build_schemas(database), lambda found: schemas.build_schema("position", 1) not in found)
    session = await asyncpg.connect(database)
    assert await session.fetchval("SELECT generation FROM projection_position") == 2
    await session.close()
    await built(log, other := await databases.new(), (Positions(),))
    assert await contents(database, (Positions(),)) == await contents(other, (Positions(),))


async def test_a_missing_table_is_built_again(log: Connection, database: str) -> None:
    await append_events(log, flows(1, 40))
    await built(log, database)
    before = await contents(database)
    session = await asyncpg.connect(database)
    await session.execute("DROP TABLE copy_attempt CASCADE")
    async with engine(log, database):
        await settled(lambda: table_exists(session), lambda found: found)
        await caught_up(log, database)
    await session.close()
    assert await contents(database) == before


async def table_exists(session: Any) -> bool:
    return bool(await session.fetchval("SELECT to_regclass('copy_attempt') IS NOT NULL"))


async def test_each_day_has_a_partition_and_rows_cannot_be_changed(log: Connection, database: str) -> None:
    day = 86_400_000_000_000
    at = 1_795_000_000_000_000_000
    attempts = [
        ("EXECUTIONS", "executions.1.ann", example(CopyDecided, attempt_id=f"a{n}", decided_at=at + n // 2 * day))
        for n in range(8)
    ]
    await append_events(log, attempts[:4])
    await built(log, database)
    await append_events(log, attempts[4:])
    await built(log, database)
    session = await asyncpg.connect(database)
    days = await session.fetch(
        "SELECT tableoid::regclass::text AS part, count(*) FROM copy_attempt GROUP BY 1 ORDER BY 1"
    )
    assert [(row["part"], row["count"]) for row in days] == [
        (f"rm_copy_attempt_1.copy_attempt_{date}", 2) for date in ("20261118", "20261119", "20261120", "20261121")
    ]
    today = time.strftime("%Y%m%d", time.gmtime())
    assert await session.fetchval("SELECT to_regclass($1) IS NOT NULL", f"rm_ledger_entry_1.booking_{today}")
    await session.execute(f"SET ROLE {schemas.WRITER}")
    for statement in ("UPDATE copy_attempt SET market = ''", "DELETE FROM ledger_entry", "TRUNCATE trade_event"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.execute(statement)
    await session.execute("UPDATE position SET share_micros = 0")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await session.execute("DELETE FROM projection_position")
    await session.close()


async def test_positions_of_an_older_release_lead_to_a_rebuild(log: Connection, database: str) -> None:
    await append_events(log, flows(1, 30))
    await built(log, database, (Positions(), LedgerEntries()))
    before = await contents(database, (Positions(), LedgerEntries()))
    session = await asyncpg.connect(database)
    for column in ("shape", "generation", "event_time", "rate"):
        await session.execute(f"ALTER TABLE projection_position DROP COLUMN {column}")
    query = "SELECT min(generation) FROM projection_position"
    async with engine(log, database, (Positions(), LedgerEntries())) as running:
        await running.ready.wait()
        await settled(lambda: session.fetchval(query), lambda generation: generation >= 1)
    await session.close()
    assert await contents(database, (Positions(), LedgerEntries())) == before
