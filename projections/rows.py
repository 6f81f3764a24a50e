"""The changes of a batch, merged per row in order and written in a few statements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from operator import itemgetter
from typing import Any, TypeVar

import asyncpg

from projections.table import Change, Insert, Row, Table, Update, Upsert

Key = tuple[Any, ...]
T = TypeVar("T")

_MANY = 2_000


class Rows:
    """Collects changes; `write` stores them in the caller's transaction: COPY for new rows, one statement per shape
    of change otherwise, tables and keys in one order, because two streams may change the same rows at once. A table is
    changed either by Add alone or by the others.

    `schemas` says in which schema each table stands, by its name; without it the connection's search path decides.
    """

    def __init__(self, schemas: Mapping[str, str] | None = None) -> None:
        self._schemas = schemas or {}
        self._appended: dict[str, list[Row]] = {}
        self._new: dict[str, dict[Key, Row]] = {}
        self._whole: dict[str, dict[Key, Row]] = {}
        self._parts: dict[str, dict[Key, Row]] = {}
        self._sums: dict[str, dict[Key, dict[str, int]]] = {}
        self._tables: dict[str, Table] = {}
        self.appended = 0
        """How many rows of append-only tables wait to be written."""

    def apply(self, changes: Iterable[Change]) -> int:
        """Merge changes in order, all or none; returns how many there were.

        Raises ValueError for a second insert (of append-only tables the database says so), TypeError for a change
        of an append-only table that is no insert.
        """
        changes = list(changes)
        if len(changes) > 1 or (changes and not changes[0].table.append_only):
            self._refuse_second_inserts(changes)
        self.merge(changes)
        return len(changes)

    def merge(self, changes: Iterable[Change]) -> None:
        """The same, faster, and some changes may be merged when it raises: then nothing of this may be written."""
        appended = self._appended
        for change in changes:
            table = change.table
            if table.append_only:
                if (waiting := appended.get(table.name)) is not None and type(change) is Insert:
                    waiting.append(change.row)
                    self.appended += 1
                else:
                    self._append(change)
                continue
            self._tables[table.name] = table
            if isinstance(change, Insert):
                key = _key(change)
                new = self._new.setdefault(table.name, {})
                if key in new or key in self._whole.get(table.name, ()):
                    raise ValueError(f"{table.name} {key} is inserted twice")
                new[key] = change.row
                self._parts.get(table.name, {}).pop(key, None)  # there was no row to update
            elif isinstance(change, Upsert):
                key = _key(change)
                rows = self._new if key in self._new.get(table.name, ()) else self._whole
                rows.setdefault(table.name, {})[key] = change.row
                if table.name in self._parts:
                    self._parts[table.name].pop(key, None)
            elif isinstance(change, Update):
                for rows in (self._new, self._whole):
                    if change.key in rows.get(table.name, ()):
                        rows[table.name][change.key] = rows[table.name][change.key] | change.columns
                        break
                else:
                    self._parts.setdefault(table.name, {}).setdefault(change.key, {}).update(change.columns)
            else:
                added = self._sums.setdefault(table.name, {})
                sums = added.get(change.key)
                if sums is None:
                    added[change.key] = dict(change.amounts)
                else:
                    for name, amount in change.amounts.items():
                        sums[name] = sums.get(name, 0) + amount

    def _append(self, change: Change) -> None:
        if not isinstance(change, Insert):
            raise TypeError(f"{change.table.name} is append-only; a fold may only insert its rows")
        rows = self._appended.get(change.table.name)
        if rows is None:
            rows = self._appended[change.table.name] = []
            self._tables[change.table.name] = change.table
        rows.append(change.row)
        self.appended += 1

    def _refuse_second_inserts(self, changes: list[Change]) -> None:
        fresh: set[tuple[str, Key]] = set()
        for change in changes:
            if change.table.append_only:
                if not isinstance(change, Insert):
                    raise TypeError(f"{change.table.name} is append-only; a fold may only insert its rows")
            elif isinstance(change, Insert):
                name, key = change.table.name, _key(change)
                if (name, key) in fresh or key in self._new.get(name, {}) or key in self._whole.get(name, {}):
                    raise ValueError(f"{name} {key} is inserted twice")
                fresh.add((name, key))

    def days(self) -> dict[str, set[date]]:
        """The UTC days that waiting rows of partitioned tables fall on, by table. Raises TypeError for a row
        without its time."""
        found: dict[str, set[date]] = {}
        for name, table in self._tables.items():
            if table.by_day is not None:
                rows = [*self._appended.get(name, ()), *self._new.get(name, {}).values()]
                rows += self._whole.get(name, {}).values()
                times = [row.get(table.by_day) for row in rows]
                if times and all(type(time) is datetime and time.tzinfo is UTC for time in times):
                    found[name] = {time.date() for time in (min(times), max(times))}
                if len(found.get(name, ())) != 1 and times:  # not all on one day
                    found[name] = {_day(table, time) for time in times}
        return found

    async def write_appended(self, connection: asyncpg.Connection[Any]) -> None:
        """Store the rows of append-only tables and forget them."""
        appended, self._appended, self.appended = self._appended, {}, 0
        for name, rows in appended.items():
            await self._copy(connection, self._tables[name], rows)

    async def write(self, connection: asyncpg.Connection[Any]) -> None:
        """Store everything; the caller holds the transaction."""
        await self.write_appended(connection)
        for name, new in self._new.items():
            await self._copy(connection, self._tables[name], new.values())
        for name, whole in sorted(self._whole.items()):
            table = self._tables[name]
            columns = list(table.columns)
            others = [column for column in columns if column not in table.key]
            await self._merge(
                connection,
                table,
                columns,
                [tuple(map(row.get, columns)) for _, row in _ordered(whole)],
                f"INSERT INTO {self._name(table)} ({', '.join(columns)}) SELECT * FROM {{source}} "
                f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET "
                + ", ".join(f"{column} = excluded.{column}" for column in others),
            )
        for name, parts in sorted(self._parts.items()):
            await self._write_parts(connection, self._tables[name], parts)
        for name, sums in sorted(self._sums.items()):
            await self._write_sums(connection, self._tables[name], sums)

    def _name(self, table: Table) -> str:
        schema = self._schemas.get(table.name)
        return f"{schema}.{table.name}" if schema else table.name

    async def _copy(self, connection: asyncpg.Connection[Any], table: Table, rows: Iterable[Row]) -> None:
        columns = list(table.columns)
        try:
            records = list(map(itemgetter(*columns), rows)) if len(columns) > 1 else None
        except KeyError:  # a column that may be NULL was left out
            records = None
        if records is None:
            records = [tuple(map(row.get, columns)) for row in rows]
        await connection.copy_records_to_table(
            table.name,
            records=records,
            columns=columns,
            schema_name=self._schemas.get(table.name),
        )

    async def _write_parts(self, connection: asyncpg.Connection[Any], table: Table, parts: dict[Key, Row]) -> None:
        shapes: dict[tuple[str, ...], list[list[Any]]] = {}
        for key, row in _ordered(parts):
            shapes.setdefault(tuple(sorted(row)), []).append([*key, *(row[column] for column in sorted(row))])
        for shape, records in shapes.items():
            await _unnest(
                connection,
                table,
                [*table.key, *shape],
                records,
                f"UPDATE {self._name(table)} t SET {', '.join(f'{column} = s.{column}' for column in shape)} "
                f"FROM {{source}} s ({', '.join([*table.key, *shape])}) "
                f"WHERE {' AND '.join(f't.{column} = s.{column}' for column in table.key)}",
            )

    async def _write_sums(
        self, connection: asyncpg.Connection[Any], table: Table, sums: dict[Key, dict[str, int]]
    ) -> None:
        amounts = [column for column in table.columns if column not in table.key]
        columns = [*table.key, *amounts]
        await self._merge(
            connection,
            table,
            columns,
            [(*key, *[row.get(column, 0) for column in amounts]) for key, row in _ordered(sums)],
            f"INSERT INTO {self._name(table)} AS t ({', '.join(columns)}) SELECT * FROM {{source}} "
            f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET "
            + ", ".join(f"{column} = t.{column} + excluded.{column}" for column in amounts),
        )

    async def _merge(
        self,
        connection: asyncpg.Connection[Any],
        table: Table,
        columns: list[str],
        records: Sequence[tuple[Any, ...]],
        statement: str,
    ) -> None:
        """Run a statement on records: as arrays when they are few, by COPY when they are many."""
        if len(records) < _MANY:
            return await _unnest(connection, table, columns, records, statement)
        name = f"merging_{table.name}"
        await connection.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {name} (LIKE {self._name(table)}) ON COMMIT DELETE ROWS"
        )
        await connection.copy_records_to_table(name, records=records, columns=columns, schema_name="pg_temp")
        await connection.execute(statement.format(source=f"(SELECT {', '.join(columns)} FROM pg_temp.{name}) s"))
        await connection.execute(f"TRUNCATE pg_temp.{name}")
        return None


def _ordered(rows: Mapping[Key, T]) -> list[tuple[Key, T]]:
    return sorted(rows.items(), key=itemgetter(0))


def _day(table: Table, time: Any) -> date:
    if not isinstance(time, datetime):
        raise TypeError(f"{table.name}.{table.by_day} must be a time, not {time!r}")
    return time.date() if time.tzinfo is UTC else time.astimezone(UTC).date()


def _key(change: Insert | Upsert) -> Key:
    return tuple(change.row[name] for name in change.table.key)


async def _unnest(
    connection: asyncpg.Connection[Any],
    table: Table,
    columns: list[str],
    records: Sequence[Sequence[Any]],
    statement: str,
) -> None:
    casts, arguments = [], []
    for position, column in enumerate(columns):
        values = [record[position] for record in records]
        kind = table.columns[column].removesuffix(" NULL")
        if kind.endswith("[]"):
            raise TypeError(f"{table.name}.{column} is an array; only new rows may hold arrays")
        if kind == "numeric" and all(isinstance(value, int) and abs(value) < 2**63 for value in values):
            casts.append(f"${position + 1}::bigint[]::numeric[]")  # a third of the work on both sides
        else:
            casts.append(f"${position + 1}::{kind}[]")
        arguments.append(values)
    await connection.execute(statement.format(source=f"unnest({', '.join(casts)})"), *arguments)
