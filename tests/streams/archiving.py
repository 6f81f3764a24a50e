"""Streams with a history over several days, for tests of the archive."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from streams.append import MAX_BATCH, Record, append
from streams.archive.archived_replay import ArchivedReplay
from streams.archive.store import Archive
from streams.bulk_replay import Block, replay
from streams.connection import Connection
from streams.envelope import Envelope, nanoseconds, rfc3339
from streams.topology import Stream

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
FIRST_DAY = nanoseconds("2026-11-01T00:00:00Z")
_numbers = itertools.count(1)


def at(day: int, seconds: float = 0) -> int:
    """A moment of the days counted from 2026-11-01 = 1, in ns."""
    return FIRST_DAY + (day - 1) * DAY + int(seconds * SECOND)


def day(number: int) -> str:
    return rfc3339(at(number))[:10]


def payload(time_ns: int, number: int = 0, **data: Any) -> bytes:
    """An event as the log stores it; `number` makes it unlike the others."""
    facts = {"number": number, "subscriber_id": f"sub-{number % 7}", **data}
    envelope = Envelope(
        "1.0", "tests.happened", "tests", f"evt_{number}", rfc3339(time_ns), facts, f"grp_{number // 3}", "RAW:7"
    )
    return msgspec.json.encode(envelope)


def spread(days: Iterable[int], each: int) -> Iterator[bytes]:
    """Events of some days, so many of each, evenly over the day."""
    for number in days:
        for part in range(each):
            yield payload(at(number, 86_400 * (part + 0.5) / each), next(_numbers))


async def put(connection: Connection, stream: Stream, payloads: Iterable[bytes]) -> int:
    """Append to a stream, on eight subjects; returns how many."""
    prefix = stream.subjects[0].partition(".")[0]
    records = [Record(f"{prefix}.{number % 8}.x", one) for number, one in enumerate(payloads)]
    for start in range(0, len(records), MAX_BATCH):
        await append(connection, records[start : start + MAX_BATCH])
    return len(records)


async def cold_and_hot(archive: Archive, url: str, stream: str, **options: Any) -> Block:
    """Everything that a replay from the archive yields."""
    held = Block([], [], [])
    async for block in ArchivedReplay(archive, url, stream, **options).blocks():
        _extend(held, block)
    return held


async def of_the_log(url: str, stream: str, after: int = 0, until: int | None = None) -> Block:
    """The same from the log alone."""
    held = Block([], [], [])
    async for block in replay(url, stream, after=after, until=until):
        _extend(held, block)
    return held


def _extend(held: Block, more: Block) -> None:
    held.sequences.extend(more.sequences)
    held.subjects.extend(more.subjects)
    held.payloads.extend(more.payloads)


@contextmanager
def changed(target: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute that is another for a while."""
    before = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, before)
