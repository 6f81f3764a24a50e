"""Tables of read models: their columns, key and indexes, and the changes that folds make to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

Row = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(nanoseconds: int) -> datetime:
    """The UTC time of a nanosecond stamp, to the microsecond that Postgres keeps."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


@dataclass(frozen=True)
class Table:
    """A table of a read model. `columns` maps name -> SQL type; every column is NOT NULL unless its type says NULL."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    indexes: tuple[str, ...] = ()

    def ddl(self) -> list[str]:
        """The statements that make the table and its indexes where they are missing."""
        columns = ", ".join(
            f"{name} {kind}" if kind.endswith(" NULL") else f"{name} {kind} NOT NULL"
            for name, kind in self.columns.items()
        )
        made = [f"CREATE TABLE IF NOT EXISTS {self.name} ({columns}, PRIMARY KEY ({', '.join(self.key)}))"]
        for index in self.indexes:
            clause = index if index.startswith("USING ") else f"({index})"
            columns = clause[clause.index("(") :].strip("()")
            label = "_".join(part.split()[0] for part in columns.split(","))
            made.append(f"CREATE INDEX IF NOT EXISTS {self.name}_{label}_idx ON {self.name} {clause}")
        return made

    def array_type(self, column: str) -> str:
        return f"{self.columns[column].removesuffix(' NULL')}[]"


class Insert(NamedTuple):
    """A new row; a second one with the same key is an error."""

    table: Table
    row: Row


class Upsert(NamedTuple):
    """The whole row as it is now."""

    table: Table
    row: Row


class Update(NamedTuple):
    """Some columns of the row with this key."""

    table: Table
    key: tuple[Any, ...]
    columns: Row


class Add(NamedTuple):
    """Amounts added to columns of the row with this key; the row is made when it is missing."""

    table: Table
    key: tuple[Any, ...]
    amounts: dict[str, int]


Change = Insert | Upsert | Update | Add
