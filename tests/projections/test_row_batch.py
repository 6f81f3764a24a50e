"""The merged changes of a batch give the same rows as the changes applied one by one."""

import copy
import random
from datetime import date, datetime, timedelta, timezone
from typing import Any

import asyncpg
import pytest

from projections.engine.row_batch import RowBatch
from projections.engine.table import Add, Change, Insert, Row, Table, Update, Upsert, timestamp
from projections.models import PROJECTIONS

THING = Table(
    "thing",
    ("kind", "number"),
    {
        "kind": "text",
        "number": "bigint",
        "size": "bigint",
        "label": "text NULL",
        "detail": "jsonb",
        "tags": "text[] NULL",
    },
    ("label", "size, label DESC", "USING gin (tags)"),
)
WHOLE = Table("whole", ("name",), {"name": "text", "size": "bigint", "label": "text NULL", "seen": "boolean"})
SUM = Table("sum_of", ("kind", "name"), {"kind": "text", "name": "text", "a": "bigint", "b": "bigint"})
TABLES = (THING, WHOLE, SUM)

Model = dict[str, dict[tuple[Any, ...], Row]]


def apply_to(model: Model, change: Change) -> None:
    """Apply one change to the model."""
    rows = model[change.table.name]
    blank: Row = dict.fromkeys(change.table.columns)
    match change:
        case Insert():
            rows[tuple(change.row[name] for name in change.table.key)] = blank | change.row
        case Upsert():
            rows[tuple(change.row[name] for name in change.table.key)] = blank | change.row
        case Update() if change.key in rows:
            rows[change.key] |= change.columns
        case Add():
            names = change.table.columns.keys() - set(change.table.key)
            row = rows.setdefault(
                change.key, dict(zip(change.table.key, change.key, strict=True)) | dict.fromkeys(names, 0)
            )
            for name, amount in change.amounts.items():
                row[name] += amount


def any_change(chance: random.Random, model: Model) -> Change:
    """A random change that is valid for the model, on few keys, so that changes of one row are frequent."""
    label = chance.choice([None, "x", "y'z", 'ü"'])
    key = (chance.choice("ab"), chance.randrange(6))
    row = {"kind": key[0], "number": key[1], "size": chance.randrange(100), "label": label, "detail": "[1]"}
    name = chance.choice("pqrst")
    whole = {"name": name, "size": chance.randrange(100), "label": label, "seen": chance.random() < 0.5}
    part = {column: whole[column] for column in chance.sample(["size", "label", "seen"], chance.randint(1, 3))}
    changes: list[Change] = [
        Upsert(WHOLE, whole),
        Update(WHOLE, (name,), part),
        Update(THING, key, {"size": chance.randrange(100)}),
        Update(THING, key, {"label": label, "detail": '{"a": 2}'}),
        Add(SUM, (chance.choice("kl"), name), {"a": chance.randint(-5, 5)}),
        Add(SUM, (chance.choice("kl"), name), {"a": 1, "b": chance.randint(-5, 5)}),
    ]
    if key not in model["thing"]:
        changes.append(Insert(THING, row | {"tags": chance.choice([None, [], ["t", "u"]])}))
    if (name,) not in model["whole"]:
        changes.append(Insert(WHOLE, whole))
    return chance.choice(changes)


async def tables(connection: "asyncpg.Connection[Any]") -> Model:
    found: Model = {}
    for table in TABLES:
        rows = [dict(row) for row in await connection.fetch(f"SELECT * FROM {table.name}")]
        found[table.name] = {tuple(row[name] for name in table.key): row for row in rows}
    return found


@pytest.mark.parametrize("seed", range(8))
async def test_merged_batches_equal_changes_applied_one_by_one(database: str, seed: int) -> None:
    chance = random.Random(seed)
    connection = await asyncpg.connect(database)
    try:
        for table in TABLES:
            for statement in table.ddl("public"):
                await connection.execute(statement)
        model: Model = {table.name: {} for table in TABLES}
        for _ in range(6):
            rows, count = RowBatch(), chance.randint(1, 40)
            for _ in range(count):
                change = any_change(chance, model)
                before = copy.deepcopy(change)
                apply_to(model, change)
                assert rows.apply([change]) == 1
                assert change == before, "a change is not modified"
            async with connection.transaction():
                await rows.write(connection)
            found = await tables(connection)
            assert normal(found) == normal(model)
    finally:
        await connection.close()


