"""Streams with a history over several days, for tests of the archive."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from streams.append import MAX_BATCH, Record, append
from streams.archive.archived_replay import ArchivedReplay
from streams.archive.export import ExportResult, export_stream
from streams.archive.manifest import Chain, load_chain
from streams.archive.store import Archive
from streams.bulk_replay import Block, replay
from streams.connection import Connection
from streams.envelope import COMMIT_TYPE, Envelope, nanoseconds, rfc3339
from streams.topology import RAW, Stream

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
FIRST_DAY = nanoseconds("2026-11-01T00:00:00Z")
NOON = 12 * 3600
REMOVABLE = Stream("ARCHIVED", ("archived.>",), 0, "a stream from which a test may remove events")
_numbers = itertools.count(1)


def at(day: int, seconds: float = 0) -> int:
    """A time in ns, by its day (1 = 2026-11-01) and seconds of that day."""
    return FIRST_DAY + (day - 1) * DAY + int(seconds * SECOND)


def day(number: int) -> str:
    return rfc3339(at(number))[:10]


def payload(time_ns: int, number: int = 0, **data: Any) -> bytes:
    """The stored bytes of an event; `number` makes it unique."""
    facts = {"number": number, "subscriber_id": f"sub-{number % 7}", **data}
    event = {"type": "tests.happened", "id": f"evt_{number}", "data": facts}
    envelope = Envelope(
        "1.0", COMMIT_TYPE, "tests", f"evt_{number}", rfc3339(time_ns), [event], f"grp_{number // 3}", "RAW:7.0"
    )
    return msgspec.json.encode(envelope)


def spread(days: Iterable[int], each: int) -> Iterator[bytes]:
    """Events of some days, `each` per day, evenly over the day."""
    for number in days:
        for part in range(each):
            yield payload(at(number, 86_400 * (part + 0.5) / each), next(_numbers))


async def put(connection: Connection, stream: Stream, payloads: Iterable[bytes]) -> int:
    """Append to a stream, on eight subjects; returns the number of messages."""
    prefix = stream.subjects[0].partition(".")[0]
    records = [Record(f"{prefix}.{number % 8}.x", one) for number, one in enumerate(payloads)]
    for start in range(0, len(records), MAX_BATCH):
        await append(connection, records[start : start + MAX_BATCH])
    return len(records)


class ArchivedLog:
    """A log and its archive in a folder."""

    def __init__(self, folder: Path, url: str, log: Connection) -> None:
        self.folder = folder
        self.url = url
        self.log = log
        self.archive = Archive(str(folder))

    async def run(self, stream: Stream = RAW, *, today: int, seconds: float = NOON, **options: Any) -> ExportResult:
        return await export_stream(self.archive, self.url, stream, now_ns=at(today, seconds), **options)

    async def chain(self, stream: Stream = RAW) -> Chain:
        return await load_chain(self.archive, stream.name)

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in sorted(self.folder.rglob("*.*"))}


async def create_removable(log: Connection) -> Stream:
    """A stream that allows deletes and purges, unlike those of the topology."""
    await log.api(f"STREAM.CREATE.{REMOVABLE.name}", REMOVABLE.config(1) | {"deny_delete": False, "deny_purge": False})
    return REMOVABLE


async def drop_before(log: Connection, stream: Stream, sequence: int) -> None:
    """Remove events as an age limit does."""
    await log.api(f"STREAM.PURGE.{stream.name}", {"seq": sequence})


async def archived_and_live(archive: Archive, url: str, stream: str, **options: Any) -> Block:
    """Everything that a replay from the archive and the log yields."""
    held = Block([], [], [])
    async for block in ArchivedReplay(archive, url, stream, **options).blocks():
        _extend(held, block)
    return held


async def live_only(url: str, stream: str, after: int = 0, until: int | None = None) -> Block:
    """The same range from the log alone."""
    held = Block([], [], [])
    async for block in replay(url, stream, after=after, until=until):
        _extend(held, block)
    return held


def _extend(held: Block, more: Block) -> None:
    held.sequences.extend(more.sequences)
    held.subjects.extend(more.subjects)
    held.payloads.extend(more.payloads)


@contextmanager
def replaced_attribute(target: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute for the duration of the block."""
    before = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, before)
