"""Archiving closed days against a real server: nothing missing, nothing twice, whatever interrupts it."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gateways.embedded import Addresses
from streams.archive.archived_replay import ArchivedReplay, replay
from streams.archive.arrow_rows import COLUMNS
from streams.archive.errors import (
    AnotherLogError,
    ArchiveError,
    BrokenChainError,
    DamagedError,
    OverlappedError,
    OvertakenError,
)
from streams.archive.export import Archived, archive_stream
from streams.archive.manifest import Chain, chain
from streams.archive.store import Archive
from streams.bulk_replay import Replay
from streams.connection import Connection
from streams.errors import DataLossError, TopologyError
from streams.reader import Stored
from streams.topology import RAW, SIGNALS, Stream
from tests.conftest import empty
from tests.streams.archiving import at, changed, cold_and_hot, day, of_the_log, payload, put, spread

NOON = 12 * 3600
THIN = Stream("ARCHIVED", ("archived.>",), 0, "a stream whose front and middle a test may remove")


class Cold:
    """One archive of one log."""

    def __init__(self, folder: Path, url: str, log: Connection) -> None:
        self.folder = folder
        self.url = url
        self.log = log
        self.archive = Archive(str(folder))

    async def run(self, stream: Stream = RAW, *, today: int, seconds: float = NOON, **options: Any) -> Archived:
        return await archive_stream(self.archive, self.url, stream, now_ns=at(today, seconds), **options)

    async def chain(self, stream: Stream = RAW) -> Chain:
        return await chain(self.archive, stream.name)

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in sorted(self.folder.rglob("*.*"))}


@pytest.fixture
def cold(tmp_path: Path, running: Addresses, log: Connection) -> Cold:
    return Cold(tmp_path / "archive", running.nats_url, log)


@pytest.fixture
async def thin(log: Connection) -> Stream:
    """A stream that allows what those of the topology forbid."""
    config = {**THIN.config(1), "deny_delete": False, "deny_purge": False}
    await log.api(f"STREAM.CREATE.{THIN.name}", config)
    return THIN


async def drop_before(log: Connection, stream: Stream, sequence: int) -> None:
    """What an age limit does."""
    await log.api(f"STREAM.PURGE.{stream.name}", {"seq": sequence})


async def test_closed_days_become_files_and_the_open_day_stays(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1, 2, 4, 5], 30))
    done = await cold.run(today=5)
    assert (done.files, done.events, done.last, done.day, done.lost) == (3, 90, 90, day(4), None)
    links = (await cold.chain()).links
    assert [(one.day, one.first, one.last, one.count) for one in links] == [
        (day(1), 1, 30, 30),
        (day(2), 31, 60, 30),
        (day(4), 61, 90, 30),
    ]
    assert set(cold.files()) == {
        *(f"RAW/{one.day}/{one.first:012d}-{one.last:012d}.parquet" for one in links),
        *(f"RAW/manifests/{one.first:012d}.json" for one in links),
    }
    assert done.bytes == sum(one.bytes for one in links) == sum(len(cold.files()[one.file]) for one in links)


async def test_a_second_run_does_nothing_and_the_next_day_follows(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1, 2], 20))
    await cold.run(today=2)
    before = cold.files()
    again = await cold.run(today=2)
    assert (again.files, again.events, again.last) == (0, 0, 20)
    assert cold.files() == before
    await put(cold.log, RAW, spread([2, 3], 20))
    assert (await cold.run(today=3)).events == 40
    assert [(one.first, one.last) for one in (await cold.chain()).links] == [(1, 20), (21, 60)]
    assert {name: cold.files()[name] for name in before} == before


async def test_a_day_is_closed_when_what_was_under_way_has_arrived(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1], 10))
    assert (await cold.run(today=2, seconds=299)).events == 0
    assert (await cold.run(today=2, seconds=300)).events == 10


async def test_until_is_the_last_day(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1, 2, 3], 10))
    assert (await cold.run(today=5, until=day(2))).last == 20
    assert (await cold.run(today=5, until=day(1))).events == 0
    assert (await cold.run(today=5)).last == 30


async def test_a_cut_is_a_sequence_whatever_the_order_of_times(cold: Cold) -> None:
    late = [payload(at(1, 5), 1), payload(at(2, 1), 2), payload(at(1, 86_399), 3), payload(at(2, 2), 4)]
    await put(cold.log, RAW, [*late, payload(at(3, 1), 5)])
    await cold.run(today=3)
    assert [(one.day, one.first, one.last) for one in (await cold.chain()).links] == [(day(1), 1, 3), (day(2), 4, 4)]
    # Older than what is archived: the days of a chain never go back.
    await put(cold.log, RAW, [payload(at(1, 7), 6), payload(at(4), 7)])
    await cold.run(today=4)
    assert [(one.day, one.first, one.last) for one in (await cold.chain()).links[2:]] == [(day(2), 5, 6)]


async def test_one_clock_far_ahead_holds_nothing_up(cold: Cold) -> None:
    await put(cold.log, RAW, [payload(at(900), 1), *spread([1, 2], 10)])
    done = await cold.run(today=2)
    assert (done.day, done.last) == (day(1), 11)
    await put(cold.log, RAW, [payload(at(900), 2), *spread([3], 10)])
    assert (await cold.run(today=4)).last == 32


async def test_big_days_are_split_and_read_as_one(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1, 2, 3], 2500))
    done = await cold.run(today=3, file_events=1000)
    assert [(one.day, one.count) for one in (await cold.chain()).links] == [
        *((day(1), count) for count in (1000, 1000, 500)),
        *((day(2), count) for count in (1000, 1000, 500)),
    ]
    assert done.files == 6
    assert await cold_and_hot(cold.archive, cold.url, "RAW") == await of_the_log(cold.url, "RAW")


@pytest.mark.parametrize("place", ["folder", "memory:///", "file://"])
async def test_a_replay_goes_over_from_the_archive_to_the_log(cold: Cold, place: str) -> None:
    if place != "folder":
        cold.archive = Archive(place + str(cold.folder) if place == "file://" else place)
    strange = [payload(at(1), 0), b"", b"\xff", b"{}", payload(at(1, 1), 1)]
    await put(cold.log, RAW, [*strange, *spread([1, 2, 3], 700)])
    await cold.run(today=3, file_events=600)
    whole = await of_the_log(cold.url, "RAW")
    reader = ArchivedReplay(cold.archive, cold.url, "RAW", block=97)
    blocks = [block async for block in reader.blocks()]
    assert [sequence for block in blocks for sequence in block.sequences] == whole.sequences
    assert [one for block in blocks for one in block.payloads] == whole.payloads
    assert [one for block in blocks for one in block.subjects] == whole.subjects
    assert (reader.total, reader.done, reader.cold, reader.position) == (2105, 2105, 1405, 2105)
    lists = [batch async for batch in replay(cold.archive, cold.url, "RAW", first=1400, until=1410)]
    flat = [stored for batch in lists for stored in batch]
    assert flat == [Stored(n, whole.subjects[n - 1].decode(), whole.payloads[n - 1]) for n in range(1400, 1411)]


async def test_a_replay_from_anywhere_to_anywhere(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1, 2, 3], 20))
    await cold.run(today=3, file_events=15)  # 1-15, 16-20, 21-35, 36-40, then the log
    whole = await of_the_log(cold.url, "RAW")
    for first in (1, 2, 15, 16, 21, 40, 41, 60, 61):
        for until in (None, 1, 15, 16, 39, 40, 41, 60, 99):
            read = await cold_and_hot(cold.archive, cold.url, "RAW", first=first, until=until)
            assert read.sequences == list(range(first, min(until or 60, 60) + 1)), (first, until)
            assert read.payloads == whole.payloads[first - 1 : until or 60]


async def test_without_an_archive_it_is_the_log_alone(cold: Cold) -> None:
    assert (await cold_and_hot(cold.archive, cold.url, "RAW")).sequences == []
    assert (await cold.run(today=1)).last == 0
    await put(cold.log, RAW, spread([1], 5))
    assert await cold_and_hot(cold.archive, cold.url, "RAW") == await of_the_log(cold.url, "RAW")
    with pytest.raises(TopologyError, match="does not exist"):
        await cold.run(THIN, today=1)


async def test_without_an_archive_the_history_begins_where_the_log_does(cold: Cold, thin: Stream) -> None:
    await put(cold.log, thin, spread([1], 50))
    await drop_before(cold.log, thin, 20)
    assert (await cold_and_hot(cold.archive, cold.url, thin.name)).sequences == list(range(20, 51))
    assert (await cold_and_hot(cold.archive, cold.url, thin.name, first=3, until=22)).sequences == [20, 21, 22]


KILLED = """
import asyncio, os, signal, sys
from streams.archive.arrow_rows import COLUMNS
from streams.archive.store import Archive
from streams.archive.export import _Run, archive_stream
from streams.bulk_replay import Replay
from streams.topology import RAW

