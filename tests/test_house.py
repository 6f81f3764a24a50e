"""The house rules that no linter knows: what files may name, what documents promise, what every command offers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vibe.cli import app, bench_app, config_app, dead_app, streams_app, subscriber_app
from vibe.settings import Settings
from vibe.wiring import STAGES

ROOT = Path(__file__).resolve().parent.parent

INDEX = re.compile(r"(pypi\.(org|io)|pythonhosted\.org|--(extra-)?index-url\s+\S|registry\.npmjs)", re.IGNORECASE)


def committed() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_file_names_a_package_index() -> None:
    own = Path(__file__).resolve()
    named = [
        str(path.relative_to(ROOT))
        for path in committed()
        if path != own and INDEX.search(path.read_text(encoding="utf-8", errors="ignore"))
    ]
    assert not named, f"these files name a package index or its file host: {named}"


def test_the_lock_has_a_hash_for_every_package_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pinned = re.findall(r"^[a-z0-9][^\s=]*==\S+(?:.*?)(?=^[a-z0-9]|\Z)", lock, re.MULTILINE | re.DOTALL)
    assert len(pinned) > 30
    assert all("--hash=sha256:" in entry for entry in pinned)


def test_every_stage_is_a_service_with_a_health_check() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    assert {"nats", "postgres", "streams", *STAGES} == set(services)
    for stage in STAGES:
        assert services[stage]["command"] == ["run", stage]
        assert services[stage]["healthcheck"]["test"] == ["CMD", "vibe", "health"]
    for server in ("nats", "postgres"):
        assert services[server]["healthcheck"]["test"]
    assert services["nats"]["volumes"][0].startswith("./nats.conf:")


def test_nats_acknowledges_what_is_on_disk() -> None:
    assert re.search(r"^\s*sync_interval:\s*always\s*$", (ROOT / "nats.conf").read_text(), re.MULTILINE)


def test_the_readme_names_every_command_setting_and_stage() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in app:
        if not name.startswith("-"):
            assert f"`vibe {name}" in readme, f"README does not name `vibe {name}`"
    for setting in Settings.model_fields:
        assert f"VIBE_{setting.upper()}" in readme, f"README does not name VIBE_{setting.upper()}"
    for stage in STAGES:
        assert f"| {stage} |" in readme


@pytest.mark.parametrize(
    "command",
    [
        *(
            [name]
            for name in app
            if not name.startswith("-") and name not in ("streams", "config", "dead", "bench", "subscriber")
        ),
        *(["streams", name] for name in streams_app if not name.startswith("-")),
        *(["subscriber", name] for name in subscriber_app if not name.startswith("-")),
        *(["bench", name] for name in bench_app if not name.startswith("-")),
        *(["dead", name] for name in dead_app if not name.startswith("-")),
        *(["config", name] for name in config_app if not name.startswith("-")),
    ],
    ids=" ".join,
)
def test_every_command_has_help_with_an_example(command: list[str]) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "vibe", *command, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert f"Example: vibe {' '.join(command)}" in re.sub(r"\s+", " ", shown.stdout)