def normal(model: Model) -> Model:
    """Without the spaces that Postgres prints in JSON."""
    return {
        name: {
            key: row | ({"detail": row["detail"].replace(" ", "")} if row.get("detail") else {})
            for key, row in rows.items()
        }
        for name, rows in model.items()
    }


def test_a_second_insert_is_refused_with_all_changes_of_its_event() -> None:
    rows = RowBatch()
    row = {"name": "p", "size": 1, "label": None, "seen": True}
    rows.apply([Insert(WHOLE, row)])
    with pytest.raises(ValueError, match=r"whole \('p',\) is inserted twice"):
        rows.apply([Add(SUM, ("k", "n"), {"a": 1}), Insert(WHOLE, row)])
    with pytest.raises(ValueError, match="twice"):
        rows.apply([Insert(WHOLE, row | {"name": "q"}), Insert(WHOLE, row | {"name": "q"})])
    assert rows._sums == {}
    assert list(rows._new["whole"]) == [("p",)]


async def test_an_insert_over_a_stored_row_fails_with_the_whole_batch(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        for statement in WHOLE.ddl("public"):
            await connection.execute(statement)
        row = {"name": "p", "size": 1, "label": None, "seen": True}
        for expected in (None, asyncpg.UniqueViolationError):
            rows = RowBatch()
            rows.apply([Insert(WHOLE, row | {"name": f"new {expected}"}), Insert(WHOLE, row)])
            if expected is None:
                async with connection.transaction():
                    await rows.write(connection)
                continue
            with pytest.raises(expected):
                async with connection.transaction():
                    await rows.write(connection)
        assert await connection.fetchval("SELECT count(*) FROM whole") == 2
    finally:
        await connection.close()


def test_the_statements_of_a_table() -> None:
    made, key, *indexes = THING.ddl("here")
    assert made == (
        "CREATE TABLE here.thing (kind text NOT NULL, number bigint NOT NULL, size bigint NOT NULL, "
        "label text NULL, detail jsonb NOT NULL, tags text[] NULL)"
    )
    assert key == "ALTER TABLE here.thing ADD CONSTRAINT thing_pkey PRIMARY KEY (kind, number)"
    assert indexes == [
        "CREATE INDEX thing_label_idx ON here.thing (label)",
        "CREATE INDEX thing_size_label_idx ON here.thing (size, label DESC)",
        "CREATE INDEX thing_tags_idx ON here.thing USING gin (tags)",
    ]


def test_a_table_is_partitioned_by_a_time_of_its_key() -> None:
    with pytest.raises(ValueError, match="by_day 'at' must be a timestamptz of the key"):
        Table("t", ("id",), {"id": "text", "at": "timestamptz"}, by_day="at")
    with pytest.raises(ValueError, match="by_day"):
        Table("t", ("id", "at"), {"id": "text", "at": "bigint"}, by_day="at")


def test_the_days_of_unwritten_rows() -> None:
    table = Table("t", ("id", "at"), {"id": "text", "at": "timestamptz"}, append_only=True, by_day="at")
    rows = RowBatch()
    late = datetime(2026, 11, 20, 23, 30, tzinfo=timezone(-timedelta(hours=1)))
    rows.apply([Insert(table, {"id": "a", "at": late}), Insert(table, {"id": "b", "at": timestamp(0)})])
    assert rows.days() == {"t": {date(2026, 11, 21), date(1970, 1, 1)}}
    rows.apply([Insert(table, {"id": "c", "at": None})])
    with pytest.raises(TypeError, match=r"t\.at must be a time, not None"):
        rows.days()
    with pytest.raises(TypeError, match="t is append-only"):
        rows.apply([Update(table, ("a", late), {"id": "b"})])


async def test_names_of_tables_and_indexes_are_unique(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        wanted = [table for projection in PROJECTIONS for table in projection.tables]
        for table in wanted:
            for statement in table.ddl("public"):
                await connection.execute(statement)
        found = await connection.fetch("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")
        assert len(found) == sum(1 + len(table.indexes) for table in wanted)
        names = {row["indexname"] for row in found}
        assert {"quote_group_id_idx", "copy_attempt_group_id_idx", "signal_group_signal_ids_idx"} <= names
    finally:
        await connection.close()
