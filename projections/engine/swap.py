"""The swap: finished staging tables and their positions replace the live tables in one transaction.

Readers see the old rows or the new ones, never an empty table and never an error: tables move between schemas under a
lock that is held for milliseconds, and a statement that waited for the lock resolves the name again. The swap waits
for that lock only briefly, because new readers queue behind it, and less than Postgres' deadlock timeout, so that the
swap is cancelled and never a reader.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import asyncpg
import structlog

from projections.engine import positions, schemas
from projections.engine.bulk_load import Chunk, OnSkipped
from projections.engine.errors import ROW_ERRORS, RebuildError
from projections.engine.parallel_load import ReportProgress
from projections.engine.positions import TABLE
from projections.engine.staging_tables import StagingTables
from projections.engine.status import ProjectionStatus
from projections.engine.table import Table, View

log = structlog.get_logger()

_LOCK_TIMEOUT = "150ms"
_CLOSE = 20_000
"""How many events the live tables may be ahead when the swap begins; the swap reads them while the engine waits."""
READER_SECONDS = 10.0

_BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class BehindError(Exception):
    """The staging tables are too far behind to catch up inside the swap: load, and swap again."""


async def swap(
    session: asyncpg.Connection[Any],
    staging: StagingTables,
    status: ProjectionStatus,
    generation: int,
    *,
    on_skipped: OnSkipped | None,
    progress: ReportProgress,
    reader_seconds: float = READER_SECONDS,
) -> None:
    """Swap one projection; `status` is that of the live tables. Raises BehindError, RebuildError.

    Transactions that began before the swap get `reader_seconds` to end.
    """
    await _wait_for_snapshots(session, progress, reader_seconds)
    tries = 0
    while True:
        try:
            async with session.transaction():
                await session.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                await _swap(session, staging, status, generation, on_skipped)
            return
        except _BUSY:
            tries += 1
            progress("waiting for the lock to swap", tries, 0)
            await asyncio.sleep(random.uniform(0.02, min(0.05 * 2**tries, 1.0)))


async def _swap(
    session: asyncpg.Connection[Any],
    staging: StagingTables,
    status: ProjectionStatus,
    generation: int,
    on_skipped: OnSkipped | None,
) -> None:
    name, live, location = status.name, status.schema, staging.locations[status.name]
    # From here on the engine waits with this projection, so that no event that it stores is missed.
    locked = await session.fetch(
        f"SELECT stream, position, generation, stream_created FROM {live}.{TABLE} WHERE projection = $1 "
        "ORDER BY stream FOR UPDATE",
        name,
    )
    if any(row["generation"] != status.generation for row in locked):
        raise RebuildError(f"{name} was rebuilt by another process meanwhile; nothing was swapped")
    built = {
        stream: position
        for (of, stream), position in (await positions.positions(session, location.schema)).items()
        if of == name
    }
    for row in locked:
        mine = built.get(row["stream"])
        if mine is not None and mine.stream_created == row["stream_created"] and mine.position < row["position"]:
            if row["position"] - mine.position > _CLOSE:
                raise BehindError
            chunk = Chunk(mine.stream, mine.position, row["position"], {name: mine.position})
            await _catch_up(session, staging, chunk, on_skipped)
    reached = [
        position for (of, _), position in (await positions.positions(session, location.schema)).items() if of == name
    ]
    await _exchange(session, status, location.schema, generation)
    await positions.replace(session, live, [position._replace(generation=generation) for position in reached])
    await session.execute(f"DROP TABLE {location.schema}.{TABLE}")
    if not any(table.by_day for table in status.projection.tables):
        await session.execute(f"DROP SCHEMA {location.schema}")
    await positions.notify(session, reached)


async def _catch_up(
    session: asyncpg.Connection[Any], staging: StagingTables, chunk: Chunk, on_skipped: OnSkipped | None
) -> None:
    loader = await staging.loader(session)
    try:
        if on_skipped is not None:
            await loader.fill_leniently(chunk, on_skipped, lambda _: None)
        else:
            await loader.fill_within(chunk, _at_once, lambda _: None)
    except ROW_ERRORS as error:
        raise BehindError from error  # the load outside the swap names the event


async def _at_once() -> None:
    """No other loader is at work."""


async def _exchange(session: asyncpg.Connection[Any], status: ProjectionStatus, built: str, generation: int) -> None:
    """Move the live tables to their generation's schema and the staging tables to the live schema."""
    live, old = status.schema, schemas.build_schema(status.name, status.generation)
    there = [table for table in status.projection.tables if await _exists(session, live, table)]
    views = [view for view in status.projection.views if await _is_view(session, live, view)]
    await _refuse_views(session, live, [*there, *views], {view.name for view in views})
    granted = {view.name: await _grants(session, f"{live}.{view.name}") for view in views}
    # Readers lock a view before its tables, too: in this order neither waits for the other for ever.
    for view in views:
        await session.execute(f"DROP VIEW {live}.{view.name}")
    if there:
        names = ", ".join(f"{live}.{table.name}" for table in there)
        await session.execute(f"LOCK TABLE ONLY {names} IN ACCESS EXCLUSIVE MODE")
        await session.execute(f"CREATE SCHEMA IF NOT EXISTS {old}")
        for table in there:
            await _grant(session, f"{built}.{table.name}", await _grants(session, f"{live}.{table.name}"))
            await session.execute(f"DROP TABLE IF EXISTS {old}.{table.name}")
            await session.execute(f"ALTER TABLE {live}.{table.name} SET SCHEMA {old}")
    for table in status.projection.tables:
        await session.execute(f"ALTER TABLE {built}.{table.name} SET SCHEMA {live}")
    await schemas.make_views(session, live, status.projection)
    for name, rights in granted.items():
        await _grant(session, f"{live}.{name}", rights)
    await schemas.enable_autovacuum(session, live, status.projection)


