"""Every runbook has the same parts in the same order, is in the index, and begins with a command that exists."""

import re
from pathlib import Path

import pytest

from tests.repository import ROOT
from tests.system.many_commands import commands
from vibe.cli import app

FOLDER = ROOT / "docs" / "runbooks"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
PARTS = ["Symptom", "First command", "What you see", "What to do", "Undo"]
COMMANDS = dict(commands(app))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_runbook_has_every_part_in_order(page: Path) -> None:
    assert re.findall(r"^\*\*([^*]+)\*\*", page.read_text(), re.MULTILINE) == PARTS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_first_command_exists(page: Path) -> None:
    found = re.search(r"^\*\*First command\*\*: `vibe ([^`]+)`$", page.read_text(), re.MULTILINE)
    assert found
    words = [word for word in found[1].split() if not word.startswith("-")]
    assert " ".join(words[:2]) in COMMANDS or words[0] in COMMANDS


def test_the_index_names_every_runbook() -> None:
    assert set(re.findall(r"^\| \[([a-z-]+)\.md\]", (FOLDER / "README.md").read_text(), re.MULTILINE)) == {
        page.stem for page in PAGES
    }
