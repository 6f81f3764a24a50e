"""Exports of closed days and replays of them: no event is missing or doubled, whatever interrupts a run."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from gateways.embedded import Addresses
from streams.archive.archived_replay import ArchivedReplay, replay
from streams.archive.errors import (
    ArchiveError,
    OverlappedError,
)
from streams.archive.store import Archive
from streams.connection import Connection
from streams.errors import TopologyError
from streams.reader import Stored
from streams.topology import RAW, Stream
from tests.streams.archiving import (
    NOON,
    REMOVABLE,
    ArchivedLog,
    archived_and_live,
    at,
    create_removable,
    day,
    drop_before,
    live_only,
    payload,
    put,
    spread,
)


@pytest.fixture
def case(tmp_path: Path, running: Addresses, log: Connection) -> ArchivedLog:
    return ArchivedLog(tmp_path / "archive", running.nats_url, log)


@pytest.fixture
async def thin(log: Connection) -> Stream:
    return await create_removable(log)


async def test_closed_days_become_files_and_the_open_day_stays(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1, 2, 4, 5], 30))
    done = await case.run(today=5)
    assert (done.files, done.events, done.last, done.day, done.lost) == (3, 90, 90, day(4), None)
    links = (await case.chain()).links
    assert [(one.day, one.first, one.last, one.count) for one in links] == [
        (day(1), 1, 30, 30),
        (day(2), 31, 60, 30),
        (day(4), 61, 90, 30),
    ]
    assert set(case.files()) == {
        *(f"RAW/{one.day}/{one.first:012d}-{one.last:012d}.parquet" for one in links),
        *(f"RAW/manifests/{one.first:012d}.json" for one in links),
    }
    assert done.bytes == sum(one.bytes for one in links) == sum(len(case.files()[one.file]) for one in links)


async def test_a_second_run_exports_nothing_and_a_later_one_the_next_day(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1, 2], 20))
    await case.run(today=2)
    before = case.files()
    again = await case.run(today=2)
    assert (again.files, again.events, again.last) == (0, 0, 20)
    assert case.files() == before
    await put(case.log, RAW, spread([2, 3], 20))
    assert (await case.run(today=3)).events == 40
    assert [(one.first, one.last) for one in (await case.chain()).links] == [(1, 20), (21, 60)]
    assert {name: case.files()[name] for name in before} == before


async def test_a_day_is_closed_some_minutes_after_midnight(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1], 10))
    assert (await case.run(today=2, seconds=299)).events == 0
    assert (await case.run(today=2, seconds=300)).events == 10


async def test_until_is_the_last_exported_day(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1, 2, 3], 10))
    assert (await case.run(today=5, until=day(2))).last == 20
    assert (await case.run(today=5, until=day(1))).events == 0
    assert (await case.run(today=5)).last == 30


async def test_a_day_boundary_is_a_sequence_in_any_order_of_times(case: ArchivedLog) -> None:
    late = [payload(at(1, 5), 1), payload(at(2, 1), 2), payload(at(1, 86_399), 3), payload(at(2, 2), 4)]
    await put(case.log, RAW, [*late, payload(at(3, 1), 5)])
    await case.run(today=3)
    assert [(one.day, one.first, one.last) for one in (await case.chain()).links] == [(day(1), 1, 3), (day(2), 4, 4)]
    # Events older than the archive: the days of a chain never decrease.
    await put(case.log, RAW, [payload(at(1, 7), 6), payload(at(4), 7)])
    await case.run(today=4)
    assert [(one.day, one.first, one.last) for one in (await case.chain()).links[2:]] == [(day(2), 5, 6)]


async def test_one_clock_far_ahead_does_not_stop_the_export(case: ArchivedLog) -> None:
    await put(case.log, RAW, [payload(at(900), 1), *spread([1, 2], 10)])
    done = await case.run(today=2)
    assert (done.day, done.last) == (day(1), 11)
    await put(case.log, RAW, [payload(at(900), 2), *spread([3], 10)])
    assert (await case.run(today=4)).last == 32


async def test_large_days_are_split_into_files(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1, 2, 3], 2500))
    done = await case.run(today=3, file_events=1000)
    assert [(one.day, one.count) for one in (await case.chain()).links] == [
        *((day(1), count) for count in (1000, 1000, 500)),
        *((day(2), count) for count in (1000, 1000, 500)),
    ]
    assert done.files == 6
    assert await archived_and_live(case.archive, case.url, "RAW") == await live_only(case.url, "RAW")


@pytest.mark.parametrize("place", ["folder", "memory:///", "file://"])
async def test_a_replay_continues_from_the_archive_to_the_log(case: ArchivedLog, place: str) -> None:
    if place != "folder":
        case.archive = Archive(place + str(case.folder) if place == "file://" else place)
    strange = [payload(at(1), 0), b"", b"\xff", b"{}", payload(at(1, 1), 1)]
    await put(case.log, RAW, [*strange, *spread([1, 2, 3], 700)])
    await case.run(today=3, file_events=600)
    whole = await live_only(case.url, "RAW")
    reader = ArchivedReplay(case.archive, case.url, "RAW", block=97)
    blocks = [block async for block in reader.blocks()]
    assert [sequence for block in blocks for sequence in block.sequences] == whole.sequences
    assert [one for block in blocks for one in block.payloads] == whole.payloads
    assert [one for block in blocks for one in block.subjects] == whole.subjects
    assert (reader.total, reader.done, reader.archived, reader.position) == (2105, 2105, 1405, 2105)
    lists = [batch async for batch in replay(case.archive, case.url, "RAW", first=1400, until=1410)]
    flat = [stored for batch in lists for stored in batch]
    assert flat == [Stored(n, whole.subjects[n - 1].decode(), whole.payloads[n - 1]) for n in range(1400, 1411)]


async def test_a_replay_of_any_range(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1, 2, 3], 20))
    await case.run(today=3, file_events=15)  # 1-15, 16-20, 21-35, 36-40, then the log
    whole = await live_only(case.url, "RAW")
    for first in (1, 2, 15, 16, 21, 40, 41, 60, 61):
        for until in (None, 1, 15, 16, 39, 40, 41, 60, 99):
            read = await archived_and_live(case.archive, case.url, "RAW", first=first, until=until)
            assert read.sequences == list(range(first, min(until or 60, 60) + 1)), (first, until)
            assert read.payloads == whole.payloads[first - 1 : until or 60]


async def test_without_an_archive_a_replay_reads_the_log(case: ArchivedLog) -> None:
    assert (await archived_and_live(case.archive, case.url, "RAW")).sequences == []
    assert (await case.run(today=1)).last == 0
    await put(case.log, RAW, spread([1], 5))
    assert await archived_and_live(case.archive, case.url, "RAW") == await live_only(case.url, "RAW")
    with pytest.raises(TopologyError, match="does not exist"):
        await case.run(REMOVABLE, today=1)


async def test_without_an_archive_the_history_begins_with_the_log(case: ArchivedLog, thin: Stream) -> None:
    await put(case.log, thin, spread([1], 50))
    await drop_before(case.log, thin, 20)
    assert (await archived_and_live(case.archive, case.url, thin.name)).sequences == list(range(20, 51))
    assert (await archived_and_live(case.archive, case.url, thin.name, first=3, until=22)).sequences == [20, 21, 22]


KILLED = """
import asyncio, os, signal, sys
from streams.archive.arrow_rows import COLUMNS
from streams.archive.store import Archive
from streams.archive.export import _Run, export_stream
from streams.bulk_replay import Replay
from streams.topology import RAW

