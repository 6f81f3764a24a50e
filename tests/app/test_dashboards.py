"""Dashboards: as the table makes them, and every query is one of PromQL over metrics that exist."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.app.prometheus_names import existing, used
from tests.repository import ROOT
from vibe.app.dashboards import DASHBOARDS, Dashboard, page, text

FOLDER = ROOT / "ops" / "grafana"
PROMTOOL = shutil.which("promtool")
QUERIES = [query for dashboard in DASHBOARDS for panel in dashboard.panels for query, _ in panel.queries]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_the_file_is_as_the_table_makes_it(dashboard: Dashboard) -> None:
    assert (FOLDER / f"{dashboard.name}.json").read_text() == text(dashboard), "run: python -m vibe.app.dashboards"
    panels = page(dashboard)["panels"]
    assert len({panel["id"] for panel in panels}) == len({str(panel["gridPos"]) for panel in panels}) == len(panels)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels)


def test_no_other_dashboard_is_there() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {dashboard.name for dashboard in DASHBOARDS}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_that_exist(query: str) -> None:
    assert used(query)
    assert used(query) <= existing()


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    rules = [{"record": f"query{number}", "expr": query} for number, query in enumerate(QUERIES)]
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    assert PROMTOOL is not None
    ran = subprocess.run([PROMTOOL, "check", "rules", file], capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
