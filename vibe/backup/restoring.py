"""Checking a set, and restoring it into an empty log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple

from projections.engine.sessions import LOAD_SECONDS, open_session
from streams import topology
from streams.connection import Connection
from streams.errors import DataLossError
from streams.stream_snapshot import restore
from vibe.backup import tables
from vibe.backup.errors import BackupError
from vibe.backup.sets import TABLES, BackupSets, Manifest, StreamPart
from vibe.backup.taking import read_range

Progress = Callable[[str], None]


class RestoredStream(NamedTuple):
    """One restored stream: whether every message is in it, as the manifest states."""

    name: str
    first: int
    last: int
    messages: int
    equal: bool


async def problems_of(sets: BackupSets, manifest: Manifest) -> list[str]:
    """What is wrong with a set: files that are missing or damaged, streams with a hole. Each file is read whole."""
    wrong = [f"{part.name} has a hole" for part in manifest.streams if not part.contiguous]
    for file in (*(part.name for part in manifest.streams), TABLES):
        try:
            async with sets.opened(manifest.name, file) as chunks:
                for _ in chunks:
                    pass
        except Exception as error:
            wrong.append(str(error) or type(error).__name__)
    return wrong


async def restore_streams(
    sets: BackupSets,
    manifest: Manifest,
    connection: Connection,
    nats_url: str,
    replicas: int,
    progress: Progress = lambda _: None,
) -> list[RestoredStream]:
    """Make every stream of a set, in the order of the flow of events, and read each back.

    Raises BackupError, before anything is changed, when the log holds messages.
    """
    await _require_empty(connection)
    restored = []
    for part in reversed(manifest.streams):
        async with sets.opened(manifest.name, part.name) as chunks:
            config = {**part.config, "num_replicas": replicas}
            await restore(connection, config, part.state, _each(chunks))
        found = await _read_back(connection, nats_url, part)
        progress(f"{part.name}: {found.messages:,} messages" + ("" if found.equal else ", NOT as they were"))
        restored.append(found)
    await topology.apply(connection, replicas)
    return restored


async def restore_tables(sets: BackupSets, manifest: Manifest, dsn: str) -> dict[str, int]:
    """Put the rows of the tables back; the tables must exist. Returns the number of rows by table."""
    async with sets.opened(manifest.name, TABLES) as chunks:
        rows = tables.decode(b"".join(chunks))
    session = await open_session(dsn, LOAD_SECONDS)
    try:
        return await tables.load(session, rows)
    finally:
        session.terminate()


async def _require_empty(connection: Connection) -> None:
    found = [(stream, await topology.info(connection, stream.name)) for stream in topology.STREAMS]
    full = [stream.name for stream, info in found if info and info["state"]["messages"] and not stream.scratch]
    if full:
        raise BackupError(
            f"{', '.join(full)} hold messages, and a backup is restored into an empty log only; set VIBE_DATA_DIR to a "
            "new folder (and VIBE_BACKUP_URL and VIBE_BACKUP_KEY_FILE to those of the old one)"
        )
    for stream, info in found:
        if info is not None:
            await connection.api(f"STREAM.DELETE.{stream.name}")


async def _read_back(connection: Connection, nats_url: str, part: StreamPart) -> RestoredStream:
    info = await topology.info(connection, part.name)
    last = int(info["state"]["last_seq"]) if info else 0
    try:
        found = await read_range(nats_url, part.name, part.first, part.last)
    except DataLossError:
        return RestoredStream(part.name, part.first, last, 0, False)
    equal = (found.digest, found.messages) == (part.digest, part.messages) and last == max(
        part.last, int(part.state["last_seq"])
    )
    return RestoredStream(part.name, part.first, last, found.messages, equal)


async def _each(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
