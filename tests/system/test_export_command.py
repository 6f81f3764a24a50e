"""`vibe export` against Postgres: every column of every table, exact, whole or not at all."""

import asyncio
import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vibe.cli.exported_rows as rows_module
from projections.engine.table import Table, View
from vibe.cli.exported_rows import Format, NothingToExportError, What, complete_file, export_rows
from vibe.cli.time_arguments import BadTimeError, time_argument

NOON = datetime(2026, 11, 1, 12, 0, 0, 1, tzinfo=UTC)
LARGEST = 2**63 - 1
VALUES: dict[str, Any] = {
    "text": 'a "quoted", \u2713 text\nin two lines',
    "bigint": -LARGEST,
    "integer": -(2**31),
    "timestamptz": NOON,
    "text[]": ["ONE", "TWO"],
    "json": '{"checks": [1, 2]}',
    "jsonb": '{"checks": [1, 2]}',
    "boolean": True,
}


def row(table: Table | View, number: int, time_column: str) -> dict[str, Any]:
    made = {
        name: None if kind.endswith(" NULL") and number % 2 else VALUES[kind.removesuffix(" NULL")]
        for name, kind in table.columns.items()
    }
    made["sequence"] = number
    made[next(iter(table.columns))] = f"id_{number:05d}"
    made[time_column] = NOON.replace(day=number % 28 + 1)
    return made


def created(table: Table | View) -> str:
    return f"CREATE TABLE {table.name} ({', '.join(f'{name} {kind}' for name, kind in table.columns.items())})"


async def filled(dsn: str, what: What, count: int) -> "asyncpg.Connection[Any]":
    """A database with a read model of so many rows."""
    table, time_column, projection = rows_module.TABLES[what]
    database: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
    await database.execute(created(table))
    await database.execute("CREATE TABLE projection_position (projection text, stream text, position bigint)")
    rows = [row(table, number, time_column) for number in range(count, 0, -1)]
    records = [tuple(one.values()) for one in rows]
    await database.copy_records_to_table(table.name, records=records, columns=list(table.columns))
    await database.execute("INSERT INTO projection_position VALUES ($1, 'EXECUTIONS', 77)", projection)
    return database


async def exported(database: "asyncpg.Connection[Any]", what: What, form: Format, **options: Any) -> bytes:
    file = io.BytesIO()
    done = await export_rows(database, what, form, file, **options)
    assert done.bytes == len(file.getvalue())
    assert done.position == 77
    return file.getvalue()


@pytest.mark.parametrize("what", ["ledger", "attempts", "fills"])
async def test_every_column_comes_out_exactly(database: str, what: What) -> None:
    connection = await filled(database, what, 3)
    table, time_column, _ = rows_module.TABLES[what]
    expected = [row(table, number, time_column) for number in (1, 2, 3)]
    read = pq.read_table(io.BytesIO(await exported(connection, what, "parquet")))
    assert read.column_names == list(table.columns)
    assert read.to_pylist() == expected
    assert read.schema.field(time_column).type == pa.timestamp("us", tz="UTC")
    assert read.schema.metadata[b"vibe.position"] == b"77"
    lines = list(csv.DictReader(io.StringIO((await exported(connection, what, "csv")).decode(), newline="")))
    for line, facts in zip(lines, expected, strict=True):
        for name, value in facts.items():
            match value:
                case None:
                    assert line[name] == ""
                case datetime():
                    assert line[name] == value.strftime("%Y-%m-%dT%H:%M:%S.000001Z")
                case list():
                    assert line[name] == "ONE TWO"
                case int() if name.endswith("_micros"):
                    assert int(line[name]) == value
                    assert line[name.removesuffix("_micros")] == "-9223372036854.775807"
                case _:
                    assert line[name].replace('": [', '":[') == str(value).replace('": [', '":[')
    if what == "attempts":
        assert json.loads(lines[0]["checks"]) == {"checks": [1, 2]}
    await connection.close()


async def test_since_and_until_meet_without_gap_or_overlap(database: str) -> None:
    connection = await filled(database, "ledger", 20)

    async def ids(**options: Any) -> list[str]:
        table = pq.read_table(io.BytesIO(await exported(connection, "ledger", "parquet", **options)))
        found: list[str] = table.column("entry_id").to_pylist()
        return found

    whole = await ids()
    assert whole == [f"id_{number:05d}" for number in range(1, 21)]
    assert await ids(until=(7, None)) + await ids(since=(7, None)) == whole
    noon = int(NOON.replace(day=11).timestamp()) * 10**9 + 1000
    assert await ids(until=(None, noon)) + await ids(since=(None, noon)) == whole
    assert await ids(since=(None, noon), until=(None, noon + 1000)) == ["id_00010"]
    assert await ids(since=(5, None), until=(5, None)) == []
    await connection.close()


def test_a_wrong_time_is_reported_with_its_option() -> None:
    assert time_argument("12", "--since") == (12, None)
    assert time_argument("1970-01-02", "--until") == (None, 86_400 * 10**9)
    with pytest.raises(BadTimeError, match="--since 'yesterday' is neither a sequence of EXECUTIONS"):
        time_argument("yesterday", "--since")


async def test_many_rows_are_streamed(database: str) -> None:
    connection = await filled(database, "fills", 1050)
    reported: list[tuple[int, int]] = []
    read = pq.ParquetFile(
        io.BytesIO(
            await exported(connection, "fills", "parquet", progress=lambda *now: reported.append(now), batch_rows=100)
        )
    )
    assert (read.metadata.num_rows, read.num_row_groups) == (1050, 11)
    assert reported == [(0, 1050), *((done, 1050) for done in (*range(100, 1100, 100), 1050))]
    reported.clear()
    await exported(connection, "fills", "csv", progress=lambda *now: reported.append(now))
    assert reported[-1] == (1050, 1050)
    await connection.close()


async def test_a_read_model_that_is_not_built_is_reported(database: str) -> None:
    connection = await asyncpg.connect(database)
    with pytest.raises(
        NothingToExportError, match="ledger_entry is not built yet; `vibe up` or `vibe run projections`"
    ):
        await export_rows(connection, "ledger", "csv", io.BytesIO())
    await connection.close()


@pytest.mark.parametrize("interruption", [asyncio.CancelledError, KeyboardInterrupt, OSError])
async def test_an_interrupted_export_leaves_what_was_there(tmp_path: Path, interruption: type[BaseException]) -> None:
    out = tmp_path / "ledger.csv"
    out.write_text("of yesterday")

    async def interrupted() -> None:
        async with complete_file(out) as file:
            file.write(b"half")
            raise interruption

    with pytest.raises(interruption):
        await interrupted()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("ledger.csv", "of yesterday")]
    async with complete_file(out) as file:
        file.write(b"whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("ledger.csv", "whole")]