async def killed(self, manifest):
    if len(self._written) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    await add(self, manifest)

add, _Run._add = _Run._add, killed
asyncio.run(export_stream(Archive(sys.argv[1]), sys.argv[2], RAW, now_ns=int(sys.argv[3])))
"""


async def test_a_run_after_kill_9_between_a_file_and_its_manifest_repairs_it(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1, 2, 3, 4], 50))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(case.folder), case.url, str(at(4, NOON))
    )
    assert await process.wait() == -signal.SIGKILL
    left = await case.chain()
    assert (left.last, len(left.unlisted)) == (50, 1)
    assert (await archived_and_live(case.archive, case.url, "RAW")) == await live_only(case.url, "RAW")
    before = case.files()
    done = await case.run(today=4)
    assert (done.files, done.last) == (2, 150)
    assert not (await case.chain()).unlisted
    assert {name: case.files()[name] for name in before} == before  # the file was complete, so it was kept
    assert (await archived_and_live(case.archive, case.url, "RAW")) == await live_only(case.url, "RAW")


async def test_runs_and_replays_may_be_cancelled(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1, 2], 5000))
    for number in range(12):
        running = asyncio.create_task(case.run(today=3, file_events=2000))
        await asyncio.sleep(0.004 * number)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await case.chain()
    await case.run(today=3, file_events=2000)
    whole = await live_only(case.url, "RAW")
    for number in range(12):
        reading = asyncio.create_task(archived_and_live(case.archive, case.url, "RAW", block=50))
        await asyncio.sleep(0.002 * number)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert await archived_and_live(case.archive, case.url, "RAW") == whole


async def test_a_partial_file_without_a_manifest_is_replaced(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1, 2], 50))
    torn = case.folder / "RAW" / day(1) / f"{1:012d}-{50:012d}.parquet"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"PAR1 torn")
    assert (await case.run(today=2)).last == 50
    assert (await archived_and_live(case.archive, case.url, "RAW")) == await live_only(case.url, "RAW")


async def test_leftover_files_of_archived_events_are_removed_and_others_are_not(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1, 2], 50))
    passed = case.folder / "RAW" / day(1) / f"{1:012d}-{30:012d}.parquet"
    ahead = case.folder / "RAW" / day(2) / f"{51:012d}-{60:012d}.parquet"
    foreign = case.folder / "RAW" / "notes.parquet"
    torn, being_written = (passed.with_name(f"{passed.name}#{number}") for number in (1, 2))
    for path in (passed, ahead, foreign, torn, being_written):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left")
    os.utime(torn, (0, 0))
    await case.run(today=2)
    assert (passed.exists(), ahead.exists(), foreign.exists()) == (False, True, True)
    assert (torn.exists(), being_written.exists()) == (False, True)


async def test_two_concurrent_runs_make_one_chain(case: ArchivedLog) -> None:
    await put(case.log, RAW, spread([1, 2, 3], 400))
    await asyncio.gather(*(case.run(today=3) for _ in range(2)))
    assert (await case.chain()).last == 800
    # With different file sizes only one of them can add its link; the other stops.
    await put(case.log, RAW, spread([4], 400))
    done = await asyncio.gather(
        case.run(today=4, file_events=100), case.run(today=4, file_events=150), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in done) == ["ExportResult", "OverlappedError"]
    assert issubclass(OverlappedError, ArchiveError)
    await case.run(today=4)
    assert (await case.chain()).last == 1200
    assert not (await case.chain()).unlisted
    assert (await archived_and_live(case.archive, case.url, "RAW")) == await live_only(case.url, "RAW")
