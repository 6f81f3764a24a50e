"""Rules of this repository that no linter checks: what files may name, and what services and commands must have."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.repository import ROOT, files, name_of
from tests.system.many_commands import commands
from vibe.app.wiring import STAGES
from vibe.cli import app

INDEX = re.compile(r"(pypi\.(org|io)|pythonhosted\.org|--(extra-)?index-url\s+\S|registry\.npmjs)", re.IGNORECASE)


def test_no_file_names_a_package_index() -> None:
    own = Path(__file__).resolve()
    named = [
        name_of(path)
        for path in files()
        if path != own and INDEX.search(path.read_text(encoding="utf-8", errors="ignore"))
    ]
    assert not named, f"these files name a package index or its file host: {named}"


def test_the_lock_of_the_pages_has_a_hash_for_every_package_and_no_address() -> None:
    lock = (ROOT / "ui" / "package-lock.json").read_text()
    assert "://" not in lock
    packages = {name: one for name, one in json.loads(lock)["packages"].items() if name}
    assert len(packages) > 50
    assert [name for name, one in packages.items() if not one.get("integrity", "").startswith("sha512-")] == []


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


def test_the_image_holds_every_package_and_file_that_the_build_needs() -> None:
    dockerfile = (ROOT / "ops/Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE) for name in line.split()[:-1]}
    packages = {"domain", "streams", "gateways", "handlers", "projections", "vibe"}
    assert copied == packages | {
        "requirements.lock",
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "nats.conf",
    }


def test_nats_acknowledges_what_is_on_disk() -> None:
    assert re.search(r"^\s*sync_interval:\s*always\s*$", (ROOT / "nats.conf").read_text(), re.MULTILINE)


COMMANDS = dict(commands(app))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    text = re.sub(r"\s+", " ", COMMANDS[name].default_command.__doc__ or "")
    assert f"Example: vibe {name}" in text


def test_help_is_shown() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "vibe", "trace", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "Example: vibe trace" in shown.stdout
