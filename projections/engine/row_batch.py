"""The changes of a batch of events, merged row by row in order and written in a few statements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from operator import add, itemgetter
from typing import Any, TypeVar

import asyncpg

from projections.engine.mapping import Mapped
from projections.engine.table import Add, Change, Insert, Row, Table, Update, Upsert, Values, picking

Key = tuple[Any, ...]
T = TypeVar("T")

_MANY = 2_000


class RowBatch:
    """Collects changes; `write` stores them in the caller's transaction.

    New rows are written by COPY, other changes by one statement per set of columns, with tables and keys always in the
    same order, because followers of two streams may change the same rows at once. A table is changed either by Add
    alone or by the other changes. `schemas` gives the schema of each table by name; without it the search path decides.
    """

    def __init__(self, schemas: Mapping[str, str] | None = None) -> None:
        self._schemas = schemas or {}
        self._appended: dict[str, list[Values]] = {}
        self._new: dict[str, dict[Key, Values]] = {}
        self._whole: dict[str, dict[Key, Values]] = {}
        self._parts: dict[str, dict[Key, Row]] = {}
        self._sums: dict[str, dict[Key, list[int]]] = {}
        self._tables: dict[str, Table] = {}
        self.appended = 0
        """How many rows of append-only tables are not written yet."""

    def apply(self, changes: Iterable[Change]) -> int:
        """Merge changes in order, all or none; returns their number.

        Raises ValueError for a second insert of a key (in append-only tables Postgres reports it), TypeError for a
        change of an append-only table other than Insert.
        """
        changes = list(changes)
        self._validate(changes)
        self.merge(changes)
        return len(changes)

    def merge(self, changes: Iterable[Change]) -> None:
        """Merge changes without validating them first. When it raises, some are merged: the batch must not be
        written."""
        for change in changes:
            table = change.table
            if table.append_only:
                self._append(table, change)
            elif isinstance(change, Insert):
                self._insert(table, table.values(change.row))
            elif isinstance(change, Upsert):
                self._upsert(table, table.values(change.row))
            elif isinstance(change, Update):
                self._update(table, change)
            else:
                self._add(table, change)

    def take(self, mapped: Mapped, rows: list[Values]) -> None:
        """Merge rows that a Mapped made, in order."""
        table = self._known(mapped.table)
        if mapped.kind is Insert:
            self._appended.setdefault(table.name, []).extend(rows)
            self.appended += len(rows)
        elif mapped.kind is Upsert:
            self._whole.setdefault(table.name, {}).update(zip(map(table.key_of, rows), rows, strict=True))
        else:
            sums, amounts = self._sums.setdefault(table.name, {}), map(table.amounts_of, rows)
            for key, more in zip(map(table.key_of, rows), amounts, strict=True):
                sums[key] = list(map(add, before, more)) if (before := sums.get(key)) is not None else list(more)

    def _append(self, table: Table, change: Change) -> None:
        if not isinstance(change, Insert):
            raise TypeError(f"{table.name} is append-only; a fold may only insert its rows")
        self._appended.setdefault(self._known(table).name, []).append(table.values(change.row))
        self.appended += 1

    def _insert(self, table: Table, row: Values) -> None:
        key, new = table.key_of(row), self._new.setdefault(self._known(table).name, {})
        if key in new or key in self._whole.get(table.name, ()):
            raise ValueError(f"{table.name} {key} is inserted twice")
        new[key] = row
        self._parts.get(table.name, {}).pop(key, None)  # an earlier update had no row to change

    def _upsert(self, table: Table, row: Values) -> None:
        key = table.key_of(row)
        rows = self._new if key in self._new.get(self._known(table).name, ()) else self._whole
        rows.setdefault(table.name, {})[key] = row
        self._parts.get(table.name, {}).pop(key, None)

    def _update(self, table: Table, change: Update) -> None:
        key, name = change.key, self._known(table).name
        for rows in (self._new, self._whole):
            if (row := rows.get(name, {}).get(key)) is not None:
                rows[name][key] = table.values(dict(zip(table.columns, row, strict=True)) | change.columns)
                return
        self._parts.setdefault(name, {}).setdefault(key, {}).update(change.columns)

    def _add(self, table: Table, change: Add) -> None:
        added = self._sums.setdefault(self._known(table).name, {})
        sums = added.get(change.key)
        if sums is None:
            sums = added[change.key] = [0] * len(table.amounts)
        for name, amount in change.amounts.items():
            sums[table.amounts.index(name)] += amount

    def _known(self, table: Table) -> Table:
        self._tables[table.name] = table
        return table

    def _validate(self, changes: list[Change]) -> None:
        fresh: set[tuple[str, Key]] = set()
        for change in changes:
            name = change.table.name
            if change.table.append_only:
                if not isinstance(change, Insert):
                    raise TypeError(f"{name} is append-only; a fold may only insert its rows")
            elif isinstance(change, Insert):
                key = change.table.key_of(change.table.values(change.row))
                if (name, key) in fresh or key in self._new.get(name, {}) or key in self._whole.get(name, {}):
                    raise ValueError(f"{name} {key} is inserted twice")
                fresh.add((name, key))

    def days(self) -> dict[str, set[date]]:
        """The UTC days of the unwritten rows of partitioned tables, by table. Raises TypeError for a row without its
        time."""
        found: dict[str, set[date]] = {}
        for name, table in self._tables.items():
            if table.by_day is not None:
                rows = [*self._appended.get(name, ()), *self._new.get(name, {}).values()]
                rows += self._whole.get(name, {}).values()
                times = list(map(itemgetter(list(table.columns).index(table.by_day)), rows))
                if times and all(type(time) is datetime and time.tzinfo is UTC for time in times):
                    found[name] = {time.date() for time in (min(times), max(times))}
                if len(found.get(name, ())) != 1 and times:  # not all on one day
                    found[name] = {_day(table, time) for time in times}
        return found

    async def write_appended(self, connection: asyncpg.Connection[Any]) -> None:
        """Write the rows of append-only tables and remove them from the batch."""
        appended, self._appended, self.appended = self._appended, {}, 0
        for name, rows in appended.items():
            await self._copy(connection, self._tables[name], rows)

    async def write(self, connection: asyncpg.Connection[Any]) -> None:
        """Write all changes in the caller's transaction."""
        await self.write_appended(connection)
        for name, new in self._new.items():
            await self._copy(connection, self._tables[name], list(new.values()))
        for name, whole in sorted(self._whole.items()):
            table = self._tables[name]
            columns = list(table.columns)
            await self._merge(
                connection,
                table,
                [row for _, row in _ordered(whole)],
                f"INSERT INTO {self._name(table)} ({', '.join(columns)}) SELECT * FROM {{source}} "
                f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET "
                + ", ".join(f"{column} = excluded.{column}" for column in table.amounts),
            )
        for name, parts in sorted(self._parts.items()):
            await self._write_parts(connection, self._tables[name], parts)
        for name, sums in sorted(self._sums.items()):
            await self._write_sums(connection, self._tables[name], sums)

    def _name(self, table: Table) -> str:
        schema = self._schemas.get(table.name)
        return f"{schema}.{table.name}" if schema else table.name

    async def _copy(self, connection: asyncpg.Connection[Any], table: Table, rows: list[Values]) -> None:
        schema = self._schemas.get(table.name)
        await connection.copy_records_to_table(
            table.name, records=rows, columns=list(table.columns), schema_name=schema
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

    async def _write_sums(self, connection: asyncpg.Connection[Any], table: Table, sums: dict[Key, list[int]]) -> None:
        columns = [*table.key, *table.amounts]
        order = picking([columns.index(name) for name in table.columns])
        await self._merge(
            connection,
            table,
            [order((*key, *amounts)) for key, amounts in _ordered(sums)],
            f"INSERT INTO {self._name(table)} AS t ({', '.join(table.columns)}) SELECT * FROM {{source}} "
            f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET "
            + ", ".join(f"{column} = t.{column} + excluded.{column}" for column in table.amounts),
        )

    async def _merge(
        self, connection: asyncpg.Connection[Any], table: Table, records: Sequence[Values], statement: str
    ) -> None:
        """Run a statement on records, passed as arrays when they are few, by COPY when they are many."""
        columns = list(table.columns)
        if len(records) < _MANY:
            return await _unnest(connection, table, columns, records, statement)
        kinds = [_kind(table, column, (record[at] for record in records)) for at, column in enumerate(columns)]
        wide = "_wide" if "numeric" in kinds else ""  # its own name: a temporary table keeps its column types
        if wide:
            kinds = [table.columns[column].removesuffix(" NULL") for column in columns]
        name = f"merging{wide}_{table.name}"
        made = ", ".join(f"{column} {kind}" for column, kind in zip(columns, kinds, strict=True))
        await connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {name} ({made}) ON COMMIT DELETE ROWS")
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


def _kind(table: Table, column: str, values: Iterable[Any]) -> str:
    """The SQL type in which values are sent: a bigint costs a third of a numeric on both sides."""
    kind = table.columns[column].removesuffix(" NULL")
    if kind == "numeric" and all(isinstance(value, int) and abs(value) < 2**63 for value in values):
        return "bigint"
    return kind


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
        wanted, kind = table.columns[column].removesuffix(" NULL"), _kind(table, column, values)
        if kind.endswith("[]"):
            raise TypeError(f"{table.name}.{column} is an array; only new rows may hold arrays")
        casts.append(f"${position + 1}::{kind}[]" + ("" if kind == wanted else f"::{wanted}[]"))
        arguments.append(values)
    await connection.execute(statement.format(source=f"unnest({', '.join(casts)})"), *arguments)
