"""How far each projection has come: one row per projection and stream, moved in the transaction of its rows.

A position moves only from where it was, in the generation that it was: whoever finds it elsewhere was overtaken by
another writer or by a swap. Every move is announced with NOTIFY in the same transaction; `passed` listens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import msgspec

from projections.engine.errors import LostPositionError

CHANNEL = "vibe_projections"
"""Announcements: {"stream": name, "position": sequence, "projections": [names]}."""

TABLE = "projection_position"

_DDL_LOCK = 0x76696261

_COLUMNS = {
    "projection": "text NOT NULL",
    "stream": "text NOT NULL",
    "version": "integer NOT NULL",
    "stream_created": "timestamptz NOT NULL",
    "position": "bigint NOT NULL",
    "moved_at": "timestamptz NOT NULL DEFAULT now()",
    "shape": "text NOT NULL DEFAULT ''",
    "generation": "integer NOT NULL DEFAULT 0",
    "event_time": "timestamptz NULL",
    "rate": "double precision NOT NULL DEFAULT 0",
}
"""`event_time` is when the last event was recorded, `rate` events per second lately."""


class StoredPosition(NamedTuple):
    """Where a projection stands in a stream, and what built its tables."""

    projection: str
    stream: str
    version: int
    shape: str
    generation: int
    stream_created: datetime
    position: int
    event_time: datetime | None
    rate: float
    moved_at: datetime


async def prepare(session: asyncpg.Connection[Any], schema: str) -> None:
    """Make the table of positions, or give it the columns that an older one lacks."""
    columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
    async with session.transaction():
        await session.execute("SELECT pg_advisory_xact_lock($1)", _DDL_LOCK)
        found = await session.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2",
            schema,
            TABLE,
        )
        have = {row["column_name"] for row in found}
        if not have:
            await session.execute(f"CREATE TABLE {schema}.{TABLE} ({columns}, PRIMARY KEY (projection, stream))")
        for name in [name for name in _COLUMNS if have and name not in have]:
            await session.execute(f"ALTER TABLE {schema}.{TABLE} ADD COLUMN {name} {_COLUMNS[name]}")


async def positions(session: asyncpg.Connection[Any], schema: str) -> dict[tuple[str, str], StoredPosition]:
    """All positions of a schema by (projection, stream); none while there is no such table."""
    try:
        rows = await session.fetch(f"SELECT {', '.join(StoredPosition._fields)} FROM {schema}.{TABLE}")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedColumnError):
        return {}
    return {(row["projection"], row["stream"]): StoredPosition(*row) for row in rows}


async def begin(session: asyncpg.Connection[Any], schema: str, fresh: Sequence[StoredPosition]) -> None:
    """Store positions, in place of what their projections had."""
    await session.execute(
        f"DELETE FROM {schema}.{TABLE} WHERE projection = ANY($1)", list({each.projection for each in fresh})
    )
    await session.executemany(
        f"INSERT INTO {schema}.{TABLE} ({', '.join(StoredPosition._fields)}) "
        f"VALUES ({', '.join(f'${n + 1}' for n in range(len(StoredPosition._fields)))})",
        [tuple(each) for each in fresh],
    )


async def move(
    session: asyncpg.Connection[Any],
    schema: str,
    stream: str,
    places: Mapping[str, tuple[int, int]],
    to: int,
    *,
    event_time: datetime | None = None,
    rate: float = 0.0,
    announce: bool = True,
) -> None:
    """Move projections, by name from (position, generation), to a sequence of the stream, all or none.

    Do it before any row is written: a second writer waits here for the first, and then finds its place gone, which is
    a LostPlaceError.
    """
    names = list(places)
    said = msgspec.json.encode({"stream": stream, "position": to, "projections": names}).decode() if announce else None
    moved = await session.fetchval(
        f"WITH moved AS (UPDATE {schema}.{TABLE} p SET position = $1, moved_at = clock_timestamp(), "
        "event_time = coalesce($2, event_time), rate = $3 "
        "FROM unnest($4::text[], $5::bigint[], $6::int[]) f (projection, position, generation) "
        "WHERE p.projection = f.projection AND p.stream = $7 AND p.position = f.position "
        "AND p.generation = f.generation RETURNING p.projection), "
        f"said AS (SELECT pg_notify('{CHANNEL}', $8) WHERE $8 IS NOT NULL) "
        "SELECT (SELECT count(*) FROM moved) + 0 * (SELECT count(*) FROM said)",
        to,
        event_time,
        rate,
        names,
        [places[name][0] for name in names],
        [places[name][1] for name in names],
        stream,
        said,
    )
    if moved != len(names):
        at = ", ".join(f"{name} at {place[0]} of generation {place[1]}" for name, place in places.items())
        raise LostPositionError(f"{len(names) - moved} of these are no longer where they were in {stream}: {at}")
