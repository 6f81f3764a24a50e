"""Tables of read models (columns, key, indexes), and the changes that folds make to rows."""

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


@lru_cache(maxsize=4096)  # the events of one decision carry the same few times
def timestamp(nanoseconds: int) -> datetime:
    """The UTC datetime of a time in ns, truncated to the microseconds that Postgres keeps."""
    # Positional arguments: the keyword costs as much as all the rest.
    return _EPOCH + timedelta(0, 0, nanoseconds // 1000)


def picking(what: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """itemgetter that returns a tuple for a single item too."""
    if len(what) == 1:
        (only,) = what
        return lambda of: (of[only],)
    return itemgetter(*what)


@dataclass(frozen=True)
class Table:
    """A table of a read model. `columns` maps name -> SQL type; a column is NOT NULL unless its type ends in NULL."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    indexes: tuple[str, ...] = ()
    append_only: bool = False
    """Rows are only inserted: the role that the engine writes as cannot update, delete or truncate them."""
    by_day: str | None = None
    """The timestamptz column of the key by whose UTC day the table is partitioned."""
    fillfactor: int | None = None
    """Percent of each page that new rows fill. A changed row stays in its page while that has space, and then no index
    has to be changed."""

    def __post_init__(self) -> None:
        if self.by_day is not None and (self.by_day not in self.key or self.columns.get(self.by_day) != "timestamptz"):
            raise ValueError(f"{self.name}: by_day {self.by_day!r} must be a timestamptz of the key {self.key}")

    @cached_property
    def amounts(self) -> tuple[str, ...]:
        """The columns outside the key."""
        return tuple(name for name in self.columns if name not in self.key)

    @cached_property
    def key_of(self) -> Callable[[Values], tuple[Any, ...]]:
        """Returns the key of a row's values."""
        return picking([tuple(self.columns).index(name) for name in self.key])

    @cached_property
    def amounts_of(self) -> Callable[[Values], tuple[Any, ...]]:
        """Returns the values outside the key."""
        return picking([tuple(self.columns).index(name) for name in self.amounts])

    def values(self, row: Row) -> Values:
        """A row's values in the order of `columns`; None for missing columns."""
        try:
            return self._whole(row)
        except KeyError:
            return tuple(map(row.get, self.columns))

    @cached_property
    def _whole(self) -> Callable[[Row], Values]:
        return picking(list(self.columns))

    def create(self, schema: str) -> str:
        """The CREATE TABLE statement, without the key."""
        order = list(self.columns.items())
        if self.append_only:
            # Columns of fixed width come first: Postgres finds them without decoding the row, which halves the time
            # that index builds over millions of rows take.
            order.sort(key=lambda column: column[1] not in _FIXED)
        columns = ", ".join(
            f"{name} {kind}" if kind.endswith(" NULL") else f"{name} {kind} NOT NULL" for name, kind in order
        )
        ending = f" PARTITION BY RANGE ({self.by_day})" if self.by_day else self._storage
        return f"CREATE TABLE {schema}.{self.name} ({columns}){ending}"

    @property
    def _storage(self) -> str:
        return f" WITH (fillfactor = {self.fillfactor})" if self.fillfactor else ""

    def primary_key(self, schema: str) -> str:
        """The statement that adds the primary key."""
        return f"ALTER TABLE {schema}.{self.name} ADD CONSTRAINT {self.name}_pkey PRIMARY KEY ({', '.join(self.key)})"

    def secondary(self, schema: str) -> list[str]:
        """The CREATE INDEX statements of the secondary indexes."""
        made = []
        for index in self.indexes:
            clause = index if index.startswith("USING ") else f"({index})"
            columns = clause[clause.index("(") :].strip("()")
            label = "_".join(part.split()[0] for part in columns.split(","))
            made.append(f"CREATE INDEX {self.name}_{label}_idx ON {schema}.{self.name} {clause}")
        return made

    def ddl(self, schema: str) -> list[str]:
        """All statements that create the table with its key and indexes, in order."""
        return [self.create(schema), self.primary_key(schema), *self.secondary(schema)]

    def partition(self, schema: str, parts: str, day: date) -> list[str]:
        """The statements that create one UTC day's partition in the schema `parts` and attach it.

        ATTACH does not block readers and writers; CREATE TABLE ... PARTITION OF would.
        """
        name, following = f"{parts}.{self.name}_{day:%Y%m%d}", day + timedelta(days=1)
        return [
            f"CREATE TABLE {name} (LIKE {schema}.{self.name}){self._storage}",
            f"ALTER TABLE {schema}.{self.name} ATTACH PARTITION {name} "
            f"FOR VALUES FROM ('{day} 00:00:00+00') TO ('{following} 00:00:00+00')",
        ]


@dataclass(frozen=True)
class View:
    """A read model that is computed from tables of its projection when it is read. `columns` as in `Table`, `key` as
    in a table: no two rows have the same. `query` names its tables with the placeholder {schema}."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    query: str

    def create(self, schema: str) -> str:
        """The CREATE VIEW statement."""
        return f"CREATE VIEW {schema}.{self.name} AS {self.query.format(schema=schema)}"


class Insert(NamedTuple):
    """A new row; a second one with the same key is an error."""

    table: Table
    row: Row


class Upsert(NamedTuple):
    """The whole row, inserted or replacing the row with its key."""

    table: Table
    row: Row


class Update(NamedTuple):
    """New values for some columns of the row with this key; no effect when there is no such row."""

    table: Table
    key: tuple[Any, ...]
    columns: Row


class Add(NamedTuple):
    """Amounts added to columns of the row with this key; a missing row is inserted with zeros first."""

    table: Table
    key: tuple[Any, ...]
    amounts: dict[str, int]


Change = Insert | Upsert | Update | Add
