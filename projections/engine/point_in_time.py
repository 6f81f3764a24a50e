"""The past: read models built in a schema of their own as of an earlier moment; nothing is swapped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from projections.engine import positions, schemas
from projections.engine.bulk_load import Refuse
from projections.engine.errors import RebuildError
from projections.engine.follow import recorded_at
from projections.engine.history_source import check_front, check_whole, histories
from projections.engine.parallel_load import CHUNK, LONG, Watch, unwatched
from projections.engine.projection import Projection
from projections.engine.schemas import Place
from projections.engine.staging_tables import StagingTables
from projections.engine.status import Extent, projection_statuses
from streams.connection import Connection, connect
from streams.envelope import Codec
from streams.reader import get

Until = int | datetime | None
"""A sequence (for projections that read one and the same stream), a time (what was recorded by then), or the end."""

_BLOCK = 4096
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


async def build_past(
    nats_url: str,
    dsn: str,
    codec: Codec,
    projections: Sequence[Projection],
    schema: str,
    until: Until = None,
    *,
    resume: bool = False,
    refuse: Refuse | None = None,
    watch: Watch = unwatched,
    chunk: int = CHUNK,
    long: int = LONG,
    archive: str | None = None,
    cold: bool = False,
    shorten: bool = False,
) -> dict[str, int]:
    """Build the projections in `schema` as they were at `until`; the last sequence of each stream that is in.

    `archive`, `cold` and `shorten` as in a rebuild. Raises RebuildError for a schema that is in use or a moment that
    makes no sense, PoisonError without `refuse`.
    """
    session: asyncpg.Connection[Any] = await asyncpg.connect(dsn, timeout=10)
    connection = await connect(nats_url, "vibe rebuild")
    try:
        await _check_schema(session, schema, resume)
        stands = await projection_statuses(connection, session, projections)
        extents = {stream: extent for standing in stands for stream, extent in standing.extents.items()}
        found = await histories(nats_url, archive, extents, cold=cold)
        for standing in stands:
            check_whole(found, standing.name, standing.extents, shorten=shorten)
        archives = {stream: history.archive for stream, history in found.items() if history.archive is not None}
        ends = await _ends(connection, extents, archives, until)
        construction = StagingTables(
            nats_url,
            dsn,
            codec,
            stands,
            {each.name: Place(schema, schema) for each in stands},
            {each.name: 1 for each in stands},
            refuse=refuse,
            watch=watch,
            chunk=chunk,
            long=long,
            history=found,
        )
        await construction.prepare(session, writer=False, resume=resume)
        await construction.fill(ends, "reading")
        await construction.finish()
        for each in stands:
            await schemas.wake_autovacuum(session, schema, each.projection)
        if not shorten:
            now = await projection_statuses(connection, session, projections)
            check_front(found, {stream: extent for each in now for stream, extent in each.extents.items()})
        return ends
    finally:
        session.terminate()
        await connection.close()


async def _check_schema(session: asyncpg.Connection[Any], schema: str, resume: bool) -> None:
    if not _NAME.fullmatch(schema) or schema.startswith(("pg_", "rm_")) or schema == "information_schema":
        raise RebuildError(f"--schema {schema!r}: use lower-case letters, digits and _; not pg_... or rm_...")
    if await session.fetchval("SELECT quote_ident($1)", schema) != schema:
        raise RebuildError(f"--schema {schema} is a word of SQL; name another one")
    if schema == await schemas.live_schema(session):
        raise RebuildError(f"--schema {schema}: the live read models are there; name another one")
    used = await session.fetchval(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1", schema
    )
    if used and not (resume and await positions.positions(session, schema)):
        what = "holds no build to resume" if resume else "is in use"
        raise RebuildError(
            f"--schema {schema} {what}; name another one, or remove it: DROP SCHEMA {schema} CASCADE"
            + ("" if resume else "; --resume goes on with an interrupted build")
        )


async def _ends(
    connection: Connection, extents: Mapping[str, Extent], archives: Mapping[str, str], until: Until
) -> dict[str, int]:
    match until:
        case None:
            return {stream: extent.last for stream, extent in extents.items()}
        case datetime():
            at = until.astimezone(UTC)
            ends = {stream: await last_recorded(connection, stream, extent, at) for stream, extent in extents.items()}
            for stream, archive in archives.items():
                if ends[stream] < extents[stream].first:
                    ends[stream] = await _last_archived(archive, stream, at, ends[stream])
            return ends
    if len(extents) != 1:
        raise RebuildError(
            f"--until {until}: these projections read {', '.join(sorted(extents))}, whose sequences have nothing to "
            "do with each other; give a time, or choose projections of one stream"
        )
    ((stream, extent),) = extents.items()
    first = 1 if stream in archives else extent.first
    if not first - 1 <= until <= extent.last:
        raise RebuildError(f"--until {until}: {stream} holds sequences {first} to {extent.last}")
    return {stream: until}


async def _last_archived(archive: str, stream: str, at: datetime, end: int) -> int:
    """The last sequence of an archive up to `end` that was recorded at or before a time; 0 when none was."""
    from streams.archive.manifest import chain
    from streams.archive.parquet_file import blocks
    from streams.archive.store import Archive

    store, last = Archive(archive), 0
    for link in reversed((await chain(store, stream)).links):
        if link.first > end:
            continue
        async with store.opened(link.file) as file:
            for block in blocks(file, link, _BLOCK, after=0):
                for sequence, payload in zip(block.sequences, block.payloads, strict=True):
                    time = recorded_at(payload)
                    if sequence <= end and time is not None and time <= at:
                        last = sequence
        if last:
            break
    return last


async def last_recorded(connection: Connection, stream: str, extent: Extent, at: datetime) -> int:
    """The last sequence of a stream that was recorded at or before a time; `first` - 1 when none was.

    By halving: events are recorded in the order of their times, but for milliseconds between writers.
    """
    low, high = extent.first - 1, extent.last
    while low < high:
        middle = (low + high + 1) // 2
        probe, time = middle, None
        while probe <= high and time is None:
            stored = await get(connection, stream, probe)
            time = recorded_at(stored.payload) if stored is not None else None
            probe += 1
        if time is None or time > at:
            high = middle - 1
        else:
            low = probe - 1
    return low
