"""Every import contract of pyproject.toml holds, and is broken by the imports that it forbids."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.recipes import copy_tree
from tests.repository import ROOT

LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
NAMES = [contract["name"] for contract in LINTER["contracts"]]

FORBIDDEN: dict[str, tuple[tuple[str, str], ...]] = {
    "Arrows run one way: domain <- streams, gateways <- handlers, projections <- vibe": (
        ("domain/micros.py", "import streams.subjects"),
        ("streams/subjects.py", "import gateways.registry"),
        ("gateways/registry.py", "import streams.subjects"),
        ("handlers/plan.py", "import projections.queries.fetch"),
        ("projections/engine/table.py", "import handlers.live.event_codec"),
        ("projections/queries/fetch.py", "import vibe.app.clock"),
    ),
    "The domain touches nothing but the language and its message types": (
        ("domain/portfolio.py", "import asyncio"),
        ("domain/ids.py", "from uuid import uuid4"),
    ),
    "One package touches the eventsourcing library": (
        ("projections/engine/projection.py", "from eventsourcing.projection import Projection"),
    ),
    "Stages, ingest and services do not import each other, and handlers.live none of them": (
        ("handlers/plan.py", "import handlers.match"),
        ("handlers/group.py", "import handlers.ingest"),
        ("handlers/live/mark_prices.py", "import handlers.services.config_file"),
    ),
    "The engine of read models knows no read model, and read models know no query": (
        ("projections/engine/runner.py", "from projections.models import PROJECTIONS"),
        ("projections/engine/status.py", "import projections.queries.system"),
        ("projections/models/position.py", "import projections.queries.portfolios"),
    ),
    "Read models do not import each other": (
        ("projections/models/position.py", "from projections.models.copy_attempt import COPY_ATTEMPT"),
    ),
    "The web process runs no stage, reaches no venue and appends only through services and dead letters": (
        ("vibe/web/site.py", "from handlers.plan import Plan"),
        ("vibe/web/api/control.py", "from streams.append import append"),
        ("vibe/web/api/markets.py", "import gateways.registry"),
    ),
    "Nothing in streams imports its processing, archive or eventsourcing": (
        ("streams/append.py", "import streams.processing.checkpoint"),
        ("streams/processing/stage.py", "import streams.archive.manifest"),
        ("streams/archive/store.py", "import streams.eventsourcing"),
    ),
}
"""By contract: files, and an import that each of them must not have."""


def broken(tree: Path) -> set[str]:
    """The names of the contracts that a copy of the packages breaks."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    output = done.stdout + done.stderr
    found = {name for name in NAMES if re.search(rf"^{re.escape(name)} *BROKEN", output, re.MULTILINE)}
    kept = {name for name in NAMES if re.search(rf"^{re.escape(name)} *KEPT", output, re.MULTILINE)}
    assert found | kept == set(NAMES), output
    return found


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("packages"), *LINTER["root_packages"], "pyproject.toml")


def test_every_contract_has_a_forbidden_import() -> None:
    assert set(FORBIDDEN) == set(NAMES), "FORBIDDEN needs an entry for each contract of pyproject.toml, and no other"


def test_the_contracts_hold(packages: Path) -> None:
    assert broken(packages) == set()


@pytest.mark.parametrize(
    ("name", "file", "line"), [(name, *each) for name, imports in FORBIDDEN.items() for each in imports]
)
def test_a_forbidden_import_breaks_its_contract(
    packages: Path, tmp_path: Path, name: str, file: str, line: str
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(packages, tree)
    path = tree / file
    path.write_text(f"{path.read_text()}\n{line}\n")
    assert name in broken(tree)
