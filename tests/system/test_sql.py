"""`vibe sql`: psql on the read models of a data folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.system.command import ends, vibe
from vibe.app.settings import Settings
from vibe.cli import sql


@pytest.fixture(scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A data folder, its servers running, with a table of two rows."""
    folder = tmp_path_factory.mktemp("sql") / "data"
    async with ends(folder) as at:
        await at.database.execute("CREATE TABLE copy_attempt (decision text)")
        await at.database.execute("INSERT INTO copy_attempt VALUES ('EXECUTE'), ('SKIP')")
        yield folder


async def test_a_query_and_psqls_own_options(folder: Path) -> None:
    counted = await vibe(folder, "sql", "SELECT count(*) AS decisions FROM copy_attempt")
    assert counted.code == 0, counted.err
    assert counted.out.split() == ["decisions", "-----------", "2", "(1", "row)"]
    as_csv = await vibe(folder, "sql", "--", "--csv", "-c", "SELECT decision FROM copy_attempt ORDER BY 1")
    assert (as_csv.code, as_csv.out) == (0, "decision\nEXECUTE\nSKIP\n")
    two = await vibe(folder, "sql", "SELECT 1", "SELECT 2")
    assert (two.code, two.err) == (2, "vibe: give one query, in quotes, or options of psql after --\n")


async def test_nothing_can_be_written(folder: Path) -> None:
    refused = await vibe(folder, "sql", "DELETE FROM copy_attempt")
    assert refused.code == 1
    assert "cannot execute DELETE in a read-only transaction" in refused.err


async def test_the_dsn_is_printed_where_asked_for_and_where_psql_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = await vibe(folder, "sql", "--print-dsn")
    assert printed.code == 0
    assert printed.out.startswith("postgresql://vibe:")
    monkeypatch.setattr(sql, "psql_path", lambda: None)
    assert await sql.run_sql(Settings(data_dir=folder), [], print_dsn=False) == 1
    missing = capsys.readouterr()
    assert missing.out.splitlines()[-1:] == printed.out.splitlines()
    assert missing.err.startswith("psql is not installed")