async def killed(self, manifest):
    if len(self._written) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    await add(self, manifest)

add, _Run._add = _Run._add, killed
asyncio.run(archive_stream(Archive(sys.argv[1]), sys.argv[2], RAW, now_ns=int(sys.argv[3])))
"""


async def test_kill_9_between_a_file_and_its_manifest_is_repaired(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1, 2, 3, 4], 50))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(cold.folder), cold.url, str(at(4, NOON))
    )
    assert await process.wait() == -signal.SIGKILL
    left = await cold.chain()
    assert (left.last, len(left.strays)) == (50, 1)
    assert (await cold_and_hot(cold.archive, cold.url, "RAW")) == await of_the_log(cold.url, "RAW")
    before = cold.files()
    done = await cold.run(today=4)
    assert (done.files, done.last) == (2, 150)
    assert not (await cold.chain()).strays
    assert {name: cold.files()[name] for name in before} == before  # the file was whole, so it was kept
    assert (await cold_and_hot(cold.archive, cold.url, "RAW")) == await of_the_log(cold.url, "RAW")


async def test_a_cancelled_run_and_replay_leave_nothing_open(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1, 2], 5000))
    for number in range(12):
        running = asyncio.create_task(cold.run(today=3, file_events=2000))
        await asyncio.sleep(0.004 * number)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await cold.chain()
    await cold.run(today=3, file_events=2000)
    whole = await of_the_log(cold.url, "RAW")
    for number in range(12):
        reading = asyncio.create_task(cold_and_hot(cold.archive, cold.url, "RAW", block=50))
        await asyncio.sleep(0.002 * number)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert await cold_and_hot(cold.archive, cold.url, "RAW") == whole


async def test_a_torn_file_without_a_manifest_is_written_anew(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1, 2], 50))
    torn = cold.folder / "RAW" / day(1) / f"{1:012d}-{50:012d}.parquet"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"PAR1 torn")
    assert (await cold.run(today=2)).last == 50
    assert (await cold_and_hot(cold.archive, cold.url, "RAW")) == await of_the_log(cold.url, "RAW")


async def test_files_that_the_chain_has_passed_are_removed_and_others_are_not(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1, 2], 50))
    passed = cold.folder / "RAW" / day(1) / f"{1:012d}-{30:012d}.parquet"
    ahead = cold.folder / "RAW" / day(2) / f"{51:012d}-{60:012d}.parquet"
    foreign = cold.folder / "RAW" / "notes.parquet"
    torn, being_written = (passed.with_name(f"{passed.name}#{number}") for number in (1, 2))
    for path in (passed, ahead, foreign, torn, being_written):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left")
    os.utime(torn, (0, 0))
    await cold.run(today=2)
    assert (passed.exists(), ahead.exists(), foreign.exists()) == (False, True, True)
    assert (torn.exists(), being_written.exists()) == (False, True)


async def test_two_runs_at_once_make_one_chain(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1, 2, 3], 400))
    await asyncio.gather(*(cold.run(today=3) for _ in range(2)))
    assert (await cold.chain()).last == 800
    # Cut differently, only one of them can add its link; the other stops.
    await put(cold.log, RAW, spread([4], 400))
    done = await asyncio.gather(
        cold.run(today=4, file_events=100), cold.run(today=4, file_events=150), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in done) == ["Archived", "OverlappedError"]
    assert issubclass(OverlappedError, ArchiveError)
    await cold.run(today=4)
    assert (await cold.chain()).last == 1200
    assert not (await cold.chain()).strays
    assert (await cold_and_hot(cold.archive, cold.url, "RAW")) == await of_the_log(cold.url, "RAW")


async def archived(cold: Cold) -> list[Path]:
    await put(cold.log, RAW, spread([1, 2, 3, 4], 400))
    await cold.run(today=4)
    return [cold.folder / one.file for one in (await cold.chain()).links]


async def test_one_changed_byte_is_found(cold: Cold) -> None:
    path = (await archived(cold))[1]
    good = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    places = [
        (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 3
        for chunk in chunks
        if chunk.path_in_schema in COLUMNS
    ]
    assert len(places) == 5
    for place in places:
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(DamagedError, match=day(2)):
            await cold_and_hot(cold.archive, cold.url, "RAW")
    path.write_bytes(good)
    assert (await cold_and_hot(cold.archive, cold.url, "RAW")) == await of_the_log(cold.url, "RAW")


async def test_another_files_content_is_found_by_its_digest(cold: Cold) -> None:
    """Valid Parquet with the right sequences, but not what the manifest says."""
    await archived(cold)
    link = (await cold.chain()).links[1]
    elsewhere = Archive(str(cold.folder.parent / "other"))
    await empty(cold.log)
    await put(cold.log, RAW, spread([1, 2, 3, 4], 400))
    await archive_stream(elsewhere, cold.url, RAW, now_ns=at(4, NOON))
    swapped = await elsewhere.read(link.file)
    manifest = cold.folder / link.name
    manifest.write_text(manifest.read_text().replace(f'"bytes": {link.bytes}', f'"bytes": {len(swapped)}'))
    (cold.folder / link.file).write_bytes(swapped)
    created = (await chain(elsewhere, "RAW")).links[0].created
    for path in (cold.folder / "RAW/manifests").iterdir():
        path.write_text(path.read_text().replace(link.created, created))
    with pytest.raises(DamagedError, match="its digest is sha256:"):
        await cold_and_hot(cold.archive, cold.url, "RAW")


async def test_missing_files_and_manifests_break_the_chain(cold: Cold) -> None:
    paths = await archived(cold)
    moved = paths[1].with_suffix(".away")
    paths[1].rename(moved)
    with pytest.raises(BrokenChainError, match="is missing"):
        await cold.run(today=4)
    moved.rename(paths[1])
    manifest = cold.folder / (await cold.chain()).links[1].name
    text = manifest.read_text()
    manifest.unlink()
    with pytest.raises(BrokenChainError, match="401 is what follows"):
        await cold_and_hot(cold.archive, cold.url, "RAW")
    manifest.write_text(text[:-5])
    with pytest.raises(BrokenChainError, match="is not a manifest"):
        await cold.run(today=4)
    manifest.write_text(text)
    assert (await cold.run(today=4)).last == 1200


async def test_a_new_log_is_not_mixed_with_the_old_one(cold: Cold) -> None:
    await put(cold.log, RAW, spread([1, 2], 20))
    await cold.run(today=2)
    before = cold.files()
    await empty(cold.log)
    await put(cold.log, RAW, spread([1, 2, 3], 20))
    with pytest.raises(AnotherLogError, match="VIBE_ARCHIVE_URL to an empty place"):
        await cold.run(today=3)
    with pytest.raises(AnotherLogError):
        await cold_and_hot(cold.archive, cold.url, "RAW")
    assert cold.files() == before
    assert (await cold.run(SIGNALS, today=3)).last == 0  # another stream, nothing archived of it


async def test_what_an_age_limit_took_is_recorded_and_named(cold: Cold, thin: Stream) -> None:
    await put(cold.log, thin, spread([1, 2, 3, 4], 10))
    await drop_before(cold.log, thin, 4)
    assert (await cold.run(thin, today=2)).lost is None  # before anything was archived: the history begins there
    await drop_before(cold.log, thin, 16)
    done = await cold.run(thin, today=4)
    assert (done.lost, done.files, done.last) == ((11, 15), 2, 30)
    links = (await cold.chain(thin)).links
    assert [(one.first, one.last, one.lost) for one in links] == [(4, 10, None), (16, 20, (11, 15)), (21, 30, None)]
    with pytest.raises(DataLossError, match=r"sequences 11\.\.15"):
        await cold_and_hot(cold.archive, cold.url, thin.name)
    read = await cold_and_hot(cold.archive, cold.url, thin.name, across=True)
    assert read.sequences == [*range(4, 11), *range(16, 41)]
    assert (await cold_and_hot(cold.archive, cold.url, thin.name, first=16)).sequences == list(range(16, 41))
    for size in (1, 3, 7):  # in pieces that begin and end inside of what was lost
        pieces = [
            await cold_and_hot(cold.archive, cold.url, thin.name, first=first, until=first + size - 1, across=True)
            for first in range(1, 41, size)
        ]
        assert [sequence for piece in pieces for sequence in piece.sequences] == read.sequences
    await drop_before(cold.log, thin, 33)
    with pytest.raises(DataLossError, match=r"sequences 31\.\.32"):
        await cold_and_hot(cold.archive, cold.url, thin.name, across=True)


async def test_a_front_that_moves_while_reading_is_no_archive_with_a_hole(cold: Cold, thin: Stream) -> None:
    await put(cold.log, thin, spread([1, 2, 3], 400))

    async def move(self: Any, archived: Any) -> None:
        await add(self, archived)
        await drop_before(cold.log, thin, 600)

    from streams.archive import export

    add = export._Run._add
    with (
        changed(export._Run, "_add", move),
        changed(export, "Replay", slow(Replay)),
        pytest.raises(OvertakenError, match=r"sequences 401\.\.599"),
    ):
        await cold.run(thin, today=3)
    assert (await cold.chain(thin)).last == 400
    assert (await cold.run(thin, today=3)).lost == (401, 599)


def slow(reader: Any) -> Any:
    """Blocks of 400, each asked for only when the one before was worked off."""

    class Slow(reader):  # type: ignore[misc]
        def __init__(self, url: str, stream: str, *, after: int, until: int) -> None:
            self._parts = (url, stream)
            self.total, self.done = until - after, 0
            self._range = (after, until)

        async def blocks(self) -> Any:
            after, until = self._range
            while after < until:
                one = reader(*self._parts, after=after, until=min(after + 400, until))
                async for block in one.blocks():
                    yield block
                    self.done += len(block.sequences)
                after = max(one.position, after + 400)

    return Slow


async def test_a_hole_in_a_stream_is_data_loss(cold: Cold, thin: Stream) -> None:
    await put(cold.log, thin, spread([1, 2, 3], 10))
    await cold.log.api(f"STREAM.MSG.DELETE.{thin.name}", {"seq": 15})
    with pytest.raises(DataLossError, match=r"sequences 15\.\.15"):
        await cold.run(thin, today=3)
    assert (await cold.chain(thin)).last == 0


async def test_a_log_that_ends_before_its_archive_is_data_loss(cold: Cold, thin: Stream) -> None:
    await put(cold.log, thin, spread([1, 2], 10))
    await cold.run(thin, today=2)
    link = (await cold.chain(thin)).links[0]
    await cold.log.api(f"STREAM.DELETE.{thin.name}")
    await cold.log.api(f"STREAM.CREATE.{thin.name}", thin.config(1))
    created = (await cold.log.api(f"STREAM.INFO.{thin.name}"))["created"]
    manifest = cold.folder / link.name
    manifest.write_text(manifest.read_text().replace(link.created, created))  # as a restored log has it
    for work in (cold.run(thin, today=2), cold_and_hot(cold.archive, cold.url, thin.name)):
        with pytest.raises(DataLossError, match=r"sequences 1\.\.10"):
            await work


async def test_places_that_cannot_be_used_say_so(cold: Cold, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(ArchiveError, match=r"bogus://x: cannot be opened.*VIBE_ARCHIVE_URL"):
        Archive("bogus://x")
    with pytest.raises(ArchiveError, match="check VIBE_ARCHIVE_URL"):
        Archive(str(file / "below"))
