"""The past: read models built in a schema of their own as of an earlier moment; nothing is swapped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg

from projections import progress, store
from projections.build import CHUNK, LONG, Watch, unwatched
from projections.construction import Construction
from projections.errors import RebuildError
from projections.filler import Refuse
from projections.live import recorded_at
from projections.projection import Projection
from projections.standing import Extent, standings
from projections.store import Place
from streams.connection import Connection, connect
from streams.envelope import Codec
from streams.read import get

Until = int | datetime | None
"""A sequence (for projections that read one and the same stream), a time (what was recorded by then), or the end."""

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
) -> dict[str, int]:
    """Build the projections in `schema` as they were at `until`; the last sequence of each stream that is in.

    Raises RebuildError for a schema that is in use or a moment that makes no sense, PoisonError without `refuse`.
    """
    session: asyncpg.Connection[Any] = await asyncpg.connect(dsn, timeout=10)
    connection = await connect(nats_url, "vibe rebuild")
    try:
        await _check_schema(session, schema, resume)
        stands = await standings(connection, session, projections)
        extents = {stream: extent for standing in stands for stream, extent in standing.extents.items()}
        ends = await _ends(connection, extents, until)
        construction = Construction(
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
            archive=archive,
        )
        await construction.prepare(session, writer=False, resume=resume)
        await construction.fill(ends, "reading")
        await construction.finish()
        return ends
    finally:
        session.terminate()
        await connection.close()


async def _check_schema(session: asyncpg.Connection[Any], schema: str, resume: bool) -> None:
    if not _NAME.fullmatch(schema) or schema.startswith(("pg_", "rm_")) or schema == "information_schema":
        raise RebuildError(f"--schema {schema!r}: use lower-case letters, digits and _; not pg_... or rm_...")
    if schema == await store.live_schema(session):
        raise RebuildError(f"--schema {schema}: the live read models are there; name another one")
    used = await session.fetchval(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1", schema
    )
    if used and not (resume and await progress.positions(session, schema)):
        what = "holds no build to resume" if resume else "is in use"
        raise RebuildError(
            f"--schema {schema} {what}; name another one, or remove it: DROP SCHEMA {schema} CASCADE"
            + ("" if resume else "; --resume goes on with an interrupted build")
        )


async def _ends(connection: Connection, extents: Mapping[str, Extent], until: Until) -> dict[str, int]:
    match until:
        case None:
            return {stream: extent.last for stream, extent in extents.items()}
        case datetime():
            at = until.astimezone(UTC)
            return {stream: await last_recorded(connection, stream, extent, at) for stream, extent in extents.items()}
    if len(extents) != 1:
        raise RebuildError(
            f"--until {until}: these projections read {', '.join(sorted(extents))}, whose sequences have nothing to "
            "do with each other; give a time, or choose projections of one stream"
        )
    ((stream, extent),) = extents.items()
    if not extent.first - 1 <= until <= extent.last:
        raise RebuildError(f"--until {until}: {stream} holds sequences {extent.first} to {extent.last}")
    return {stream: until}


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
