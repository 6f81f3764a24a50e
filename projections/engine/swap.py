"""The swap: a finished construction takes the place of the live tables, with its positions, in one transaction.

Readers see the old rows or the new ones, never none and never an error: tables change places by name under a lock
that is held for milliseconds, and a statement that waited for the lock looks the name up again. The lock is never
waited for long, because whoever reads would queue behind it; and always shorter than Postgres waits before it calls
something a deadlock and kills one side, so that it is never the reader who loses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
import structlog

from projections.engine import positions, schemas
from projections.engine.bulk_load import Chunk, Refuse
from projections.engine.errors import BAD_ROW, RebuildError
from projections.engine.parallel_load import Watch
from projections.engine.positions import TABLE, StoredPosition
from projections.engine.staging_tables import StagingTables
from projections.engine.status import ProjectionStatus
from projections.engine.table import Table

log = structlog.get_logger()

_LOCK_TIMEOUT = "150ms"
_CLOSE = 20_000
"""The live one may be ahead by so many events when the swap begins; they are read while it waits."""
_SNAPSHOT_SECONDS = 10.0

_BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class BehindError(Exception):
    """There is something to read first that cannot be read inside a swap: fill, and swap again."""


async def swap(
    session: asyncpg.Connection[Any],
    construction: StagingTables,
    standing: ProjectionStatus,
    generation: int,
    *,
    refuse: Refuse | None,
    watch: Watch,
) -> None:
    """Swap one projection; `standing` is the live one it replaces. Raises BehindError, RebuildError."""
    await _wait_for_snapshots(session, watch)
    tries = 0
    while True:
        try:
            async with session.transaction():
                await session.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                await _swap(session, construction, standing, generation, refuse)
            return
        except _BUSY:
            tries += 1
            watch("waiting for a moment to swap", tries, 0)
            await asyncio.sleep(random.uniform(0.02, min(0.05 * 2**tries, 1.0)))


async def _swap(
    session: asyncpg.Connection[Any],
    construction: StagingTables,
    standing: ProjectionStatus,
    generation: int,
    refuse: Refuse | None,
) -> None:
    name, live, place = standing.name, standing.schema, construction.places[standing.name]
    # From here on the live runner waits with this projection, so that nothing it stores can be missed.
    locked = await session.fetch(
        f"SELECT stream, position, generation, stream_created FROM {live}.{TABLE} WHERE projection = $1 "
        "ORDER BY stream FOR UPDATE",
        name,
    )
    if any(row["generation"] != standing.generation for row in locked):
        raise RebuildError(f"{name} was rebuilt by somebody else meanwhile; nothing was swapped")
    built = {
        stream: position
        for (of, stream), position in (await positions.positions(session, place.schema)).items()
        if of == name
    }
    for row in locked:
        mine = built.get(row["stream"])
        if mine is not None and mine.stream_created == row["stream_created"] and mine.position < row["position"]:
            if row["position"] - mine.position > _CLOSE:
                raise BehindError
            chunk = Chunk(mine.stream, mine.position, row["position"], {name: mine.position})
            await _catch_up(session, construction, chunk, refuse)
    stands = [
        position for (of, _), position in (await positions.positions(session, place.schema)).items() if of == name
    ]
    await _exchange(session, standing, place.schema, generation)
    await positions.begin(session, live, [position._replace(generation=generation) for position in stands])
    await session.execute(f"DROP TABLE {place.schema}.{TABLE}")
    if not any(table.by_day for table in standing.projection.tables):
        await session.execute(f"DROP SCHEMA {place.schema}")
    await _announce(session, stands)


async def _catch_up(
    session: asyncpg.Connection[Any], construction: StagingTables, chunk: Chunk, refuse: Refuse | None
) -> None:
    filler = await construction.filler(session)
    try:
        if refuse is not None:
            await filler.fill_leniently(chunk, refuse, lambda _: None)
        else:
            await filler.fill_within(chunk, _at_once, lambda _: None)
    except BAD_ROW as error:
        raise BehindError from error  # filling names the event


async def _at_once() -> None:
    """It is our turn."""


async def _exchange(session: asyncpg.Connection[Any], standing: ProjectionStatus, built: str, generation: int) -> None:
    """Move the live tables to their generation's schema and ours to the live one."""
    live, old = standing.schema, schemas.build_schema(standing.name, standing.generation)
    there = [table for table in standing.projection.tables if await _exists(session, live, table)]
    if there:
        names = ", ".join(f"{live}.{table.name}" for table in there)
        await session.execute(f"LOCK TABLE ONLY {names} IN ACCESS EXCLUSIVE MODE")
        await _refuse_views(session, live, there)
        await session.execute(f"CREATE SCHEMA IF NOT EXISTS {old}")
        for table in there:
            await _copy_grants(session, f"{live}.{table.name}", f"{built}.{table.name}")
            await session.execute(f"DROP TABLE IF EXISTS {old}.{table.name}")
            await session.execute(f"ALTER TABLE {live}.{table.name} SET SCHEMA {old}")
    for table in standing.projection.tables:
        await session.execute(f"ALTER TABLE {built}.{table.name} SET SCHEMA {live}")
    await schemas.wake_autovacuum(session, live, standing.projection)