async def _exists(session: asyncpg.Connection[Any], schema: str, table: Table) -> bool:
    found: bool = await session.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{schema}.{table.name}")
    return found


async def _is_view(session: asyncpg.Connection[Any], schema: str, view: View) -> bool:
    """Whether a projection's view exists. Raises RebuildError when something else has its name."""
    name = f"{schema}.{view.name}"
    kind: bytes | None = await session.fetchval("SELECT relkind FROM pg_class WHERE oid = to_regclass($1)", name)
    if kind not in (None, b"v"):
        raise RebuildError(
            f"the view {view.name} cannot be created, because something else has its name: DROP TABLE {name}, and "
            "rebuild with --resume"
        )
    return kind is not None


async def _refuse_views(
    session: asyncpg.Connection[Any], schema: str, relations: Sequence[Table | View], own: set[str]
) -> None:
    """Raises RebuildError when views other than the projection's `own` depend on its tables and views."""
    views = await session.fetch(
        "SELECT DISTINCT r.ev_class::regclass::text AS name FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid "
        "WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = ANY($1::text[]::regclass[]) "
        "AND r.ev_class <> ALL($2::text[]::regclass[]) ORDER BY 1",
        [f"{schema}.{each.name}" for each in relations],
        [f"{schema}.{name}" for name in own],
    )
    if views:
        names = ", ".join(row["name"] for row in views)
        raise RebuildError(
            f"the views {names} would be lost with the old tables; drop them, rebuild with --resume, create them again"
        )


async def _grants(session: asyncpg.Connection[Any], relation: str) -> list[asyncpg.Record]:
    """The privileges of others than the owner and the writer on a table or view."""
    found: list[asyncpg.Record] = await session.fetch(
        "SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee, "
        "string_agg(a.privilege_type, ', ') AS rights FROM pg_class c, aclexplode(c.relacl) a "
        "WHERE c.oid = $1::text::regclass AND a.grantee <> c.relowner AND pg_get_userbyid(a.grantee) <> $2 GROUP BY 1",
        relation,
        schemas.WRITER,
    )
    return found


async def _grant(session: asyncpg.Connection[Any], relation: str, grants: Sequence[asyncpg.Record]) -> None:
    """Grant what `_grants` found on a relation that takes the other's place."""
    for row in grants:
        await session.execute(f"GRANT {row['rights']} ON {relation} TO {row['grantee']}")


async def _wait_for_snapshots(session: asyncpg.Connection[Any], progress: ReportProgress, seconds: float) -> None:
    """Wait for older transactions to end: a REPEATABLE READ transaction that first reads the table after the swap would
    not see the rows built since its snapshot."""
    mark = await session.fetchval("SELECT pg_current_xact_id()::xid::text")
    deadline = asyncio.get_running_loop().time() + seconds
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
        progress("waiting for transactions that began before", len(older), 0)
        await asyncio.sleep(0.05)


async def drop_generation(session: asyncpg.Connection[Any], name: str, generation: int) -> None:
    """Drop the tables of an old generation, some per transaction, so that none holds many locks."""
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
    """The generations that have a schema, without those in `kept`."""
    rows = await session.fetch(
        "SELECT nspname FROM pg_namespace WHERE nspname ~ $1", f"^{schemas.build_schema(name, 0)[:-1]}[0-9]+$"
    )
    found = [int(row["nspname"].rpartition("_")[2]) for row in rows]
    return sorted(set(found) - set(kept))
