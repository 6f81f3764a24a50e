"""SQL over archived and live events together, and the days that an age limit is about to remove."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateways.embedded import Addresses
from streams.archive.errors import AnotherLogError, QueryError
from streams.archive.export import export_stream
from streams.archive.query import Session, session
from streams.archive.status import Coverage, coverage, write_metrics
from streams.archive.store import Archive
from streams.connection import Connection
from streams.topology import EXECUTIONS, RAW, SIGNALS, Stream
from tests.conftest import empty
from tests.streams.archiving import DAY, at, live_only, payload, put, spread
from tests.streams.object_store import object_store

NAMES = (RAW.name, SIGNALS.name)


@asynccontextmanager
async def filled(place: str, url: str, log: Connection) -> AsyncIterator[Archive]:
    """RAW with two archived days of 30 events and a third in the log; SIGNALS with one, not archived."""
    archive = Archive(place)
    await put(log, RAW, spread([1, 2, 3], 30))
    await put(log, SIGNALS, [payload(at(3), 1, note='"quoted" \u2713', big=2**70), b"\xff no event"])
    await export_stream(archive, url, RAW, now_ns=at(3, 3600))
    yield archive


def rows(opened: Session, sql: str) -> list[tuple[Any, ...]]:
    _, batches = opened.rows(sql)
    return [row for batch in batches for row in batch]


@pytest.fixture(params=["a folder", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The location of an archive: a folder, memory, or a local S3 server."""
    if request.param == "a folder":
        yield str(tmp_path / "it's here")
    elif request.param == "memory":
        yield "memory:///"
    else:
        with object_store() as store:
            for name, value in store.settings.items():
                monkeypatch.setenv(name, value)
            yield "s3://bucket/some/prefix"
            assert set(store.requests) >= {"PUT", "GET"}
            assert all(key.startswith("/bucket/some/prefix/RAW/") for key in store.objects)


async def test_archived_and_live_events_are_one_view(running: Addresses, log: Connection, place: str) -> None:
    async with filled(place, running.nats_url, log) as archive, session(archive, running.nats_url, NAMES) as opened:
        assert rows(opened, "SELECT count(*), count(DISTINCT sequence), min(sequence), max(sequence) FROM raw") == [
            (90, 90, 1, 90)
        ]
        whole = await live_only(running.nats_url, "RAW")
        stored = rows(opened, "SELECT sequence, subject, payload FROM raw ORDER BY sequence")
        assert stored == [
            (number, subject.decode(), one)
            for number, subject, one in zip(whole.sequences, whole.subjects, whole.payloads, strict=True)
        ]
        by_day = rows(opened, "SELECT time::DATE::VARCHAR, count(*) FROM raw GROUP BY 1 ORDER BY 1")
        assert by_day == [("2026-11-01", 30), ("2026-11-02", 30), ("2026-11-03", 30)]
        twice, _ = opened.rows("SELECT a.id, b.id, 1 AS id_2, a.id FROM raw a JOIN raw b USING (sequence)")
        assert twice == ["id", "id_3", "id_2", "id_4"]
        columns, _ = opened.rows("SELECT * FROM raw")
        assert columns == [
            *("sequence", "index", "subject", "time", "type", "id", "source", "correlation"),
            *("causation", "data", "payload"),
        ]
        assert opened.lost == []


async def test_threads_read_at_their_own_positions(running: Addresses, log: Connection) -> None:
    """Several files with several row groups each in an object store, read by several threads of DuckDB."""
    archive = Archive("memory:///")
    await put(log, RAW, spread([1, 2], 6000))
    await export_stream(archive, running.nats_url, RAW, now_ns=at(3, 3600), file_events=3000)
    sql = (
        "SELECT count(*), sum(octet_length(payload)), sum((data->>'$.number')::INT - sequence), max(sequence) FROM raw"
    )
    async with session(archive, running.nats_url, NAMES, sql) as opened:
        first = rows(opened, sql)
        assert first[0][0] == 12_000
        for _ in range(20):
            opened.rows("SELECT * FROM raw")  # its rows are never read
            assert rows(opened, sql) == first


