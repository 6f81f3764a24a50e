"""Stored positions: how far each projection has read each stream, moved in the transaction that writes its rows.

A position moves only from its expected value in its expected generation: a writer that finds another value was
overtaken by a second writer or by a swap. Every move sends a NOTIFY in the same transaction (see `wait`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import msgspec

from projections.engine.errors import LostPositionError

CHANNEL = "vibe_projections"
"""The payload of a notification is {"stream": name, "position": sequence, "projections": [names]}."""

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
"""`event_time` is when the last stored event was recorded, `rate` the events per second over the last seconds."""


class StoredPosition(NamedTuple):
    """A projection's position in a stream (the last stored sequence), and the version and shape that built its
    tables."""

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
    """Create the table of positions, or add the columns that a table of an older release lacks."""
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
            # Mostly empty pages: the rows change many times a second, and one that stays in its page changes no index.
            await session.execute(
                f"CREATE TABLE {schema}.{TABLE} ({columns}, PRIMARY KEY (projection, stream)) WITH (fillfactor = 20)"
            )
        for name in [name for name in _COLUMNS if have and name not in have]:
            await session.execute(f"ALTER TABLE {schema}.{TABLE} ADD COLUMN {name} {_COLUMNS[name]}")


async def positions(session: asyncpg.Connection[Any], schema: str) -> dict[tuple[str, str], StoredPosition]:
    """All positions of a schema by (projection, stream); empty while the table does not exist."""
    try:
        rows = await session.fetch(f"SELECT {', '.join(StoredPosition._fields)} FROM {schema}.{TABLE}")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedColumnError):
        return {}
    return {(row["projection"], row["stream"]): StoredPosition(*row) for row in rows}


async def replace(session: asyncpg.Connection[Any], schema: str, fresh: Sequence[StoredPosition]) -> None:
    """Store positions in place of all earlier positions of their projections."""
    await session.execute(
        f"DELETE FROM {schema}.{TABLE} WHERE projection = ANY($1)", list({each.projection for each in fresh})
    )
    await session.executemany(
        f"INSERT INTO {schema}.{TABLE} ({', '.join(StoredPosition._fields)}) "
        f"VALUES ({', '.join(f'${n + 1}' for n in range(len(StoredPosition._fields)))})",
        [tuple(each) for each in fresh],
    )


def _notification(stream: str, position: int, names: Sequence[str]) -> str:
    return msgspec.json.encode({"stream": stream, "position": position, "projections": names}).decode()


async def notify(session: asyncpg.Connection[Any], moved: Sequence[StoredPosition]) -> None:
    """Notify the waiting readers of new positions, when the transaction commits."""
    for each in moved:
        payload = _notification(each.stream, each.position, [each.projection])
        await session.execute(f"SELECT pg_notify('{CHANNEL}', $1)", payload)


async def move(
    session: asyncpg.Connection[Any],
    schema: str,
    stream: str,
    expected: Mapping[str, tuple[int, int]],
    to: int,
    *,
    event_time: datetime | None = None,
    rate: float = 0.0,
    announce: bool = True,
) -> None:
    """Move the positions of projections to the sequence `to` of a stream, all or none.

    `expected` gives, by projection, the position and generation to move from. Raises LostPositionError when one of
    them has changed. Call it before writing rows: a second writer then waits here for the first, and raises.
    """
    names = list(expected)
    notification = _notification(stream, to, names) if announce else None
    moved = await session.fetchval(
        f"WITH moved AS (UPDATE {schema}.{TABLE} p SET position = $1, moved_at = clock_timestamp(), "
        "event_time = coalesce($2, event_time), rate = $3 "
        "FROM unnest($4::text[], $5::bigint[], $6::int[]) f (projection, position, generation) "
        "WHERE p.projection = f.projection AND p.stream = $7 AND p.position = f.position "
        "AND p.generation = f.generation RETURNING p.projection), "
        f"notified AS (SELECT pg_notify('{CHANNEL}', $8) WHERE $8 IS NOT NULL) "
        "SELECT (SELECT count(*) FROM moved) + 0 * (SELECT count(*) FROM notified)",
        to,
        event_time,
        rate,
        names,
        [expected[name][0] for name in names],
        [expected[name][1] for name in names],
        stream,
        notification,
    )
    if moved != len(names):
        positions = ", ".join(f"{name} at {at} of generation {number}" for name, (at, number) in expected.items())
        raise LostPositionError(
            f"{len(names) - moved} of these positions in {stream} were moved by another writer: {positions}"
        )
