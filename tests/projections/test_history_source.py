"""History that the log does not hold any more: read from its archive, and missed out loud where that lacks it too."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateways.embedded import Addresses
from handlers.live.event_codec import codec
from projections.engine.errors import RebuildError
from projections.engine.history_source import History, check_front
from projections.engine.point_in_time import build_past
from projections.engine.projection import Projection
from projections.engine.rebuild import rebuild
from projections.engine.status import Extent
from projections.engine.verify import Check, verify
from projections.models.event_count import EventCounts
from projections.models.trade_event import TradeEvents
from streams.archive.errors import AnotherLogError
from streams.archive.export import archive_stream
from streams.archive.store import Archive
from streams.connection import Connection
from streams.topology import SIGNALS
from tests.conftest import empty
from tests.projections.building import built, caught_up, contents, engine
from tests.projections.example_log import TIME, tell, walks
from tests.streams.deadlines import settled

DAY = 86_400_000_000_000
TRADES: tuple[Projection, ...] = (TradeEvents(),)


class Older(TradeEvents):
    """What an earlier version of the code built."""

    version = 1


@pytest.fixture
def archive(tmp_path: Path) -> str:
    return str(tmp_path / "archive")


async def archived(archive: str, running: Addresses) -> None:
    await archive_stream(Archive(archive), running.nats_url, SIGNALS, now_ns=TIME + 2 * DAY)


async def age(log: Connection) -> None:
    """Let an age limit take everything that SIGNALS holds."""
    config = (await log.api(f"STREAM.INFO.{SIGNALS.name}"))["config"]
    short = {"max_age": 100_000_000, "duplicate_window": 100_000_000}

    async def left() -> int:
        return int((await log.api(f"STREAM.INFO.{SIGNALS.name}"))["state"]["messages"])

    await log.api(f"STREAM.UPDATE.{SIGNALS.name}", config | short)
    await settled(left, lambda messages: messages == 0, 15)
    await log.api(f"STREAM.UPDATE.{SIGNALS.name}", config)


async def rebuilt(running: Addresses, dsn: str, projections: tuple[Projection, ...] = TRADES, **how: Any) -> None:
    await rebuild(running.nats_url, dsn, codec(), projections, **how)


async def checked(running: Addresses, dsn: str, **how: Any) -> Check:
    (check,) = await verify(running.nats_url, dsn, codec(), TRADES, **how)
    return check


async def test_what_is_archived_and_gone_from_the_log_is_in_every_rebuild(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await tell(log, list(walks(1, 40)))
    await archived(archive, running)
    await age(log)
    await tell(log, list(walks(41, 20)))
    await built(log, database, TRADES)
    with pytest.raises(RebuildError, match="rows of trade_event that were built from it would not be there"):
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


async def test_a_new_version_at_start_keeps_what_is_only_in_the_archive(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await tell(log, list(walks(1, 40)))
    await built(log, database, (Older(),))
    await archived(archive, running)
    await age(log)
    await tell(log, list(walks(41, 20)))
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


async def test_what_was_never_archived_is_missed_out_loud(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await tell(log, list(walks(1, 10)))
    await archived(archive, running)
    await tell(log, list(walks(11, 10)))
    await built(log, database, TRADES)
    await age(log)
    await tell(log, list(walks(21, 10)))
    await built(log, database, TRADES)
    with pytest.raises(RebuildError, match=r"SIGNALS begins at sequence 21; .* --shorten builds it"):
        await rebuilt(running, database, archive=archive)
    assert len((await contents(database, TRADES))["trade_event"]) == 30
    assert (await checked(running, database, archive=archive)).unverifiable is not None


async def test_a_build_begun_short_is_not_gone_on_with(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await tell(log, list(walks(1, 40)))
    await archived(archive, running)
    await age(log)
    await tell(log, list(walks(41, 60)))
    await built(log, database, TRADES)
    work: asyncio.Task[None] | None = None

    def interrupt(what: str, done: int, total: int) -> None:
        if done >= 30:  # of the 60 that are left
            assert work is not None
            work.cancel()

    work = asyncio.create_task(rebuilt(running, database, shorten=True, chunk=10, watch=interrupt))
    with pytest.raises(asyncio.CancelledError):
        await work
    await rebuilt(running, database, resume=True, archive=archive)
    assert len((await contents(database, TRADES))["trade_event"]) == 100


async def test_the_archive_of_another_log_is_refused(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await tell(log, list(walks(1, 10)))
    await archived(archive, running)
    await empty(log)
    await tell(log, list(walks(1, 10)))
    with pytest.raises(AnotherLogError, match="they must not be mixed"):
        await rebuilt(running, database, archive=archive, cold=True)
    await age(log)
    await tell(log, list(walks(11, 5)))
    with pytest.raises(AnotherLogError):
        await rebuilt(running, database, archive=archive)


def test_a_front_that_began_to_move_is_not_passed_over() -> None:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    alone, cold = {"RAW": History(1, None)}, {"RAW": History(1, "archive")}
    check_front(alone, {"RAW": Extent(created, 1, 9)})
    check_front(cold, {"RAW": Extent(created, 5, 9)})
    with pytest.raises(RebuildError, match="an age limit began to remove events of RAW while they were read"):
        check_front(alone, {"RAW": Extent(created, 5, 9)})


class Signals(EventCounts):
    """Counts the events of one stream."""

    reads = (SIGNALS,)  # type: ignore[assignment]


async def test_the_past_reaches_into_the_archive(
    log: Connection, running: Addresses, database: str, archive: str
) -> None:
    await tell(log, list(walks(1, 40)))
    await archived(archive, running)
    await age(log)

    async def count(schema: str, until: Any) -> int:
        await build_past(running.nats_url, database, codec(), (Signals(),), schema, until, archive=archive)
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
    with pytest.raises(RebuildError, match="--schema then is a word of SQL"):
        await count("then", None)
