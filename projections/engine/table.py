"""Tables of read models: their columns, key and indexes, and the changes that folds make to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

Row = dict[str, Any]
Values = tuple[Any, ...]
"""A row's values in the order of its table's columns."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_FIXED = ("timestamptz", "bigint", "integer", "date", "boolean")


@lru_cache(maxsize=4096)  # events of one decision carry the same few times
def timestamp(nanoseconds: int) -> datetime:
    """The UTC time of a nanosecond stamp, to the microsecond that Postgres keeps."""
    # By position, because the name costs as much as all the rest.
    return _EPOCH + timedelta(0, 0, nanoseconds // 1000)


def picking(what: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """itemgetter, which gives a tuple for a single item too."""
    if len(what) == 1:
        (only,) = what
        return lambda of: (of[only],)
    return itemgetter(*what)


@dataclass(frozen=True)
class Table:
    """A table of a read model. `columns` maps name -> SQL type; every column is NOT NULL unless its type says NULL."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    indexes: tuple[str, ...] = ()
    append_only: bool = False
    """Rows are only ever inserted; the engine has no privilege to change or delete one."""
    by_day: str | None = None
    """The timestamptz column, one of the key's, by whose UTC day the table is partitioned."""

    def __post_init__(self) -> None:
        if self.by_day is not None and (self.by_day not in self.key or self.columns.get(self.by_day) != "timestamptz"):
            raise ValueError(f"{self.name}: by_day {self.by_day!r} must be a timestamptz of the key {self.key}")

    @cached_property
    def amounts(self) -> tuple[str, ...]:
        """The columns that are not of the key."""
        return tuple(name for name in self.columns if name not in self.key)

    @cached_property
    def key_of(self) -> Callable[[Values], tuple[Any, ...]]:
        """Gives the key of a row's values."""
        return picking([tuple(self.columns).index(name) for name in self.key])

    @cached_property
    def amounts_of(self) -> Callable[[Values], tuple[Any, ...]]:
        """Gives what is not of the key of a row's values."""
        return picking([tuple(self.columns).index(name) for name in self.amounts])

    def values(self, row: Row) -> Values:
        """A row's values in the order of `columns`; None for what it leaves out."""
        try:
            return self._whole(row)
        except KeyError:
            return tuple(map(row.get, self.columns))

    @cached_property
    def _whole(self) -> Callable[[Row], Values]:
        return picking(list(self.columns))

    def create(self, schema: str) -> str:
        """The statement that makes the table, without its key."""
        order = list(self.columns.items())
        if self.append_only:
            # Of millions of rows, what is of a fixed width stands first: Postgres finds it without walking the row,
            # which makes the indexes in half the time.
            order.sort(key=lambda column: column[1] not in _FIXED)
        columns = ", ".join(
            f"{name} {kind}" if kind.endswith(" NULL") else f"{name} {kind} NOT NULL" for name, kind in order
        )
        partitioned = f" PARTITION BY RANGE ({self.by_day})" if self.by_day else ""
        return f"CREATE TABLE {schema}.{self.name} ({columns}){partitioned}"

    def primary_key(self, schema: str) -> str:
        """The statement that makes the key."""
        return f"ALTER TABLE {schema}.{self.name} ADD CONSTRAINT {self.name}_pkey PRIMARY KEY ({', '.join(self.key)})"

    def secondary(self, schema: str) -> list[str]:
        """The statements that make the other indexes."""
        made = []
        for index in self.indexes:
            clause = index if index.startswith("USING ") else f"({index})"
            columns = clause[clause.index("(") :].strip("()")
            label = "_".join(part.split()[0] for part in columns.split(","))
            made.append(f"CREATE INDEX {self.name}_{label}_idx ON {schema}.{self.name} {clause}")
        return made

    def ddl(self, schema: str) -> list[str]:
        """Every statement, in order."""
        return [self.create(schema), self.primary_key(schema), *self.secondary(schema)]

    def partition(self, schema: str, parts: str, day: date) -> list[str]:
        """The statements that make one day's partition in the schema `parts`, and attach it.

        Attaching lets readers and writers go on; making it as PARTITION OF would lock them out.
        """
        name, following = f"{parts}.{self.name}_{day:%Y%m%d}", day + timedelta(days=1)
        return [
            f"CREATE TABLE {name} (LIKE {schema}.{self.name})",
            f"ALTER TABLE {schema}.{self.name} ATTACH PARTITION {name} "
            f"FOR VALUES FROM ('{day} 00:00:00+00') TO ('{following} 00:00:00+00')",
        ]


class Insert(NamedTuple):
    """A new row; a second one with the same key is an error."""

    table: Table
    row: Row


class Upsert(NamedTuple):
    """The whole row as it is now."""

    table: Table
    row: Row


class Update(NamedTuple):
    """Some columns of the row with this key; nothing when there is no such row."""

    table: Table
    key: tuple[Any, ...]
    columns: Row


class Add(NamedTuple):
    """Amounts added to columns of the row with this key; the row is made when it is missing."""

    table: Table
    key: tuple[Any, ...]
    amounts: dict[str, int]


Change = Insert | Upsert | Update | Add
