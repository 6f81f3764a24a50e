"""The tables of Postgres that are not in the log: those of schemas `vibe_...`, such as API keys and audit events. Read
models are left out, because the log rebuilds them."""

from __future__ import annotations

import io
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct

from vibe.backup.errors import BackupError

_TABLES = r"""
SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname LIKE 'vibe\_%' ORDER BY 1, 2
"""
_IDENTITIES = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = $1 AND table_name = $2 AND is_identity = 'YES'
"""


class TableRows(Struct, frozen=True, kw_only=True):
    """One table: its columns, and its rows as Postgres' COPY text."""

    schema: str
    name: str
    columns: list[str]
    rows: bytes

    @property
    def count(self) -> int:
        return self.rows.count(b"\n")


async def dump(database: asyncpg.Connection[Any]) -> list[TableRows]:
    """All of the tables, as of one time."""
    found = []
    async with database.transaction(isolation="repeatable_read", readonly=True):
        for table in await database.fetch(_TABLES):
            schema, name = table["schema"], table["name"]
            columns = await _columns(database, schema, name)
            held = io.BytesIO()
            await database.copy_from_table(name, schema_name=schema, columns=columns, output=held, format="text")
            found.append(TableRows(schema=schema, name=name, columns=columns, rows=held.getvalue()))
    return found


async def load(database: asyncpg.Connection[Any], tables: list[TableRows]) -> dict[str, int]:
    """Put the rows back, in one transaction; returns the number of rows by table. A table with rows keeps them.

    Raises BackupError when a table that has rows in the backup does not exist, or lacks a column.
    """
    loaded = {}
    async with database.transaction():
        for table in tables:
            whole = f"{table.schema}.{table.name}"
            known = await _columns(database, table.schema, table.name)
            if not table.rows:
                continue
            if missing := set(table.columns).difference(known):
                raise BackupError(
                    f"this version has no column {', '.join(sorted(missing))} in {whole}; restore with the version "
                    "that took the backup"
                )
            if await database.fetchval(f'SELECT EXISTS (SELECT 1 FROM "{table.schema}"."{table.name}")'):
                continue
            await database.copy_to_table(
                table.name,
                schema_name=table.schema,
                columns=table.columns,
                source=io.BytesIO(table.rows),
                format="text",
            )
            for identity in await database.fetch(_IDENTITIES, table.schema, table.name):
                column = identity["column_name"]
                await database.execute(
                    f"SELECT setval(pg_get_serial_sequence('\"{table.schema}\".\"{table.name}\"', '{column}'), "
                    f'(SELECT max("{column}") FROM "{table.schema}"."{table.name}"))'
                )
            loaded[whole] = table.count
    return loaded


async def _columns(database: asyncpg.Connection[Any], schema: str, name: str) -> list[str]:
    rows = await database.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 "
        "AND is_generated = 'NEVER' ORDER BY ordinal_position",
        schema,
        name,
    )
    return [row["column_name"] for row in rows]


def encode(tables: list[TableRows]) -> bytes:
    """The stored bytes."""
    return msgspec.msgpack.encode(tables)


def decode(stored: bytes) -> list[TableRows]:
    """The inverse of `encode`."""
    return msgspec.msgpack.decode(stored, type=list[TableRows])