async def test_json_and_times_in_sql(running: Addresses, log: Connection, tmp_path: Path) -> None:
    async with (
        filled(str(tmp_path), running.nats_url, log) as archive,
        session(archive, running.nats_url, NAMES) as opened,
    ):
        found = rows(opened, "SELECT count(*) FROM raw WHERE data->>'$.subscriber_id' = 'sub-3'")
        numbers = rows(opened, "SELECT (data->>'$.number')::BIGINT, data->>'$.subscriber_id' FROM raw")
        assert found == [(sum(name == "sub-3" for _, name in numbers),)]
        assert all(name == f"sub-{number % 7}" for number, name in numbers)
        assert rows(opened, "SELECT sum((data->>'$.number')::BIGINT) * 10000000000 FROM raw") == [
            (sum(number for number, _ in numbers) * 10**10,)
        ]
        note = rows(opened, "SELECT time, data->>'$.note', data->>'$.big' FROM signals WHERE sequence = 1")
        assert note == [(datetime(2026, 11, 3, tzinfo=UTC), '"quoted" \u2713', str(2**70))]
        assert rows(opened, "SELECT data, payload FROM signals WHERE sequence = 2") == [(None, b"\xff no event")]
        assert rows(opened, "SELECT date_trunc('hour', time) FROM raw WHERE sequence = 1")[0][0].tzinfo is not None
        both = "SELECT count(*) FROM raw JOIN signals ON raw.time::DATE = signals.time::DATE"
        assert rows(opened, both) == [(30,)]


async def test_only_streams_that_a_query_names_are_loaded(running: Addresses, log: Connection, tmp_path: Path) -> None:
    activities: list[str] = []
    async with filled(str(tmp_path), running.nats_url, log) as archive:
        sql = "WITH picked AS (SELECT * FROM SIGNALS) SELECT count(*) FROM picked"
        async with session(
            archive, running.nats_url, NAMES, sql, progress=lambda activity, done, total: activities.append(activity)
        ) as opened:
            assert rows(opened, sql) == [(2,)]
            assert rows(opened, f"EXPLAIN {sql}")
            with pytest.raises(QueryError, match="raw does not exist"):
                opened.rows("SELECT * FROM raw")
    assert {activity.partition(":")[0] for activity in activities} == {"SIGNALS"}


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT 1; SELECT 2", "expected one SELECT, got SELECT, SELECT"),
        ("", "got nothing"),
        ("DROP VIEW raw", "got DROP; the archive is read-only"),
        ("COPY raw TO 'x.csv'", "got COPY"),
        ("ATTACH 'x.db'", "got ATTACH"),
        ("SET threads = 1", "got SET"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM '/etc/passwd'", "failed"),
        ("SELECT nothing FROM raw", '"nothing" not found'),
        ("SELECT at FROM raw", 'write "at" in double quotes'),
        ("SELECT count(*) FROM fills", "fills does not exist"),
        ("SELECT (data->>'$.subscriber_id')::INT FROM raw", "Could not convert string"),
    ],
)
async def test_invalid_queries_are_explained(
    running: Addresses, log: Connection, tmp_path: Path, sql: str, why: str
) -> None:
    await put(log, RAW, [payload(at(1), 1)])
    with pytest.raises(QueryError) as error:
        async with session(Archive(str(tmp_path)), running.nats_url, NAMES, sql) as opened:
            rows(opened, sql)
    assert why in str(error.value)
    assert not (tmp_path / "x.csv").exists()


async def test_another_log_is_refused(running: Addresses, log: Connection, tmp_path: Path) -> None:
    async with filled(str(tmp_path), running.nats_url, log) as archive:
        await empty(log)
        with pytest.raises(AnotherLogError):
            async with session(archive, running.nats_url, NAMES):
                pass
        with pytest.raises(AnotherLogError, match="they must not be mixed"):
            await coverage(archive, running.nats_url, "RAW", now_ns=at(3))