async def _exists(session: asyncpg.Connection[Any], schema: str, table: Table) -> bool:
    found: bool = await session.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{schema}.{table.name}")
    return found


async def _refuse_views(session: asyncpg.Connection[Any], schema: str, tables: Sequence[Table]) -> None:
    views = await session.fetch(
        "SELECT DISTINCT r.ev_class::regclass::text AS name FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid "
        "WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = ANY($1::text[]::regclass[]) ORDER BY 1",
        [f"{schema}.{table.name}" for table in tables],
    )
    if views:
        names = ", ".join(row["name"] for row in views)
        raise RebuildError(
            f"the views {names} would be lost with the old tables; drop them, rebuild with --resume, make them again"
        )


async def _copy_grants(session: asyncpg.Connection[Any], old: str, new: str) -> None:
    """Who may read the old table may read the new one."""
    rows = await session.fetch(
        "SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee, "
        "string_agg(a.privilege_type, ', ') AS rights FROM pg_class c, aclexplode(c.relacl) a "
        "WHERE c.oid = $1::text::regclass AND a.grantee <> c.relowner AND pg_get_userbyid(a.grantee) <> $2 GROUP BY 1",
        old,
        schemas.WRITER,
    )
    for row in rows:
        await session.execute(f"GRANT {row['rights']} ON {new} TO {row['grantee']}")


async def _announce(session: asyncpg.Connection[Any], stands: Sequence[StoredPosition]) -> None:
    for position in stands:
        said = {"stream": position.stream, "position": position.position, "projections": [position.projection]}
        await session.execute(f"SELECT pg_notify('{positions.CHANNEL}', $1)", msgspec.json.encode(said).decode())


async def _wait_for_snapshots(session: asyncpg.Connection[Any], watch: Watch) -> None:
    """Let transactions end that would not see the rows just built: a REPEATABLE READ that comes to the table after
    the swap looks at it as of its own beginning."""
    mark = await session.fetchval("SELECT pg_current_xact_id()::xid::text")
    deadline = asyncio.get_running_loop().time() + _SNAPSHOT_SECONDS
    while True:
        older = await session.fetch(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() "
            "AND datname = current_database() AND backend_xmin IS NOT NULL "
            "AND age(backend_xmin) > age($1::text::xid)",
            mark,
        )
        if not older:
            return
        if asyncio.get_running_loop().time() > deadline:
            log.warning("rebuild.old_snapshots", pids=[row["pid"] for row in older])
            return
        watch("waiting for transactions that began before", len(older), 0)
        await asyncio.sleep(0.05)


async def drop_generation(session: asyncpg.Connection[Any], name: str, generation: int) -> None:
    """Remove what an old generation left, piece by piece, so that no transaction holds many locks."""
    schema = schemas.build_schema(name, generation)
    while True:
        rows = await session.fetch(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = $1 AND c.relkind = 'r' ORDER BY c.relispartition DESC LIMIT 50",
            schema,
        )
        if not rows:
            break
        async with session.transaction():
            for row in rows:
                await session.execute(f'DROP TABLE IF EXISTS {schema}."{row["relname"]}"')
    await session.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


async def old_generations(session: asyncpg.Connection[Any], name: str, kept: Sequence[int]) -> list[int]:
    """The generations that have left a schema, but for those that are to stay."""
    rows = await session.fetch(
        "SELECT nspname FROM pg_namespace WHERE nspname ~ $1", f"^{schemas.build_schema(name, 0)[:-1]}[0-9]+$"
    )
    found = [int(row["nspname"].rpartition("_")[2]) for row in rows]
    return sorted(set(found) - set(kept))
