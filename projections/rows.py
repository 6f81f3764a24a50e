"""The changes of a batch, merged per row in order and written in a few statements."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import asyncpg

from projections.table import Add, Change, Insert, Row, Table, Update, Upsert

Key = tuple[Any, ...]


class Rows:
    """Collects changes; `write` stores them in the caller's transaction: COPY for new rows, one statement per shape
    of change otherwise. A table is changed either by Add alone or by the others."""

    def __init__(self) -> None:
        self._new: dict[str, dict[Key, Row]] = {}
        self._whole: dict[str, dict[Key, Row]] = {}
        self._parts: dict[str, dict[Key, Row]] = {}
        self._sums: dict[str, dict[Key, dict[str, int]]] = {}
        self._tables: dict[str, Table] = {}

    def apply(self, changes: Iterable[Change]) -> int:
        """Merge changes in order, all or none; returns how many there were. Raises ValueError for a second insert."""
        changes = list(changes)
        self._refuse_second_inserts(changes)
        for change in changes:
            table = change.table
            self._tables[table.name] = table
            match change:
                case Insert():
                    key = _key(change)
                    self._new.setdefault(table.name, {})[key] = dict(change.row)
                    self._parts.get(table.name, {}).pop(key, None)  # there was no row to update
                case Upsert():
                    key = _key(change)
                    rows = self._new if key in self._new.get(table.name, {}) else self._whole
                    rows.setdefault(table.name, {})[key] = dict(change.row)
                    self._parts.get(table.name, {}).pop(key, None)
                case Update():
                    for rows in (self._new, self._whole):
                        if change.key in rows.get(table.name, {}):
                            rows[table.name][change.key].update(change.columns)
                            break
                    else:
                        self._parts.setdefault(table.name, {}).setdefault(change.key, {}).update(change.columns)
                case Add():
                    sums = self._sums.setdefault(table.name, {}).setdefault(change.key, {})
                    for name, amount in change.amounts.items():
                        sums[name] = sums.get(name, 0) + amount
        return len(changes)

    def _refuse_second_inserts(self, changes: list[Change]) -> None:
        fresh: set[tuple[str, Key]] = set()
        for change in changes:
            if isinstance(change, Insert):
                name, key = change.table.name, _key(change)
                if (name, key) in fresh or key in self._new.get(name, {}) or key in self._whole.get(name, {}):
                    raise ValueError(f"{name} {key} is inserted twice")
                fresh.add((name, key))

    async def write(self, connection: asyncpg.Connection[Any]) -> None:
        """Store everything; the caller holds the transaction."""
        for name, new in self._new.items():
            table = self._tables[name]
            columns = list(table.columns)
            records = [tuple(row.get(column) for column in columns) for row in new.values()]
            await connection.copy_records_to_table(name, records=records, columns=columns)
        for name, whole in self._whole.items():
            table = self._tables[name]
            others = [column for column in table.columns if column not in table.key]
            await _unnest(
                connection,
                table,
                list(table.columns),
                [[row.get(column) for column in table.columns] for row in whole.values()],
                f"INSERT INTO {name} ({', '.join(table.columns)}) SELECT * FROM {{source}} "
                f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET "
                + ", ".join(f"{column} = excluded.{column}" for column in others),
            )
        for name, parts in self._parts.items():
            await self._write_parts(connection, self._tables[name], parts)
        for name, sums in self._sums.items():
            await self._write_sums(connection, self._tables[name], sums)

    async def _write_parts(self, connection: asyncpg.Connection[Any], table: Table, parts: dict[Key, Row]) -> None:
        shapes: dict[tuple[str, ...], list[list[Any]]] = {}
        for key, row in parts.items():
            shapes.setdefault(tuple(sorted(row)), []).append([*key, *(row[column] for column in sorted(row))])
        for shape, records in shapes.items():
            await _unnest(
                connection,
                table,
                [*table.key, *shape],
                records,
                f"UPDATE {table.name} t SET {', '.join(f'{column} = s.{column}' for column in shape)} "
                f"FROM {{source}} s ({', '.join([*table.key, *shape])}) "
                f"WHERE {' AND '.join(f't.{column} = s.{column}' for column in table.key)}",
            )

    async def _write_sums(
        self, connection: asyncpg.Connection[Any], table: Table, sums: dict[Key, dict[str, int]]
    ) -> None:
        amounts = [column for column in table.columns if column not in table.key]
        await _unnest(
            connection,
            table,
            [*table.key, *amounts],
            [[*key, *(row.get(column, 0) for column in amounts)] for key, row in sums.items()],
            f"INSERT INTO {table.name} ({', '.join([*table.key, *amounts])}) SELECT * FROM {{source}} "
            f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET "
            + ", ".join(f"{column} = {table.name}.{column} + excluded.{column}" for column in amounts),
        )


def _key(change: Insert | Upsert) -> Key:
    return tuple(change.row[name] for name in change.table.key)


async def _unnest(
    connection: asyncpg.Connection[Any], table: Table, columns: list[str], records: list[list[Any]], statement: str
) -> None:
    casts, arguments = [], []
    for position, column in enumerate(columns):
        values = [record[position] for record in records]
        kind = table.columns[column].removesuffix(" NULL")
        if kind.endswith("[]"):
            raise TypeError(f"{table.name}.{column} is an array; only new rows may hold arrays")
        casts.append(f"${position + 1}::{kind}[]")
        arguments.append(values)
    await connection.execute(statement.format(source=f"unnest({', '.join(casts)})"), *arguments)
