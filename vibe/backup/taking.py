"""Taking a backup of a running system.

The server's snapshots are begun against the flow of events (EXECUTIONS before what led to it), within milliseconds, so
that what an event names is in the backup too. The stage `exits` reads EXECUTIONS and writes GROUPS, against that order;
so the checkpoints inside the snapshots are compared with the ends of the streams that they have read, and a set is
taken again when one is ahead.

A snapshot silently lacks what the server cannot read. Each stream is therefore also read whole: a hole is an error, and
the digest of what was read is in the manifest, for `vibe backup drill` to compare.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import IO, Any, NamedTuple

import asyncpg
import msgspec

from streams.archive.arrow_rows import Digest
from streams.bulk_replay import Replay
from streams.connection import Connection
from streams.processing import checkpoint as checkpoints
from streams.stream_snapshot import Snapshot, snapshot
from streams.topology import CONFIG, DEAD, DISCOVERY, EXECUTIONS, GROUPS, RAW, REQUESTS, SIGNALS
from vibe.backup import tables
from vibe.backup.errors import BackupError
from vibe.backup.retention import set_name
from vibe.backup.sets import MANIFEST, TABLES, BackupSets, Manifest, StreamPart

ORDER = (EXECUTIONS, REQUESTS, GROUPS, SIGNALS, RAW, CONFIG, DEAD, DISCOVERY)
"""In which snapshots are begun."""
_ATTEMPTS = 10
_PAUSE_SECONDS = 0.2
_CHUNK = 1 << 20

Progress = Callable[[str], None]


class Range(NamedTuple):
    """What was read of a stream: its digest, and how far each stream was read according to its checkpoints."""

    digest: str
    messages: int
    reached: dict[str, int]


class _Begun(NamedTuple):
    """A snapshot in a temporary file, not encrypted yet."""

    snapshot: Snapshot
    file: IO[bytes]


async def take_backup(
    sets: BackupSets,
    connection: Connection,
    nats_url: str,
    database: asyncpg.Connection[Any],
    *,
    now_ns: int,
    progress: Progress = lambda _: None,
) -> Manifest:
    """Take a set and return its manifest. Raises DataLossError when a stream has a hole, BackupError and LogError."""
    name = set_name(now_ns)
    async with AsyncExitStack() as stack:
        for attempt in range(1, _ATTEMPTS + 1):
            taken = await _snapshots(stack, connection)
            read = {stream: await read_range(nats_url, stream, *_range(one)) for stream, one in taken.items()}
            ahead = checkpoints_ahead({stream: _range(one)[1] for stream, one in taken.items()}, read)
            if not ahead:
                break
            progress(f"attempt {attempt}: {ahead[0]}; taking the streams again")
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            raise BackupError(
                f"no consistent backup in {_ATTEMPTS} attempts: {'; '.join(ahead)}; "
                "either much is traded, or such a stream has lost its end: vibe doctor"
            )
        parts = []
        for stream, one in taken.items():
            first, last = _range(one)
            size = await sets.write(name, stream, _chunks(one.file))
            progress(f"{stream}: {read[stream].messages:,} messages, {size:,} bytes")
            parts.append(
                StreamPart(
                    name=stream,
                    first=first,
                    last=last,
                    messages=read[stream].messages,
                    digest=read[stream].digest,
                    bytes=size,
                    config=one.snapshot.config,
                    state=one.snapshot.state,
                )
            )
    wrong = [part.name for part in parts if not part.contiguous or part.messages != part.state["messages"]]
    if wrong:
        raise BackupError(f"{', '.join(wrong)}: the snapshot has another number of messages than the stream")
    rows = await tables.dump(database)
    await sets.write(name, TABLES, _once(tables.encode(rows)))
    manifest = Manifest(
        name=name,
        version=importlib.metadata.version("vibe-copy-trading-core"),
        streams=parts,
        tables={f"{table.schema}.{table.name}": table.count for table in rows},
    )
    await sets.write(name, MANIFEST, _once(msgspec.json.encode(manifest)))
    return manifest


async def _snapshots(stack: AsyncExitStack, connection: Connection) -> dict[str, _Begun]:
    """All snapshots, begun one after the other and then received at the same time."""
    async with AsyncExitStack() as open_ones:
        begun = {
            stream.name: await open_ones.enter_async_context(snapshot(connection, stream.name)) for stream in ORDER
        }
        files = {name: stack.enter_context(_temporary()) for name in begun}
        await asyncio.gather(*(_receive(one, files[name]) for name, one in begun.items()))
        return {name: _Begun(one, files[name]) for name, one in begun.items()}


def _temporary() -> IO[bytes]:
    return tempfile.TemporaryFile()


async def _receive(one: Snapshot, file: IO[bytes]) -> None:
    async for chunk in one.chunks:
        file.write(chunk)


def _range(one: _Begun) -> tuple[int, int]:
    state = one.snapshot.state
    first = max(1, int(state["first_seq"]))
    return first, max(int(state["last_seq"]), first - 1)


async def read_range(nats_url: str, stream: str, first: int, last: int) -> Range:
    """Read every message `first`..`last` of a stream. Raises DataLossError for a hole."""
    digest = Digest()
    reached: dict[str, int] = {}
    newest: dict[bytes, tuple[int, bytes]] = {}
    if last >= first:
        async for block in Replay(nats_url, stream, after=first - 1, until=last).blocks():
            digest.add(block)
            for sequence, subject, payload in zip(*block, strict=True):
                if b".checkpoint." in subject:
                    newest[subject] = sequence, payload
    for subject, (sequence, payload) in newest.items():
        found = checkpoints.decode(stream, sequence, subject.decode(), payload)
        furthest = max([found.position, *(position for position, _ in found.ahead.values())])
        for name, position in (
            (found.stream, furthest),
            (CONFIG.name, found.config_sequence),
            (DEAD.name, found.retried),
        ):
            reached[name] = max(reached.get(name, 0), position)
    return Range(str(digest), digest.count, reached)


def checkpoints_ahead(ends: Mapping[str, int], read: Mapping[str, Range]) -> list[str]:
    """One text for each stream whose checkpoints name events that are not in the backup."""
    return [
        f"{stream} has read {other} up to {position}, and the backup of {other} ends at {ends[other]}"
        for stream, found in read.items()
        for other, position in found.reached.items()
        if position > ends[other]
    ]


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK):
        yield chunk


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
