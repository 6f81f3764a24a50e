"""`vibe archive` and `vibe export` as their users run them, on a data folder with a history."""

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from projections.engine.table import timestamp
from projections.models.ledger_entry import LEDGER_ENTRY
from streams import topology
from streams.topology import RAW, SIGNALS
from tests.streams.archiving import at, put, spread
from tests.system.command import ends, vibe
from tests.system.test_export_command import created
from vibe.cli.archive import chosen_streams, utc_day
from vibe.cli.errors import UsageError
from vibe.cli.time_arguments import BadTimeError


@pytest.fixture(scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A data folder, its servers running: RAW and SIGNALS of three long closed days, two ledger entries."""
    folder = tmp_path_factory.mktemp("archive") / "data"
    async with ends(folder) as now:
        await topology.apply(now.connection)
        await put(now.connection, RAW, spread([1, 2, 3], 40))
        await put(now.connection, SIGNALS, spread([1], 10))
        await now.database.execute(created(LEDGER_ENTRY))
        for number in (1, 2):
            row = {
                **dict.fromkeys(LEDGER_ENTRY.columns),
                **{name: 0 for name, kind in LEDGER_ENTRY.columns.items() if kind in ("bigint", "integer")},
                **{name: name for name, kind in LEDGER_ENTRY.columns.items() if kind == "text"},
                "entry_id": f"led_{number}",
                "sequence": number,
                "cash_delta_micros": -number * 1_234_567,
                "booked_at": timestamp(at(number, 1.5)),
            }
            await now.database.copy_records_to_table("ledger_entry", records=[tuple(row.values())], columns=list(row))
        yield folder


async def test_archive_query_and_status(folder: Path) -> None:
    ran = await vibe(folder, "archive", "run", "--stream", "raw", "--until", "2026-11-02", "--json")
    assert ran.code == 0, ran.err
    (done,) = ran.json["streams"]
    assert (done["stream"], done["files"], done["events"], done["day"]) == ("RAW", 2, 80, "2026-11-02")
    assert (folder / "archive/RAW/2026-11-01").is_dir()
    metrics = folder / "vibe.prom"
    after = await vibe(folder, "archive", "status", "--json", "--metrics", str(metrics))
    raw = next(one for one in after.json["streams"] if one["stream"] == "RAW")
    assert (after.code, raw["archived_to"], raw["events"], raw["waiting"]) == (0, 80, 80, 40)
    assert 'vibe_archive_archived_sequence{stream="RAW"} 80.0' in metrics.read_text()
    asked = await vibe(
        folder,
        *("archive", "query", "--json"),
        "SELECT time::DATE AS day, count(*) AS events, sum(sequence) AS places, min(time) AS first, any_value(payload) "
        "AS stored FROM raw WHERE data->>'$.subscriber_id' LIKE 'sub-%' GROUP BY 1 ORDER BY 1",
    )
    assert asked.code == 0, asked.err
    assert asked.err == ""
    assert asked.json["columns"] == ["day", "events", "places", "first", "stored"]
    rows = asked.json["rows"]
    assert [(row["day"], row["events"]) for row in rows] == [(f"2026-11-0{number}", 40) for number in (1, 2, 3)]
    assert sum(row["places"] for row in rows) == 120 * 121 // 2
    assert rows[0]["first"] == "2026-11-01T00:18:00Z"
    assert json.loads(rows[0]["stored"])["specversion"] == "1.0"
    shown = await vibe(folder, "archive", "query", "SELECT type, id FROM signals LIMIT 3")
    assert "tests.happened" in shown.out
    assert "3 rows" in shown.out


def test_unknown_streams_and_days_are_reported() -> None:
    assert [one.name for one in chosen_streams("executions")] == ["EXECUTIONS"]
    with pytest.raises(UsageError, match="'LEASES' is no stream with a history; use one of RAW, SIGNALS"):
        chosen_streams("LEASES")
    assert utc_day("2026-11-20") == "2026-11-20"
    with pytest.raises(BadTimeError, match="--until 'yesterday' is not a UTC day such as 2026-11-20"):
        utc_day("yesterday")


async def test_another_log_in_the_same_place_is_refused(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "SIGNALS/2026-10-31/000000000001-000000000009.parquet"
    manifest = {
        "stream": "SIGNALS",
        "day": "2026-10-31",
        "first": 1,
        "last": 9,
        "count": 9,
        "digest": "",
        "schema": 1,
        "created": "2026-10-01T00:00:00Z",
        "file": str(file.relative_to(tmp_path)),
        "bytes": 4,
        "payload_bytes": 9,
        "archived_at": "2026-11-01T00:00:00Z",
    }
    for path, content in ((file, "PAR1"), (tmp_path / "SIGNALS/manifests/000000000001.json", json.dumps(manifest))):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    ran = await vibe(folder, "archive", "run", "--json", settings={"VIBE_ARCHIVE_URL": str(tmp_path)})
    assert ran.code == 1
    assert set(ran.json["failed"]) == {"SIGNALS"}
    assert "of a log that was created at 2026-10-01T00:00:00Z" in ran.json["failed"]["SIGNALS"]
    # The other streams are archived all the same.
    assert {one["stream"]: one["events"] for one in ran.json["streams"]} == {
        **dict.fromkeys(("GROUPS", "REQUESTS", "EXECUTIONS", "CONFIG", "DEAD", "DISCOVERY"), 0),
        "RAW": 120,
    }


async def test_export(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "ledger.csv"
    done = await vibe(folder, "export", "ledger", "--format", "csv", "--out", str(out), "--json")
    assert done.code == 0, done.err
    assert done.json == {"file": str(out), "rows": 2, "bytes": out.stat().st_size, "position": None}
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [(row["entry_id"], row["cash_delta_micros"], row["cash_delta"]) for row in rows] == [
        ("led_1", "-1234567", "-1.234567"),
        ("led_2", "-2469134", "-2.469134"),
    ]
    assert rows[0]["booked_at"] == "2026-11-01T00:00:01.500000Z"
    piped = await vibe(folder, "export", "ledger", "--since", "2", "--format", "csv", "--out", "-")
    assert [line.split(",")[0] for line in piped.out.splitlines()] == ["entry_id", "led_2"]
    missing = await vibe(folder, "export", "fills", "--out", str(tmp_path / "fills.parquet"))
    assert missing.code == 1
    assert "executable_fill is not built yet; `vibe up` or `vibe run projections`" in missing.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.csv"]


async def test_the_name_of_an_export_gives_its_format(folder: Path, tmp_path: Path) -> None:
    for name, beginning in (("x.csv", b"entry_id,"), ("x.parquet", b"PAR1"), ("x", b"PAR1")):
        ended = await vibe(folder, "export", "ledger", "--out", str(tmp_path / name))
        assert ended.code == 0, ended.err
        assert (tmp_path / name).read_bytes().startswith(beginning)
