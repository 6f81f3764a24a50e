"""Events that the log no longer holds are read from the archive; where that lacks them too, an error names them."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateways.embedded import Addresses
from handlers.live.event_codec import codec
from projections.engine.errors import RebuildError
from projections.engine.history_source import HistorySource, check_not_truncated
from projections.engine.point_in_time import build_as_of
from projections.engine.projection import Projection
from projections.engine.rebuild import rebuild
from projections.engine.status import Extent
from projections.engine.verify import Check, verify
from projections.models.event_count import EventCounts
from projections.models.trade_event import TradeEvents
from streams.archive.errors import AnotherLogError
from streams.archive.export import export_stream
from streams.archive.store import Archive
from streams.connection import Connection
from streams.topology import SIGNALS
from tests.conftest import empty
from tests.projections.engines import built, caught_up, contents, engine
from tests.projections.example_log import TIME, append_events, flows
from tests.streams.deadlines import settled

DAY = 86_400_000_000_000
TRADES: tuple[Projection, ...] = (TradeEvents(),)


class Older(TradeEvents):
    """The projection of an earlier version of the code."""

    version = 1


@pytest.fixture
def archive(tmp_path: Path) -> str:
    return str(tmp_path / "archive")


async def archived(archive: str, running: Addresses) -> None:
    await export_stream(Archive(archive), running.nats_url, SIGNALS, now_ns=TIME + 2 * DAY)


async def age(log: Connection) -> None:
    """Let an age limit remove everything that SIGNALS holds."""
    config = (await log.api(f"STREAM.INFO.{SIGNALS.name}"))["config"]
    short = {"max_age": 100_000_000, "duplicate_window": 100_000_000}

    async def left() -> int:
        return int((await log.api(f"STREAM.INFO.{SIGNALS.name}"))["state"]["messages"])

    await log.api(f"STREAM.UPDATE.{SIGNALS.name}", config | short)
    await settled(left, lambda messages: messages == 0, 15)
    await log.api(f"STREAM.UPDATE.{SIGNALS.name}", config)


async def rebuilt(running: Addresses, dsn: str, projections: tuple[Projection, ...] = TRADES, **options: Any) -> None:
    await rebuild(running.nats_url, dsn, codec(), projections, **options)


async def checked(running: Addresses, dsn: str, **options: Any) -> Check:
    (check,) = await verify(running.nats_url, dsn, codec(), TRADES, **options)
    return check


async def test_a_rebuild_reads_archived_events_that_are_gone_from_the_log(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await append_events(log, flows(1, 40))
    await archived(archive, running)
    await age(log)
    await append_events(log, flows(41, 20))
    await built(log, database, TRADES)
    with pytest.raises(RebuildError, match="rows of trade_event that were built from them would be missing"):
        await rebuilt(running, database)
    await rebuilt(running, database, archive=archive)
    before = await contents(database, TRADES)
    assert len(before["trade_event"]) == 60
    check = await checked(running, database, archive=archive)
    assert check.equal
    assert check.unverifiable is None
    assert [table.rows for table in check.tables] == [60]
    assert "SIGNALS begins at sequence 41" in str((await checked(running, database)).unverifiable)
    await rebuilt(running, database, shorten=True)
    assert len((await contents(database, TRADES))["trade_event"]) == 20


async def test_a_new_version_at_start_reads_the_archive(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await append_events(log, flows(1, 40))
    await built(log, database, (Older(),))
    await archived(archive, running)
    await age(log)
    await append_events(log, flows(41, 20))
    async with engine(log, database, TRADES, archive=archive):
        await settled(lambda: versions(database), lambda found: found == {TradeEvents.version}, 20)
        await caught_up(log, database, TRADES)
    assert len((await contents(database, TRADES))["trade_event"]) == 60


async def versions(database: str) -> set[int]:
    session = await asyncpg.connect(database)
    try:
        return {row["version"] for row in await session.fetch("SELECT version FROM projection_position")}
    finally:
        await session.close()


async def test_events_that_were_never_archived_are_reported(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await append_events(log, flows(1, 10))
    await archived(archive, running)
    await append_events(log, flows(11, 10))
    await built(log, database, TRADES)
    await age(log)
    await append_events(log, flows(21, 10))
    await built(log, database, TRADES)
    with pytest.raises(RebuildError, match=r"SIGNALS begins at sequence 21; .* --shorten accepts that"):
        await rebuilt(running, database, archive=archive)
    assert len((await contents(database, TRADES))["trade_event"]) == 30
    assert (await checked(running, database, archive=archive)).unverifiable is not None


async def test_a_build_from_less_history_is_not_resumed(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await append_events(log, flows(1, 40))
    await archived(archive, running)
    await age(log)
    await append_events(log, flows(41, 60))
    await built(log, database, TRADES)
    work: asyncio.Task[None] | None = None

    def interrupt(what: str, done: int, total: int) -> None:
        if done >= 30:  # of the 60 that are left
            assert work is not None
            work.cancel()

    work = asyncio.create_task(rebuilt(running, database, shorten=True, chunk=10, progress=interrupt))
    with pytest.raises(asyncio.CancelledError):
        await work
    await rebuilt(running, database, resume=True, archive=archive)
    assert len((await contents(database, TRADES))["trade_event"]) == 100


async def test_the_archive_of_another_log_is_refused(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await append_events(log, flows(1, 10))
    await archived(archive, running)
    await empty(log)
    await append_events(log, flows(1, 10))
    with pytest.raises(AnotherLogError, match="they must not be mixed"):
        await rebuilt(running, database, archive=archive, prefer_archive=True)
    await age(log)
    await append_events(log, flows(11, 5))
    with pytest.raises(AnotherLogError):
        await rebuilt(running, database, archive=archive)


def test_an_age_limit_that_began_to_remove_events_is_reported() -> None:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    alone, archived = {"RAW": HistorySource(1, None)}, {"RAW": HistorySource(1, "archive")}
    check_not_truncated(alone, {"RAW": Extent(created, 1, 9)})
    check_not_truncated(archived, {"RAW": Extent(created, 5, 9)})
    with pytest.raises(RebuildError, match="an age limit began to remove events of RAW while they were read"):
        check_not_truncated(alone, {"RAW": Extent(created, 5, 9)})


class Signals(EventCounts):
    """Counts the events of one stream."""

    reads = (SIGNALS,)  # type: ignore[assignment]


async def test_a_build_as_of_a_time_reads_the_archive(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await append_events(log, flows(1, 40))
    await archived(archive, running)
    await age(log)

    async def count(schema: str, until: Any) -> int:
        await build_as_of(running.nats_url, database, codec(), (Signals(),), schema, until, archive=archive)
        session = await asyncpg.connect(database)
        try:
            return int(await session.fetchval(f"SELECT coalesce(sum(events), 0) FROM {schema}.event_count"))
        finally:
            await session.close()

    recorded = datetime.fromtimestamp(TIME / 1e9, UTC)
    assert await count("whole", None) == 40
    assert await count("half", 15) == 15
    assert await count("that_day", recorded) == 40
    assert await count("year_before", recorded.replace(year=recorded.year - 1)) == 0
    with pytest.raises(RebuildError, match="--schema then is a keyword of SQL"):
        await count("then", None)
