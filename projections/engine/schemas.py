"""Schemas, tables, daily partitions and privileges of read models in Postgres.

The live tables are in the connection's own schema (`public` unless the DSN sets a search path). A rebuild creates its
tables in a schema `rm_<projection>_<generation>`; the swap moves the tables into the live schema, while their daily
partitions stay in the schema of their generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import asyncpg
import structlog

from projections.engine.projection import Projection
from projections.engine.table import Table

log = structlog.get_logger()

WRITER = "vibe_writer"
"""The role that the engine writes rows as: it may insert into all tables, and change rows of those that are not
append-only."""

_DDL_LOCK = 0x76696264
_MADE_BY_OTHERS = (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError)


class Location(NamedTuple):
    """The schema of a projection's tables, and the schema of their partitions (`parts`)."""

    schema: str
    parts: str


def build_schema(projection: str, generation: int) -> str:
    """The schema in which a generation of a projection is built and its daily partitions stay."""
    return f"rm_{projection}_{generation}"


async def live_schema(session: asyncpg.Connection[Any]) -> str:
    """The schema that unqualified names resolve to."""
    found: str | None = await session.fetchval("SELECT current_schema()")
    if found is None:
        raise asyncpg.InvalidSchemaNameError("no schema of the search path exists; create one, or correct the DSN")
    return found


async def make_writer(session: asyncpg.Connection[Any]) -> bool:
    """Create the role `vibe_writer` if it is missing and grant it to this session's user; False without the
    privilege."""
    try:
        if not await session.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", WRITER):
            try:
                await session.execute(f"CREATE ROLE {WRITER} NOLOGIN")
            except _MADE_BY_OTHERS:
                log.debug("projections.role", why="another session of this server created it at the same time")
        if not await session.fetchval("SELECT pg_has_role(current_user, $1, 'SET')", WRITER):
            await session.execute(f"GRANT {WRITER} TO CURRENT_USER WITH SET TRUE")
    except asyncpg.InsufficientPrivilegeError as error:
        log.warning(
            "projections.unprotected",
            why=f"append-only tables are not protected against UPDATE and DELETE: {error}",
            fix=f"as an administrator: CREATE ROLE {WRITER} NOLOGIN; GRANT {WRITER} TO <this user>",
        )
        return False
    return True


async def grant(session: asyncpg.Connection[Any], schema: str, tables: Iterable[Table], *others: str) -> None:
    """Grant the writer its privileges: on append-only tables only SELECT and INSERT, on `others` no DELETE."""
    await session.execute(f"GRANT USAGE ON SCHEMA {schema} TO {WRITER}")
    for table in tables:
        rights = "SELECT, INSERT" if table.append_only else "SELECT, INSERT, UPDATE, DELETE"
        await session.execute(f"GRANT {rights} ON {schema}.{table.name} TO {WRITER}")
    for name in others:
        await session.execute(f"GRANT SELECT, INSERT, UPDATE ON {schema}.{name} TO {WRITER}")


async def make_tables(
    session: asyncpg.Connection[Any], location: Location, projection: Projection, *, writer: bool, whole: bool
) -> None:
    """Create a projection's tables; the caller holds the transaction.

    Unless `whole`, append-only tables get neither key nor indexes yet and the others only their key, because loading
    is faster without them; `StagingTables.finish` creates the rest. Views are created only with `whole`.
    """
    await session.execute(f"CREATE SCHEMA IF NOT EXISTS {location.schema}")
    if any(table.by_day for table in projection.tables):
        await session.execute(f"CREATE SCHEMA IF NOT EXISTS {location.parts}")
    for table in projection.tables:
        await session.execute(table.create(location.schema))
        if not whole and table.by_day is None:
            # Autovacuum would process a table that is being loaded again and again, and delay its swap.
            await session.execute(f"ALTER TABLE {location.schema}.{table.name} SET (autovacuum_enabled = off)")
        if whole or not table.append_only:
            await session.execute(table.primary_key(location.schema))
        if whole:
            for statement in table.secondary(location.schema):
                await session.execute(statement)
    if writer:
        await grant(session, location.schema, projection.tables)
    if whole:
        await make_views(session, location.schema, projection)


