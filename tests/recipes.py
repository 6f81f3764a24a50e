"""The recipes of CONTRIBUTING.md, applied to a copy of the tree.

A recipe is a section of CONTRIBUTING.md. Its fenced blocks whose info string ends in `file=PATH` are its steps:

    ```python file=projections/models/x.py      a new file with this text; the language does not matter
    ```diff file=domain/checks.py               edits of a file that exists

A diff block holds hunks as `diff -u` prints them, without line numbers: every line begins with a space (kept), `-`
(removed) or `+` (added), an empty line is an empty line that is kept, and a line of `@@` separates two hunks. The kept
and removed lines of a hunk must occur exactly once in the file. Blocks without `file=` are left alone.

    tree = copy_tree(tmp_path, "domain", "tests/domain")
    touched = apply(steps("A guardrail"), tree)
    run(tree, "-m", "pytest", "tests/domain/test_max_positions.py")
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.repository import ROOT, files, name_of

CONTRIBUTING = ROOT / "CONTRIBUTING.md"

_HEADING = re.compile(r"(#+) (.+)")
_TICKS = re.compile(r"(`{3,})(.*)")
_FILE = re.compile(r"(\w+) file=(\S+)")


class RecipeError(ValueError):
    """A recipe that cannot be read or applied."""


class Step(NamedTuple):
    """One block of a recipe: the file it is about, its text, and whether it edits the file or creates it."""

    path: str
    text: str
    edits: bool


def steps(title: str, page: str | None = None) -> list[Step]:
    """The steps under a heading, in order; `page` is the text of CONTRIBUTING.md. Raises RecipeError when none are."""
    found: list[Step] = []
    depth = 0
    ticks, info, block = "", "", list[str]()
    for line in (CONTRIBUTING.read_text() if page is None else page).splitlines():
        if ticks:
            if line.strip() != ticks:
                block.append(line)
                continue
            named = _FILE.fullmatch(info)
            if depth and named:
                found.append(Step(named[2], "\n".join(block) + "\n", named[1] == "diff"))
            ticks, block = "", []
        elif opening := _TICKS.fullmatch(line):
            ticks, info = opening[1], opening[2].strip()
        elif heading := _HEADING.fullmatch(line):
            if heading[2].strip() == title:
                depth = len(heading[1])
            elif depth and len(heading[1]) <= depth:
                break
    if not found:
        raise RecipeError(f"CONTRIBUTING.md has no blocks with file=PATH under a heading {title!r}")
    return found


def apply(recipe: Iterable[Step], tree: Path) -> list[str]:
    """Carry out the steps in a copy of the tree; returns the files that they touched. Raises RecipeError."""
    touched = []
    for step in recipe:
        path = tree / step.path
        if step.edits:
            path.write_text(edited(path.read_text(), step))
        elif path.exists():
            raise RecipeError(f"{step.path} exists already; edit it with a diff block")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text)
        touched.append(step.path)
    return list(dict.fromkeys(touched))


def edited(text: str, step: Step) -> str:
    """The text after every hunk of a diff block. Raises RecipeError where a hunk does not fit exactly once."""
    for hunk in re.split(r"^@@.*\n", step.text, flags=re.MULTILINE):
        lines = hunk.splitlines()
        if not lines:
            continue
        wrong = [line for line in lines if line and line[0] not in " +-"]
        if wrong:
            raise RecipeError(f"{step.path}: expected a line that begins with ' ', '+' or '-'; got {wrong[0]!r}")
        before = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
        after = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
        places = [found.start() for found in re.finditer(f"^{re.escape(before)}", text, re.MULTILINE)]
        if not before or len(places) != 1:
            raise RecipeError(f"{step.path}: expected these lines once, found them {len(places)} times:\n{before}")
        text = text[: places[0]] + after + text[places[0] + len(before) :]
    return text


def copy_tree(to: Path, *names: str) -> Path:
    """Copy these files and folders of the repository, and the `__init__.py` above them; returns the copy's root."""
    tree = to / "tree"
    wanted = tuple(f"{name}/" for name in names)
    above = {f"{parent}/__init__.py" for name in names for parent in Path(name).parents}
    for path in files():
        name = name_of(path)
        if name in names or name in above or name.startswith(wanted):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tree / name)
    return tree


def run(tree: Path, *arguments: str) -> str:
    """Run Python in the copy, with only the copy's modules of this repository; returns its output.

    Raises AssertionError with the output when it fails.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"python {' '.join(arguments)} failed in the copy:\n{output}"
    return output
