"""The engine writes rows and position together, so after every crash the read models equal an undisturbed replay."""

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from domain.events import CashDeposited, SignalRecorded
from gateways.embedded import Addresses
from handlers.live.event_codec import codec
from projections.engine import follow, positions
from projections.engine.errors import LostPositionError, OtherLogError
from projections.engine.follow import GATHER_SECONDS, ProjectionFollower
from projections.engine.projection import Projection
from projections.engine.runner import Engine
from projections.engine.status import projection_statuses
from projections.engine.table import Add, Change, Insert, Table, Update
from projections.models.ledger_entry import LedgerEntries
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.envelope import Recorded
from streams.topology import EXECUTIONS, SIGNALS
from tests.conftest import Databases, empty
from tests.projections.engines import CORE, behind, built, caught_up, contents, dead_letters, engine
from tests.projections.example_log import append_events, flows
from tests.streams.deadlines import settled
from tests.streams.examples import example
from tests.streams.proxy import proxied
from tests.streams.subprocesses import heard, process


async def clean_replay(log: Connection, databases: Databases) -> dict[str, list[tuple[Any, ...]]]:
    """What an engine builds in an empty database, undisturbed."""
    dsn = await databases.new()
    await built(log, dsn)
    return await contents(dsn)


async def test_all_read_models_are_built_and_a_second_run_continues(log: Connection, database: str) -> None:
    await append_events(log, flows(1, 60))
    await built(log, database)
    first = await contents(database)
    sizes = {name: len(rows) for name, rows in first.items()}
    executed = [n for n in range(1, 61) if n % 4]
    expected = {
        "trade_event": 60,
        "signal_group": 60,
        "quote": 60,
        "group_fan_out": 60,
        "copy_attempt": 60,
        "fill": sum(n % 3 for n in executed),
        "execution": len(executed),
        "position": len({(n % 7, n % 3) for n in executed}),
        "ledger_entry": 6 + sum(n % 3 for n in executed),
    }
    assert {name: sizes[name] for name in expected} == expected
    assert {(stream, kind): count for stream, kind, count in first["event_count"]}[("SIGNALS", "signal.recorded")] == 60
    await built(log, database)
    assert await contents(database) == first, "a run without new events changes nothing"
    await append_events(log, flows(61, 30))
    await built(log, database)
    after = await contents(database)
    assert len(after["trade_event"]) == 90
    assert sum(count for _, _, count in after["event_count"]) > sum(count for _, _, count in first["event_count"])
    assert await dead_letters(log) == []


