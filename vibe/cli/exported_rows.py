"""Rows of a read model as CSV or Parquet.

They are streamed from one snapshot of the database: memory does not grow with the rows. Amounts stay exact integers of
micros; CSV adds the decimal beside each, in a column without the ending `_micros`. Times are UTC, in CSV as RFC 3339.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, get_args

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq

from projections.engine.sessions import INDEX_SECONDS
from projections.engine.table import Table, View, timestamp
from projections.models.copy_attempt import COPY_ATTEMPT
from projections.models.ledger_entry import EXECUTABLE_FILL, LEDGER_ENTRY
from vibe.cli.errors import CommandError, errors_about

What = Literal["ledger", "attempts", "fills"]
Format = Literal["parquet", "csv"]
FORMATS = get_args(Format)

TABLES: dict[What, tuple[Table | View, str, str]] = {
    "ledger": (LEDGER_ENTRY, "booked_at", "ledger_entry"),
    "attempts": (COPY_ATTEMPT, "decided_at", "copy_attempt"),
    "fills": (EXECUTABLE_FILL, "filled_at", "ledger_entry"),
}
"""The rows, the column of their time, and the projection that builds them."""
BATCH_ROWS = 10_000
_TYPES = {
    "text": pa.string(),
    "bigint": pa.int64(),
    "integer": pa.int32(),
    "boolean": pa.bool_(),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "text[]": pa.list_(pa.string()),
    "json": pa.string(),
    "jsonb": pa.string(),
}


class NothingToExportError(CommandError):
    """The read model does not exist yet."""


class Exported(NamedTuple):
    """What was written; `position` is the sequence of EXECUTIONS that the read model had reached, None if unknown."""

    file: str
    rows: int
    bytes: int
    position: int | None


async def export_rows(
    database: "asyncpg.Connection[Any]",
    what: What,
    form: Format,
    file: IO[bytes],
    since: tuple[int | None, int | None] = (None, None),
    until: tuple[int | None, int | None] = (None, None),
    progress: Callable[[int, int], None] = lambda done, total: None,
    batch_rows: int = BATCH_ROWS,
) -> Exported:
    """Write a read model's rows to a file, in the order of EXECUTIONS.

    `since` is the first sequence or time to export, `until` the first that is not exported any more: each is (sequence
    of EXECUTIONS, None) or (None, nanoseconds) of the row's own time. Raises NothingToExportError.
    """
    table, time_column, projection = TABLES[what]
    async with database.transaction(isolation="repeatable_read", readonly=True):
        if await database.fetchval("SELECT to_regclass($1)", table.name) is None:
            raise NothingToExportError(
                f"the read model {table.name} is not built yet; `vibe up` or `vibe run projections` builds it"
            )
        position = await _position(database, projection)
        conditions, values = _conditions(time_column, since, until)
        total = await database.fetchval(
            f"SELECT count(*) FROM {table.name} {conditions}", *values, timeout=INDEX_SECONDS
        )
        order = f"ORDER BY sequence, index, {', '.join(table.key)}"
        progress(0, total)
        if form == "csv":
            query = f"SELECT {', '.join(_csv_columns(table))} FROM {table.name} {conditions} {order}"
            written = _Counting(file, lambda rows: progress(min(rows, total), total))
            answer = await database.copy_from_query(
                query, *values, output=written, format="csv", header=True, timeout=INDEX_SECONDS
            )
            rows, size = int(answer.split()[-1]), written.bytes
        else:
            query = f"SELECT {', '.join(_parquet_columns(table))} FROM {table.name} {conditions} {order}"
            rows = await _parquet(
                database, table, query, values, file, position, batch_rows, lambda done: progress(done, total)
            )
            size = file.seek(0, os.SEEK_END)
    return Exported(getattr(file, "name", "-"), rows, size, position)


async def _position(database: "asyncpg.Connection[Any]", projection: str) -> int | None:
    if await database.fetchval("SELECT to_regclass('projection_position')") is None:
        return None
    found: int | None = await database.fetchval(
        "SELECT position FROM projection_position WHERE projection = $1 AND stream = 'EXECUTIONS'", projection
    )
    return found


def _conditions(
    time_column: str, since: tuple[int | None, int | None], until: tuple[int | None, int | None]
) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for (sequence, nanoseconds), sign in ((since, ">="), (until, "<")):
        if sequence is not None:
            values.append(sequence)
            conditions.append(f"sequence {sign} ${len(values)}")
        elif nanoseconds is not None:
            values.append(timestamp(nanoseconds))
            conditions.append(f"{time_column} {sign} ${len(values)}")
    return f"WHERE {' AND '.join(conditions)}" if conditions else "", values


def _csv_columns(table: Table | View) -> list[str]:
    columns = []
    for name, kind in table.columns.items():
        match kind.removesuffix(" NULL"):
            case "timestamptz":
                columns.append(f"""to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS {name}""")
            case "text[]":
                columns.append(f"array_to_string({name}, ' ') AS {name}")
            case _:
                columns.append(name)
        if name.endswith("_micros"):
            # Multiplied, not divided: a quotient would be cut to so many digits, a product is exact.
            columns.append(f"trim_scale({name}::numeric * 0.000001) AS {name.removesuffix('_micros')}")
    return columns


def _parquet_columns(table: Table | View) -> list[str]:
    return [
        f"(extract(epoch FROM {name}) * 1000000)::bigint AS {name}" if kind.startswith("timestamptz") else name
        for name, kind in table.columns.items()
    ]


async def _parquet(
    database: "asyncpg.Connection[Any]",
    table: Table | View,
    query: str,
    values: list[Any],
    file: IO[bytes],
    position: int | None,
    batch_rows: int,
    progress: Callable[[int], None],
) -> int:
    fields = [
        pa.field(name, _TYPES[kind.removesuffix(" NULL")], nullable=kind.endswith(" NULL"))
        for name, kind in table.columns.items()
    ]
    schema = pa.schema(fields, metadata={"vibe.table": table.name, "vibe.position": str(position)})
    rows = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        cursor = await database.cursor(query, *values, timeout=INDEX_SECONDS)
        while fetched := await cursor.fetch(batch_rows, timeout=INDEX_SECONDS):
            columns = [_column(field.type, [row[place] for row in fetched]) for place, field in enumerate(fields)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            rows += len(fetched)
            progress(rows)
    return rows


def _column(kind: Any, values: list[Any]) -> Any:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)


class _Counting:
    """Where COPY writes to: a file, with a count of the lines."""

    def __init__(self, file: IO[bytes], progress: Callable[[int], None]) -> None:
        self._file = file
        self._progress = progress
        self._lines = 0
        self.bytes = 0

    async def __call__(self, data: bytes) -> None:
        self._file.write(data)
        self.bytes += len(data)
        self._lines += data.count(b"\n")
        self._progress(max(0, self._lines - 1))


@asynccontextmanager
async def complete_file(out: Path) -> AsyncIterator[IO[bytes]]:
    """A file that replaces `out` when it is complete; an interruption leaves `out` as it was."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        with errors_about(out), partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.replace(out)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
