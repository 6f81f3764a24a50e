"""Verify reports equal read models, and names the first differing row and column of others."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from gateways.embedded import Addresses
from handlers.live.event_codec import codec
from projections.engine.errors import RebuildError
from projections.engine.point_in_time import build_as_of, last_recorded
from projections.engine.projection import Projection
from projections.engine.status import projection_statuses
from projections.engine.verify import Check, Difference, verify
from projections.models.copy_attempt import CopyAttempts
from projections.models.event_count import EventCounts
from projections.models.ledger_entry import LedgerEntries
from projections.models.position import Positions
from streams.append import Record, append
from streams.connection import Connection
from tests.conftest import Databases
from tests.projections.engines import CORE, build_schemas, built, caught_up, contents, engine
from tests.projections.example_log import CODEC, append_events, flows
from tests.projections.notes import Notes, deposit
from tests.streams.examples import example


async def verified(running: Addresses, dsn: str, *projections: Projection, **options: Any) -> list[Check]:
    return await verify(running.nats_url, dsn, codec(), projections or CORE, **options)


async def test_read_models_are_equal_while_events_arrive(log: Connection, running: Addresses, database: str) -> None:
    await append_events(log, flows(1, 200))
    async with engine(log, database):
        await caught_up(log, database)

        async def more() -> None:
            for first in range(201, 401, 10):
                await append_events(log, flows(first, 10))

        appending = asyncio.create_task(more())
        checks = await verified(running, database, chunk=300)
        await appending
        assert [check.projection for check in checks] == [projection.name for projection in CORE]
        assert [table for check in checks for table in check.tables if table.difference is not None] == []
        rows = {table.table: table.rows for check in checks for table in check.tables}
        assert min(rows["trade_event"], rows["copy_attempt"], rows["position"], rows["event_count"]) > 0
        assert {table.digest for check in checks for table in check.tables} == {
            table.replayed_digest for check in checks for table in check.tables
        }
    assert not any("verify" in schema for schema in await build_schemas(database))


TAMPERED = {
    "a changed column": (
        "UPDATE position SET cost_micros = cost_micros + 1 WHERE subscriber_id = 'sub-3' AND asset = 'COIN1'",
        "position",
        Difference({"subscriber_id": "sub-3", "venue": "hyperliquid", "asset": "COIN1"}, "cost_micros", 8, 7),
    ),
    "a row too few": (
        "DELETE FROM event_count WHERE stream = 'GROUPS' AND type = 'group.closed'",
        "event_count",
        Difference(
            {"stream": "GROUPS", "type": "group.closed"},
            None,
            None,
            {"stream": "GROUPS", "type": "group.closed", "events": 50},
        ),
    ),
    "a row too many": (
        "INSERT INTO event_count VALUES ('RAW', 'raw.invented', 1)",
        "event_count",
        Difference(
            {"stream": "RAW", "type": "raw.invented"},
            None,
            {"stream": "RAW", "type": "raw.invented", "events": 1},
            None,
        ),
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
async def test_a_tampered_row_is_named(log: Connection, running: Addresses, database: str, how: str) -> None:
    statement, table, expected = TAMPERED[how]
    chosen: tuple[Projection, ...] = (Positions(), EventCounts())
    await append_events(log, flows(1, 50))
    await built(log, database, chosen)
    session = await asyncpg.connect(database)
    assert (await session.execute(statement)).endswith(" 1")
    await session.close()
    checks = await verified(running, database, *chosen)
    found = [each for check in checks for each in check.tables if each.difference is not None]
    assert [each.table for each in found] == [table]
    assert found[0].difference == expected
    assert [check.projection for check in checks if not check.equal] == [table]
    assert not any("verify" in schema for schema in await build_schemas(database))


async def test_dead_lettered_events_are_skipped(log: Connection, running: Addresses, database: str) -> None:
    await append_events(log, [deposit("1"), deposit("bug"), deposit("1"), deposit("2")])
    await append(log, [Record("executions.1.ann", b"junk")])
    await append(log, [Record("requests.1.ann", b"junk")])  # of a stream that Notes does not read
    await built(log, database, (Notes(), EventCounts()))
    notes, counts = await verified(running, database, Notes(), EventCounts())
    assert (notes.equal, counts.equal) == (True, True)
    assert (notes.passed_over, counts.passed_over) == (3, 2)
    assert notes.tables[0].rows == 2


async def test_verify_refuses_read_models_of_other_code(log: Connection, running: Addresses, database: str) -> None:
    with pytest.raises(RebuildError, match="position has not been built yet"):
        await verified(running, database, Positions())
    await append_events(log, flows(1, 5))
    await built(log, database, (Positions(),))
    session = await asyncpg.connect(database)
    await session.execute("UPDATE projection_position SET version = 77")
    await session.close()
    with pytest.raises(RebuildError, match=r"it was built by version 77, the code is version 1.*rebuild position"):
        await verified(running, database, Positions())


async def test_read_models_as_of_a_sequence_equal_those_of_that_time(
    log: Connection, running: Addresses, database: str, databases: Databases
) -> None:
    chosen = (CopyAttempts(), Positions(), LedgerEntries())
    await append_events(log, flows(1, 40))
    then = (await log.api("STREAM.INFO.EXECUTIONS"))["state"]["last_seq"]
    await built(log, database, chosen)
    before = await contents(database, chosen)
    await append_events(log, flows(41, 40))
    other = await databases.new()
    assert await build_as_of(running.nats_url, other, codec(), chosen, "past", then) == {"EXECUTIONS": then}
    assert await contents(f"{other}?options=-csearch_path%3Dpast", chosen) == before
    session = await asyncpg.connect(other)
    assert await session.fetchval("SELECT to_regclass('public.position')") is None
    options = await session.fetchval("SELECT reloptions FROM pg_class WHERE oid = 'past.position'::regclass")
    assert options == ["fillfactor=50"], "autovacuum is enabled"
    await session.close()
    with pytest.raises(RebuildError, match=r"--schema past is in use.*DROP SCHEMA past CASCADE"):
        await build_as_of(running.nats_url, other, codec(), chosen, "past", then)
    with pytest.raises(RebuildError, match="the live read models are there"):
        await build_as_of(running.nats_url, other, codec(), chosen, "public", then)
    with pytest.raises(RebuildError, match="holds sequences 1 to"):
        await build_as_of(running.nats_url, other, codec(), chosen, "later", 10**9)
    with pytest.raises(RebuildError, match="give a time"):
        await build_as_of(running.nats_url, other, codec(), CORE, "later", 5)
    ends = await build_as_of(running.nats_url, other, codec(), CORE, "everything", datetime(2100, 1, 1, tzinfo=UTC))
    assert (ends["DEAD"], ends["RAW"]) == (0, 80), "an empty stream has an end too"


async def test_a_time_finds_the_last_event_recorded_by_then(log: Connection, database: str) -> None:
    second = 1_000_000_000
    records = []
    for number in range(20):
        event = example(type(deposit("x")[2]), deposit_id=f"d{number}")
        payload = CODEC.encode(event, id=f"e{number}", source="tests", time_ns=1_795_000_000 * second + number * second)
        records.append(Record("executions.1.ann", payload if number not in (7, 8) else b"junk"))
    await append(log, records)
    session = await asyncpg.connect(database)
    (status,) = await projection_statuses(log, session, (Positions(),))
    await session.close()
    extent = status.extents["EXECUTIONS"]

    async def at(seconds: float) -> int:
        time = datetime.fromtimestamp(1_795_000_000 + seconds, UTC)
        return await last_recorded(log, "EXECUTIONS", extent, time)

    assert [await at(seconds) for seconds in (-1, 0, 0.5, 5, 18, 19, 100)] == [0, 1, 1, 6, 19, 20, 20]
    assert await at(8.5) in (7, 8, 9), "an unreadable event has no time"
