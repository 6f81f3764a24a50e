"""The recipe of CONTRIBUTING.md for a read model, applied to a copy of the tree: two files, and the engine builds
it."""

from pathlib import Path

from tests.recipes import apply, copy_tree, run, steps

TREE = (
    *("domain", "streams", "gateways", "handlers", "projections", "vibe", "tests"),
    *("nats.conf", "pyproject.toml"),
)
GENERIC = (
    "tests/projections/test_models.py",
    "tests/projections/test_folds.py",
    "tests/projections/test_models_engine.py::test_the_engine_fills_every_table_with_the_folded_rows",
)
"""Tests of every listed read model: its declaration, its fold, and that the engine builds and verifies it."""


def test_a_read_model(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path, *TREE)
    touched = apply(steps("A read model"), tree)
    assert [path for path in touched if not path.startswith("tests/")] == [
        "projections/models/skip_reason.py",
        "projections/models/__init__.py",
    ]
    specs = [path for path in touched if path.startswith("tests/")]
    run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *specs, *GENERIC)
    listed = run(tree, "-c", "from projections.models import PROJECTIONS; print([each.name for each in PROJECTIONS])")
    assert "'copy_attempt', 'skip_reason', 'position'" in listed
