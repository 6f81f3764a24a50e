"""Where read models stand in Postgres: schemas, tables, daily partitions, and what the engine may do to them.

The live tables stand in the connection's own schema (`public` unless the DSN says otherwise). A rebuild makes its
tables in a schema `rm_<projection>_<generation>`; the swap moves the tables into the live schema, and their daily
partitions stay where they were made.
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
"""The role that the engine writes rows as: it may insert anywhere, and change only what is not append-only."""

_DDL_LOCK = 0x76696264
_MADE_BY_OTHERS = (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError)


class Place(NamedTuple):
    """The schema of a projection's tables, and the schema of their partitions."""

    schema: str
    parts: str


def build_schema(projection: str, generation: int) -> str:
    """Where a generation of a projection is built, and where its daily partitions live."""
    return f"rm_{projection}_{generation}"


async def live_schema(session: asyncpg.Connection[Any]) -> str:
    """The schema that bare names mean."""
    found: str | None = await session.fetchval("SELECT current_schema()")
    if found is None:
        raise asyncpg.InvalidSchemaNameError("no schema of the search path exists; create one, or mend the DSN")
    return found


async def make_writer(session: asyncpg.Connection[Any]) -> bool:
    """Make the role when it is missing, and let us become it; False when we may not."""
    try:
        if not await session.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", WRITER):
            try:
                await session.execute(f"CREATE ROLE {WRITER} NOLOGIN")
            except _MADE_BY_OTHERS:
                log.debug("projections.role", why="another database of this server made it at the same moment")
        if not await session.fetchval("SELECT pg_has_role(current_user, $1, 'SET')", WRITER):
            await session.execute(f"GRANT {WRITER} TO CURRENT_USER WITH SET TRUE")
    except asyncpg.InsufficientPrivilegeError as error:
        log.warning(
            "projections.unprotected",
            why=f"append-only tables are not protected against UPDATE and DELETE: {error}",
            mend=f"as an administrator: CREATE ROLE {WRITER} NOLOGIN; GRANT {WRITER} TO <our user>",
        )
        return False
    return True


async def grant(session: asyncpg.Connection[Any], schema: str, tables: Iterable[Table], *others: str) -> None:
    """Let the writer do what it needs: nothing but INSERT and SELECT on append-only tables. `others` it may update."""
    await session.execute(f"GRANT USAGE ON SCHEMA {schema} TO {WRITER}")
    for table in tables:
        rights = "SELECT, INSERT" if table.append_only else "SELECT, INSERT, UPDATE, DELETE"
        await session.execute(f"GRANT {rights} ON {schema}.{table.name} TO {WRITER}")
    for name in others:
        await session.execute(f"GRANT SELECT, INSERT, UPDATE ON {schema}.{name} TO {WRITER}")


async def make_tables(
    session: asyncpg.Connection[Any], place: Place, projection: Projection, *, writer: bool, whole: bool
) -> None:
    """Make a projection's tables; the caller holds the transaction.

    Unless `whole`, append-only tables get neither key nor indexes yet and the others only their key: filling is
    faster so, and `finish` makes the rest.
    """
    await session.execute(f"CREATE SCHEMA IF NOT EXISTS {place.schema}")
    if any(table.by_day for table in projection.tables):
        await session.execute(f"CREATE SCHEMA IF NOT EXISTS {place.parts}")
    for table in projection.tables:
        await session.execute(table.create(place.schema))
        if not whole and table.by_day is None:
            # Autovacuum would look at a table that is being filled again and again, and hold up its swap.
            await session.execute(f"ALTER TABLE {place.schema}.{table.name} SET (autovacuum_enabled = off)")
        if whole or not table.append_only:
            await session.execute(table.primary_key(place.schema))
        if whole:
            for statement in table.secondary(place.schema):
                await session.execute(statement)
    if writer:
        await grant(session, place.schema, projection.tables)


async def wake_autovacuum(session: asyncpg.Connection[Any], schema: str, projection: Projection) -> None:
    """Let autovacuum look at tables that were made to be filled, now that they stand where they stay."""
    for table in projection.tables:
        if table.by_day is None:
            await session.execute(f"ALTER TABLE {schema}.{table.name} RESET (autovacuum_enabled)")


async def missing_tables(session: asyncpg.Connection[Any], schema: str, tables: Iterable[Table]) -> list[str]:
    names = [table.name for table in tables]
    rows = await session.fetch(
        "SELECT name FROM unnest($1::text[]) name WHERE to_regclass($2 || '.' || name) IS NULL", names, schema
    )
    return [row["name"] for row in rows]


async def unfinished(session: asyncpg.Connection[Any], schema: str, table: Table) -> list[str]:
    """The statements that are still to be run of a table's key and indexes."""
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
    """Makes the daily partitions of some projections, each when it is first needed."""

    def __init__(self, places: Mapping[str, Place], projections: Sequence[Projection]) -> None:
        """`places` by the projections' names."""
        self._tables = {
            table.name: (table, places[projection.name])
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
        """Learn what there is."""
        for name, (table, place) in self._tables.items():
            self._known[name] = await partition_days(session, place.schema, table)

    def missing(self, wanted: Mapping[str, set[date]]) -> dict[str, set[date]]:
        """What of the wanted days, by table name, is not known to exist."""
        left = {name: days - self._known[name] for name, days in wanted.items()}
        return {name: days for name, days in left.items() if days}

    async def make(self, session: asyncpg.Connection[Any], missing: Mapping[str, set[date]]) -> None:
        """Make partitions, as the owner of the tables, in the caller's transaction. Tell `made` when it committed."""
        await session.execute("SELECT pg_advisory_xact_lock($1)", _DDL_LOCK)
        for name, days in missing.items():
            table, place = self._tables[name]
            for day in sorted(days - await partition_days(session, place.schema, table)):
                for statement in table.partition(place.schema, place.parts, day):
                    await session.execute(statement)

    def made(self, missing: Mapping[str, set[date]]) -> None:
        """These exist for good."""
        for name, days in missing.items():
            self._known[name] |= days
