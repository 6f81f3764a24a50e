"""Read models as of an earlier point in time, built in a schema of their own; nothing is swapped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from projections.engine import positions, schemas
from projections.engine.bulk_load import OnSkipped
from projections.engine.errors import RebuildError
from projections.engine.history_source import check_complete, check_not_truncated, find_sources
from projections.engine.parallel_load import CHUNK, LONG, ReportProgress, no_progress
from projections.engine.projection import Projection
from projections.engine.recorded_at import recorded_at
from projections.engine.schemas import Location
from projections.engine.sessions import INDEX_SECONDS, open_session
from projections.engine.staging_tables import StagingTables
from projections.engine.status import Extent, projection_statuses
from streams.connection import Connection, connect
from streams.envelope import Codec
from streams.reader import get

Until = int | datetime | None
"""A sequence (for projections that all read the same stream), a time (events recorded by then), or None for the end."""

_BLOCK = 4096
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


async def build_as_of(
    nats_url: str,
    dsn: str,
    codec: Codec,
    projections: Sequence[Projection],
    schema: str,
    until: Until = None,
    *,
    resume: bool = False,
    on_skipped: OnSkipped | None = None,
    progress: ReportProgress = no_progress,
    chunk: int = CHUNK,
    long: int = LONG,
    archive: str | None = None,
    prefer_archive: bool = False,
    shorten: bool = False,
) -> dict[str, int]:
    """Build the projections in `schema` as of `until`; returns the last included sequence of each stream.

    `archive`, `prefer_archive`, `shorten` and `on_skipped` as in `rebuild`. Raises RebuildError for a schema that is in
    use or an `until` that is not possible, UnprocessableRowError without `on_skipped`.
    """
    session = await open_session(dsn, INDEX_SECONDS)
    connection = await connect(nats_url, "vibe rebuild")
    try:
        await _check_schema(session, schema, resume)
        statuses = await projection_statuses(connection, session, projections)
        extents = {stream: extent for status in statuses for stream, extent in status.extents.items()}
        found = await find_sources(nats_url, archive, extents, prefer_archive=prefer_archive)
        for status in statuses:
            check_complete(found, status.name, status.extents, shorten=shorten)
        archives = {stream: source.archive for stream, source in found.items() if source.archive is not None}
        ends = await _ends(connection, extents, archives, until)
        staging = StagingTables(
            nats_url,
            dsn,
            codec,
            statuses,
            {each.name: Location(schema, schema) for each in statuses},
            {each.name: 1 for each in statuses},
            on_skipped=on_skipped,
            progress=progress,
            chunk=chunk,
            long=long,
            sources=found,
        )
        await staging.prepare(session, writer=False, resume=resume)
        await staging.fill(ends, "reading")
        await staging.finish()
        for each in statuses:
            await schemas.enable_autovacuum(session, schema, each.projection)
            await schemas.remake_views(session, schema, each.projection)
        if not shorten:
            now = await projection_statuses(connection, session, projections)
            check_not_truncated(found, {stream: extent for each in now for stream, extent in each.extents.items()})
        return ends
    finally:
        session.terminate()
        await connection.close()


async def _check_schema(session: asyncpg.Connection[Any], schema: str, resume: bool) -> None:
    if not _NAME.fullmatch(schema) or schema.startswith(("pg_", "rm_")) or schema == "information_schema":
        raise RebuildError(f"--schema {schema!r}: use a-z, 0-9 and _, and neither pg_... nor rm_...")
    if await session.fetchval("SELECT quote_ident($1)", schema) != schema:
        raise RebuildError(f"--schema {schema} is a keyword of SQL; name another one")
    if schema == await schemas.live_schema(session):
        raise RebuildError(f"--schema {schema}: the live read models are there; name another one")
    used = await session.fetchval(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1", schema
    )
    if used and not (resume and await positions.positions(session, schema)):
        why = "holds no build to resume" if resume else "is in use"
        raise RebuildError(
            f"--schema {schema} {why}; name another one, or remove it: DROP SCHEMA {schema} CASCADE"
            + ("" if resume else "; --resume continues an interrupted build")
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
            f"--until {until}: these projections read {', '.join(sorted(extents))}, whose sequences cannot be "
            "compared; give a time, or choose projections of one stream"
        )
    ((stream, extent),) = extents.items()
    first = 1 if stream in archives else extent.first
    if not first - 1 <= until <= extent.last:
        raise RebuildError(f"--until {until}: {stream} holds sequences {first} to {extent.last}")
    return {stream: until}


async def _last_archived(archive: str, stream: str, at: datetime, end: int) -> int:
    """The last sequence of an archive up to `end` that was recorded at or before `at`; 0 when none was."""
    from streams.archive.manifest import load_chain
    from streams.archive.parquet_file import blocks
    from streams.archive.store import Archive

    store, last = Archive(archive), 0
    for link in reversed((await load_chain(store, stream)).links):
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
    """The last sequence of a stream that was recorded at or before `at`; `first` - 1 when none was.

    A binary search: the times of recording rise with the sequences, up to milliseconds between writers.
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