async def test_a_postgres_that_goes_silent_is_connected_to_again(
    log: Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-open connection: Postgres is gone and never closed it. No row is lost or stored twice."""
    monkeypatch.setattr(follow, "COMMAND_SECONDS", 0.5)
    models = (LedgerEntries(),)
    await append_events(log, flows(1, 10))
    async with proxied(database) as proxy, engine(log, proxy.url, models):
        await caught_up(log, database, models)
        proxy.silence()
        await append_events(log, flows(11, 10))
        await caught_up(log, database, models, within=15)
    undisturbed = await contents(database, models)
    assert undisturbed["ledger_entry"]
    await built(log, database, models)
    assert await contents(database, models) == undisturbed


async def test_rows_appear_while_the_engine_runs_and_its_consumer_shows_the_lag(log: Connection, database: str) -> None:
    async with engine(log, database):
        for first in (1, 21, 41):
            await append_events(log, flows(first, 20))
            await caught_up(log, database)
            assert len((await contents(database))["copy_attempt"]) == first + 19

        async def waiting() -> int:
            return int((await log.api("CONSUMER.INFO.EXECUTIONS.projections"))["num_pending"])

        await settled(waiting, lambda left: left == 0)


async def test_events_that_come_one_by_one_are_stored_in_few_transactions(log: Connection, database: str) -> None:
    moves: list[str] = []
    async with engine(log, database, (LedgerEntries(),)) as running:
        await running.ready.wait()
        session = await asyncpg.connect(database)
        await session.add_listener(positions.CHANNEL, lambda *notified: moves.append(notified[-1]))
        begun = time.monotonic()
        for number in range(60):
            deposit = example(CashDeposited, deposit_id=f"d{number}", subscriber_id="sam")
            await append_events(log, [("EXECUTIONS", subjects.executions("sam"), deposit)])
        await caught_up(log, database, (LedgerEntries(),))
        took = time.monotonic() - begun
        await session.close()
    assert len((await contents(database, (LedgerEntries(),)))["ledger_entry"]) == 60
    # The first one at once, the others with pauses between.
    assert 1 <= len(moves) <= took / GATHER_SECONDS + 2


async def test_of_two_engines_one_is_in_standby_and_takes_over(
    log: Connection, database: str, databases: Databases
) -> None:
    await append_events(log, flows(1, 20))
    async with engine(log, database) as first:
        await asyncio.wait_for(first.ready.wait(), 10)
        async with engine(log, database) as second:
            await caught_up(log, database)
            assert not second.ready.is_set()
            session = await asyncpg.connect(database)
            # The first engine loses its lock, as when its connection breaks: now both are active.
            await session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            )
            await asyncio.wait_for(second.ready.wait(), 10)
            for start in range(21, 61, 10):
                await append_events(log, flows(start, 10))
            await caught_up(log, database)
            await session.close()
    assert await contents(database) == await clean_replay(log, databases)
    assert await dead_letters(log) == []


async def test_killed_engines_leave_correct_rows(
    log: Connection, running: Addresses, database: str, databases: Databases, tmp_path: Path
) -> None:
    chance = random.Random(8)
    for kill in range(3):
        await append_events(log, flows(1 + kill * 300, 300))
        async with process(
            "tests.projections.engine_process", running.nats_url, database, log=tmp_path / "log"
        ) as builder:
            await heard(builder, "ready")
            await asyncio.sleep(chance.uniform(0.0, 0.25))
            builder.kill()
            assert await builder.wait() == -signal.SIGKILL
    await built(log, database)
    assert await contents(database) == await clean_replay(log, databases)
    assert await dead_letters(log) == []


async def test_the_engine_survives_killed_connections(log: Connection, database: str, databases: Databases) -> None:
    session = await asyncpg.connect(database)

    async def kill() -> int:
        return int(
            await session.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    async with engine(log, database):
        for start in range(1, 451, 150):
            await append_events(log, flows(start, 150))
            for _ in range(2):
                await settled(kill, lambda killed: killed > 0)
        await caught_up(log, database)
    await session.close()
    assert await contents(database) == await clean_replay(log, databases)
    assert await dead_letters(log) == []


async def test_all_tables_dropped_are_built_again(log: Connection, database: str) -> None:
    await append_events(log, flows(1, 100))
    await built(log, database)
    before = await contents(database)
    session = await asyncpg.connect(database)
    views = {view.name for projection in CORE for view in projection.views}
    for name in [*(before.keys() - views), "projection_position"]:
        await session.execute(f"DROP TABLE {name} CASCADE")
    await session.close()
    await built(log, database)
    assert await contents(database) == before


async def test_of_two_writers_of_one_stream_the_slower_loses_its_position(
    log: Connection, database: str, databases: Databases
) -> None:
    await built(log, database)
    reading = [projection for projection in CORE if EXECUTIONS in projection.reads]
    stop = asyncio.Event()
    session = await asyncpg.connect(database)
    statuses = await projection_statuses(log, session, reading)
    await session.close()
    runs = [
        asyncio.create_task(
            ProjectionFollower(log, codec(), EXECUTIONS, statuses, time.time_ns, writer=True).run(database, stop)
        )
        for _ in range(2)
    ]
    await asyncio.sleep(0)
    for start in range(1, 401, 20):
        await append_events(log, flows(start, 20))
    async with asyncio.timeout(20):
        done, _ = await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        with pytest.raises(LostPositionError, match=r"positions in EXECUTIONS were moved by another writer"):
            each.result()
    await settled(lambda: behind(log, database, reading), lambda left: not left["position EXECUTIONS"])
    stop.set()
    await asyncio.gather(*runs, return_exceptions=True)
    await built(log, database)
    assert await contents(database) == await clean_replay(log, databases)


async def test_read_models_of_another_log_are_refused(log: Connection, database: str) -> None:
    await append_events(log, flows(1, 5))
    await built(log, database)
    await empty(log)
    refused = Engine(log, codec(), database, CORE, time.time_ns)
    with pytest.raises(OtherLogError, match=r"another log.*vibe projections rebuild --all"):
        await asyncio.wait_for(refused.run(asyncio.Event()), 10)


NOTE = Table("note", ("note_id",), {"note_id": "text", "amount": "bigint", "detail": "text NULL"}, ("detail",))
TOTALS = Table("totals", ("kind",), {"kind": "text", "events": "bigint"})


class Notes(Projection):
    """Writes the facts of each deposit, whether they fit the table or not."""

    name = "note"
    reads = (EXECUTIONS,)
    types = frozenset({"cash.deposited"})
    tables = (NOTE, TOTALS)

    def fold(self, event: Recorded) -> Iterator[Change]:
        deposit: CashDeposited = event.data
        yield Add(TOTALS, ("deposits",), {"events": 1})
        if deposit.deposit_id == "bug":
            raise RuntimeError("a fold with a bug")
        if deposit.deposit_id == "update":
            yield Update(NOTE, ("1",), {"detail": deposit.subscriber_id})
            return
        row = {"note_id": deposit.deposit_id, "amount": deposit.cash_delta_micros, "detail": deposit.subscriber_id}
        yield Insert(NOTE, row | ({"amount": None} if deposit.deposit_id == "null" else {}))


OTHER = Table("other", ("kind",), {"kind": "text", "events": "bigint"})


class Others(Projection):
    """Another projection of the same stream, which can process every event."""

    name = "other"
    reads = (EXECUTIONS,)
    types = frozenset({"cash.deposited"})
    tables = (OTHER,)

    def fold(self, event: Recorded) -> Iterator[Change]:
        yield Add(OTHER, ("deposits",), {"events": 1})


def deposit(deposit_id: str, **fields: Any) -> tuple[str, str, CashDeposited]:
    return "EXECUTIONS", "executions.1.ann", example(CashDeposited, deposit_id=deposit_id, **fields)


BAD = {
    "bug": deposit("bug"),
    "null": deposit("null"),
    "huge": deposit("huge", cash_delta_micros=2**63),
    "nul": deposit("nul", subscriber_id="a\u0000b"),
    "unindexable": deposit("wide", subscriber_id="".join(chr(0x4E00 + n) for n in range(20_000))),
    "existing": deposit("1"),
}


@pytest.mark.parametrize(
    ("bad", "together"), [*((bad, True) for bad in BAD), ("existing", False), ("huge", False)], ids=str
)
async def test_an_event_that_a_projection_cannot_store_is_dead_lettered_and_the_others_are_stored(
    log: Connection, database: str, bad: str, together: bool
) -> None:
    projections = (Notes(), Others())
    await append_events(log, [deposit("1", cash_delta_micros=5)])
    if not together:
        await built(log, database, projections)
    await append_events(log, [deposit("2"), BAD[bad], deposit("update", subscriber_id="changed"), deposit("3")])
    await built(log, database, projections)
    await append_events(log, [deposit("4")])
    await built(log, database, projections)
    rows = await contents(database, projections)
    assert [(row[0], row[2]) for row in rows["note"]] == [
        ("1", "changed"),
        ("2", "the subscriber_id"),
        ("3", "the subscriber_id"),
        ("4", "the subscriber_id"),
    ]
    assert rows["totals"] == [("deposits", 5)], "no row of a dead-lettered event is kept"
    assert rows["other"] == [("deposits", 6)]
    (dead_letter,) = await dead_letters(log)
    assert (dead_letter.stage, dead_letter.stream, dead_letter.sequence) == ("projection.note", "EXECUTIONS", 3)
    assert dead_letter.error


async def test_an_unreadable_event_is_dead_lettered_once_for_all_projections(log: Connection, database: str) -> None:
    await append_events(log, flows(1, 3))
    await append(log, [Record("signals.1.x.y.z", payload) for payload in (b"junk", b"\xff" * 80, b"{}")])
    await append_events(log, flows(4, 3))
    for _ in range(2):
        await built(log, database)
    assert len((await contents(database))["trade_event"]) == 6
    found = await dead_letters(log)
    assert [(dead_letter.stage, dead_letter.stream, dead_letter.sequence) for dead_letter in found] == [
        ("projections", "SIGNALS", sequence) for sequence in (4, 5, 6)
    ]


async def test_an_unreadable_message_in_dead_is_skipped(log: Connection, database: str) -> None:
    await append(log, [Record("dead.a.b", b"junk")])
    await built(log, database)
    assert len(await _dead(log)) == 1


async def _dead(log: Connection) -> list[int]:
    return list(range((await log.api("STREAM.INFO.DEAD"))["state"]["messages"]))


async def test_a_fold_gets_only_the_types_of_its_projection(log: Connection, database: str) -> None:
    seen: list[str] = []

    class Observer(Projection):
        name = "observer"
        reads = (SIGNALS, EXECUTIONS)
        types = frozenset({"signal.recorded", "cash.deposited"})
        tables = ()

        def fold(self, event: Recorded) -> list[Change]:
            seen.append(event.type)
            return []

    await append_events(log, [deposit("1"), ("SIGNALS", subjects.signals("a", "b", "c"), example(SignalRecorded))])
    await append_events(log, flows(1, 1))
    await built(log, database, (Observer(),))
    assert sorted(seen) == ["cash.deposited", "cash.deposited", "signal.recorded", "signal.recorded"]