async def covered(archive: Archive, url: str, stream: Stream, now_ns: int) -> Coverage:
    return await coverage(archive, url, stream.name, now_ns=now_ns)


async def test_days_at_risk(running: Addresses, log: Connection, tmp_path: Path) -> None:
    """Age limits count from the time of storage, which is now; the event's own time only determines its day."""
    archive, url = Archive(str(tmp_path / "archive")), running.nats_url
    stored = int(datetime.now(UTC).timestamp() * 1e9)
    await put(log, RAW, spread([1, 2], 10))
    await put(log, EXECUTIONS, spread([1], 10))
    fresh = await covered(archive, url, RAW, stored)
    assert (fresh.archived_to, fresh.oldest, fresh.newest, fresh.waiting) == (0, 1, 20, 20)
    assert (fresh.keeps_days, fresh.days_at_risk, fresh.at_risk) == (90, [], False)
    assert (await covered(archive, url, RAW, stored + 83 * DAY - 3600 * 10**9)).days_at_risk == []
    today = datetime.fromtimestamp(stored / 1e9, UTC).date().isoformat()
    risky = await covered(archive, url, RAW, stored + 84 * DAY)
    assert (len(risky.days_at_risk), risky.days_at_risk[0], risky.at_risk) == (2, today, True)
    # A stream that is kept forever is never at risk.
    kept = await covered(archive, url, EXECUTIONS, stored + 9999 * DAY)
    assert (kept.keeps_days, kept.days_at_risk, kept.at_risk) == (0, [], False)
    await export_stream(archive, url, RAW, now_ns=at(3, 3600))
    safe = await covered(archive, url, RAW, stored + 84 * DAY)
    assert (safe.archived_to, safe.archived_to_day, safe.events, safe.files) == (20, "2026-11-02", 20, 2)
    assert (safe.waiting, safe.waiting_since, safe.days_at_risk, safe.at_risk) == (0, "", [], False)
    assert safe.bytes == sum(path.stat().st_size for path in (tmp_path / "archive").rglob("*.parquet"))
    file = tmp_path / "vibe.prom"
    write_metrics([risky, kept], file)
    lines = file.read_text().splitlines()
    assert 'vibe_archive_days_at_risk{stream="RAW"} 2.0' in lines
    assert 'vibe_archive_days_at_risk{stream="EXECUTIONS"} 0.0' in lines
    assert 'vibe_archive_waiting_events{stream="RAW"} 20.0' in lines


async def test_lost_events_are_reported_and_in_no_view(running: Addresses, log: Connection, tmp_path: Path) -> None:
    archive, url = Archive(str(tmp_path)), running.nats_url
    config = {**Stream("ARCHIVED", ("archived.>",), 90 * DAY, "").config(1), "deny_purge": False}
    thin = Stream("ARCHIVED", ("archived.>",), 90 * DAY, "")
    await log.api("STREAM.CREATE.ARCHIVED", config)
    await put(log, thin, spread([1, 2, 3], 10))
    await export_stream(archive, url, thin, now_ns=at(2, 3600))
    await log.api("STREAM.PURGE.ARCHIVED", {"seq": 13})
    lost = await covered(archive, url, thin, at(4))
    assert (lost.lost, lost.at_risk, lost.waiting) == ([(11, 12)], True, 18)
    async with session(archive, url, ("ARCHIVED",)) as opened:
        assert opened.lost == [("ARCHIVED", 11, 12)]
        assert rows(opened, "SELECT count(*), max(sequence) FROM archived") == [(28, 30)]
    await export_stream(archive, url, thin, now_ns=at(4, 3600))
    recorded = await covered(archive, url, thin, at(4))
    assert (recorded.lost, recorded.at_risk, recorded.waiting) == ([(11, 12)], False, 0)
    async with session(archive, url, ("ARCHIVED",)) as opened:
        assert opened.lost == [("ARCHIVED", 11, 12)]
        assert rows(opened, "SELECT count(*), max(sequence) FROM archived") == [(28, 30)]
