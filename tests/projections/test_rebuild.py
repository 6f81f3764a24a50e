"""A rebuild beside the live tables gives the same rows, and readers of the live tables do not notice it."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
import pytest

from domain.events import CashDeposited, CopyDecided, OrderFilled
from gateways.embedded import Addresses
from handlers.live.event_codec import codec
from projections.engine import rebuild as rebuilding
from projections.engine import schemas
from projections.engine import swap as swapping
from projections.engine.errors import RebuildError, UnprocessableRowError
from projections.engine.point_in_time import build_as_of
from projections.engine.projection import Projection
from projections.engine.rebuild import Rebuilt, rebuild
from projections.engine.table import Add, Change, Insert, Table, Upsert
from projections.models.copy_attempt import CopyAttempts
from projections.models.executable_fill import ExecutableFills
from projections.models.ledger_entry import LedgerEntries
from projections.models.position import Positions
from streams.append import Record, append
from streams.connection import Connection
from streams.envelope import Recorded
from streams.topology import EXECUTIONS, GROUPS
from tests.conftest import Databases, empty
from tests.projections.engines import CORE, built, caught_up, contents, dead_letters, engine
from tests.projections.example_log import append_events, flows
from tests.streams.deadlines import settled
from tests.streams.examples import example
from tests.streams.subprocesses import heard, process


async def rebuilt(
    running: Addresses, dsn: str, projections: tuple[Projection, ...] = CORE, **options: Any
) -> list[Rebuilt]:
    return await rebuild(running.nats_url, dsn, codec(), projections, **options)


async def build_schemas(dsn: str) -> set[str]:
    """The schemas of all generations that exist."""
    session = await asyncpg.connect(dsn)
    rows = await session.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'rm\\_%'")
    await session.close()
    return {row["nspname"] for row in rows}


@asynccontextmanager
async def reader(dsn: str, *tables: str) -> AsyncIterator[list[int]]:
    """A reader that queries all the time with a prepared statement: counts never fall, and no query fails."""
    session = await asyncpg.connect(dsn)
    # One statement counts all tables in one snapshot.
    counts = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in tables)
    statement = await session.prepare(counts)
    seen: list[int] = []
    stop = asyncio.Event()

    async def read() -> None:
        before = [0] * len(tables)
        while not stop.is_set():
            now = list(await statement.fetchrow() or ())
            assert all(a >= b for a, b in zip(now, before, strict=True)), f"rows are missing: {now} after {before}"
            before = now
            seen.append(sum(now))
            await asyncio.sleep(0.002)

    task = asyncio.create_task(read())
    try:
        yield seen
    finally:
        stop.set()
        try:
            await task
        finally:
            await session.close()


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

        async with reader(database, *tables) as seen:
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
    log: Connection, running: Addresses, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_events(log, flows(1, 50))
    monkeypatch.setattr(rebuilding, "_LOCK_SECONDS", 0.2)
    session = await asyncpg.connect(database)
    await session.execute("SELECT pg_advisory_lock($1, hashtext('position'))", rebuilding._BUILD_LOCK)
    with pytest.raises(RebuildError, match="position is being rebuilt already"):
        await rebuilt(running, database, (Positions(), LedgerEntries()))
    # The lock of a rebuild that has just ended may be held a little longer.
    monkeypatch.setattr(rebuilding, "_LOCK_SECONDS", 10.0)
    second = asyncio.create_task(rebuilt(running, database, (Positions(), LedgerEntries())))
    await asyncio.sleep(0.3)
    assert not second.done()
    session.terminate()
    assert len(await second) == 2


async def test_a_lock_that_a_reader_holds_is_waited_for(
    log: Connection, running: Addresses, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swapping, "_SNAPSHOT_SECONDS", 0.1)
    await append_events(log, flows(1, 50))
    await built(log, database)
    session = await asyncpg.connect(database)
    transaction = session.transaction()
    await transaction.start()
    ((count,),) = await session.fetch("SELECT count(*) FROM position")
    activities: list[str] = []
    work = asyncio.create_task(
        rebuilt(running, database, (Positions(),), progress=lambda activity, *_: activities.append(activity))
    )
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
    assert await session.fetchval("SELECT reloptions FROM pg_class WHERE oid = 'position'::regclass") is None
    await session.close()


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
    async with reader(database, "position"), engine(log, database, (Version2(), LedgerEntries())):
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


async def test_a_missing_table_is_built_again(log: Connection, database: str) -> None:
    await append_events(log, flows(1, 40))
    await built(log, database)
    before = await contents(database)
    session = await asyncpg.connect(database)
    await session.execute("DROP TABLE copy_attempt")
    async with engine(log, database):
        await settled(lambda: table_exists(session), lambda found: found)
        await caught_up(log, database)
    await session.close()
    assert await contents(database) == before


async def table_exists(session: Any) -> bool:
    return bool(await session.fetchval("SELECT to_regclass('copy_attempt') IS NOT NULL"))


NOTE = Table("note", ("note_id",), {"note_id": "text", "amount": "bigint"}, append_only=True)
TOTALS = Table("totals", ("kind",), {"kind": "text", "amount": "bigint"})


class Notes(Projection):
    """Writes the amount of each deposit, whether it fits the table or not."""

    name = "note"
    reads = (EXECUTIONS, GROUPS)
    types = frozenset({"cash.deposited"})
    tables = (NOTE, TOTALS)

    def fold(self, event: Recorded) -> Iterator[Change]:
        deposit: CashDeposited = event.data
        if deposit.deposit_id == "bug":
            raise RuntimeError("a fold with a bug")
        yield Insert(NOTE, {"note_id": deposit.deposit_id, "amount": deposit.cash_delta_micros})
        yield Add(TOTALS, ("deposits",), {"amount": deposit.config_sequence})


def deposit(deposit_id: str, **fields: Any) -> tuple[str, str, CashDeposited]:
    return "EXECUTIONS", "executions.1.ann", example(CashDeposited, deposit_id=deposit_id, **fields)


BAD = {
    "bug": (deposit("bug"), "RuntimeError: a fold with a bug"),
    "too large": (deposit("huge", cash_delta_micros=2**63), "int64|out of range"),
    "twice": (deposit("2"), r"note has a row \('2',\) already, from EXECUTIONS:2"),
    "too large a sum": (deposit("sum", config_sequence=2**63), "int64|out of range"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_an_unprocessable_event_stops_a_rebuild_and_is_named(
    log: Connection, running: Addresses, database: str, bad: str
) -> None:
    event, why = BAD[bad]
    await append_events(log, [deposit("1"), deposit("2"), deposit("3"), event, deposit("4")])
    await built(log, database, (Notes(),))
    before = await contents(database, (Notes(),))
    assert [row[0] for row in before["note"]] == ["1", "2", "3", "4"]
    assert [(dead_letter.stage, dead_letter.sequence) for dead_letter in await dead_letters(log)] == [
        ("projection.note", 4)
    ]
    with pytest.raises(UnprocessableRowError, match=why) as caught:
        await rebuilt(running, database, (Notes(),))
    assert "the event EXECUTIONS:4 (cash.deposited EXECUTIONS.3) cannot be folded" in str(caught.value)
    assert "--dead-letter" in str(caught.value)
    assert await contents(database, (Notes(),)) == before

    refused: list[int] = []

    async def on_skipped(_: object, event: Any, why: str) -> None:
        refused.append(event.sequence)

    (result,) = await rebuilt(running, database, (Notes(),), on_skipped=on_skipped)
    assert (refused, result.refused) == ([4], 1)
    assert await contents(database, (Notes(),)) == before


async def test_a_key_in_two_chunks_is_named_when_the_table_has_its_key(
    log: Connection, running: Addresses, database: str
) -> None:
    async def build(**options: Any) -> None:
        await build_as_of(running.nats_url, database, codec(), (Notes(),), "noted", **options)

    await append_events(log, [deposit("1"), deposit("2")])
    await build()
    await append_events(log, [deposit(str(number)) for number in (3, 4, 5, 6, 3, 7)])
    with pytest.raises(UnprocessableRowError, match=r"(?s)the event EXECUTIONS:7 .*already exists"):
        async with asyncio.timeout(30):
            await build(resume=True, chunk=2, long=1)


@pytest.mark.parametrize("bad", [{"share_micros": 2**63}, {"filled_at": 2**80}], ids=["too large", "no time"])
async def test_an_unprocessable_event_of_a_mapped_type_is_named(
    log: Connection, running: Addresses, database: str, bad: dict[str, int]
) -> None:
    def fill(number: int, **fields: Any) -> tuple[str, str, OrderFilled]:
        return "EXECUTIONS", "executions.1.ann", example(OrderFilled, fill_id=f"fil_{number}", **fields)

    await append_events(log, [fill(1), fill(2, **bad), fill(3)])
    await built(log, database, (ExecutableFills(),))
    before = await contents(database, (ExecutableFills(),))
    assert [row[0] for row in before["executable_fill"]] == ["fil_1", "fil_3"]
    assert [dead_letter.sequence for dead_letter in await dead_letters(log)] == [2]
    with pytest.raises(UnprocessableRowError, match=r"the event EXECUTIONS:2 \(order.filled EXECUTIONS.1\)"):
        await rebuilt(running, database, (ExecutableFills(),))
    assert await contents(database, (ExecutableFills(),)) == before


async def test_an_unreadable_event_stops_only_projections_that_process_every_type(
    log: Connection, running: Addresses, database: str
) -> None:
    await append_events(log, flows(1, 3))
    await append(log, [Record("executions.1.ann", b"junk")])
    await rebuilt(running, database, (Positions(),))
    with pytest.raises(UnprocessableRowError, match=r"event_count: the event EXECUTIONS:\d+ \(unreadable\)"):
        await rebuilt(running, database)


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
    assert await session.fetchval("SELECT to_regclass($1) IS NOT NULL", f"rm_ledger_entry_1.ledger_entry_{today}")
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