async def make_views(session: asyncpg.Connection[Any], schema: str, projection: Projection) -> None:
    """Create a projection's views on its tables in the same schema."""
    for view in projection.views:
        await session.execute(view.create(schema))


async def remake_views(session: asyncpg.Connection[Any], schema: str, projection: Projection) -> None:
    """Create a projection's views where an earlier build may have created them already."""
    for view in projection.views:
        await session.execute(f"DROP VIEW IF EXISTS {schema}.{view.name}")
    await make_views(session, schema, projection)


async def enable_autovacuum(session: asyncpg.Connection[Any], schema: str, projection: Projection) -> None:
    """Enable autovacuum for tables that were created with it disabled, once they are loaded."""
    for table in projection.tables:
        if table.by_day is None:
            await session.execute(f"ALTER TABLE {schema}.{table.name} RESET (autovacuum_enabled)")


async def missing_tables(session: asyncpg.Connection[Any], schema: str, projection: Projection) -> list[str]:
    """The names of a projection's tables and views that do not exist."""
    names = [*(table.name for table in projection.tables), *(view.name for view in projection.views)]
    rows = await session.fetch(
        "SELECT name FROM unnest($1::text[]) name WHERE to_regclass($2 || '.' || name) IS NULL", names, schema
    )
    return [row["name"] for row in rows]


async def unfinished(session: asyncpg.Connection[Any], schema: str, table: Table) -> list[str]:
    """The statements for the key and indexes that a table still lacks."""
    found = {
        row["indexname"]
        for row in await session.fetch(
            "SELECT indexname FROM pg_indexes WHERE schemaname = $1 AND tablename = $2", schema, table.name
        )
    }
    statements = [] if f"{table.name}_pkey" in found else [table.primary_key(schema)]
    return statements + [made for made in table.secondary(schema) if made.split()[2] not in found]


async def partition_days(session: asyncpg.Connection[Any], schema: str, table: Table) -> set[date]:
    """The days that a table has partitions for."""
    rows = await session.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::regclass",
        f"{schema}.{table.name}",
    )
    return {date.fromisoformat(row["relname"].rpartition("_")[2]) for row in rows}


class Partitions:
    """Creates the daily partitions of some projections, each when a row first needs it."""

    def __init__(self, locations: Mapping[str, Location], projections: Sequence[Projection]) -> None:
        """`locations` by projection name."""
        self._tables = {
            table.name: (table, locations[projection.name])
            for projection in projections
            for table in projection.tables
            if table.by_day is not None
        }
        self._known: dict[str, set[date]] = {name: set() for name in self._tables}

    @property
    def tables(self) -> list[str]:
        """The names of the partitioned tables."""
        return list(self._tables)

    async def load(self, session: asyncpg.Connection[Any]) -> None:
        """Read which partitions exist."""
        for name, (table, location) in self._tables.items():
            self._known[name] = await partition_days(session, location.schema, table)

    def missing(self, wanted: Mapping[str, set[date]]) -> dict[str, set[date]]:
        """The wanted days, by table name, whose partitions are not known to exist."""
        left = {name: days - self._known[name] for name, days in wanted.items()}
        return {name: days for name, days in left.items() if days}

    async def make(self, session: asyncpg.Connection[Any], missing: Mapping[str, set[date]]) -> None:
        """Create partitions in the caller's transaction, as the owner of the tables. Call `made` after the commit."""
        await session.execute("SELECT pg_advisory_xact_lock($1)", _DDL_LOCK)
        for name, days in missing.items():
            table, location = self._tables[name]
            for day in sorted(days - await partition_days(session, location.schema, table)):
                for statement in table.partition(location.schema, location.parts, day):
                    await session.execute(statement)

    def made(self, missing: Mapping[str, set[date]]) -> None:
        """Remember partitions whose creation was committed."""
        for name, days in missing.items():
            self._known[name] |= days
