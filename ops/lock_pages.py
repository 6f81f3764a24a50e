"""Makes ui/package-lock.json anew, without any address: not those of packages, and not those of who asks for money.

Usage: python ops/lock_pages.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "ui" / "package-lock.json"
sys.path.insert(0, str(ROOT))

from hatch_build import npm_command  # noqa: E402 - it is beside this folder


def main() -> None:
    """Resolve the packages again and write the lock file."""
    _, npm = npm_command()
    subprocess.run([*npm, "install", "--package-lock-only", "--ignore-scripts"], cwd=LOCK.parent, check=True)
    LOCK.write_text(without_addresses(LOCK.read_text()))


def without_addresses(lock: str) -> str:
    """A lock file with versions and hashes only; `ui/.npmrc` keeps the addresses of packages out of it already."""
    content = json.loads(lock)
    for package in content["packages"].values():
        package.pop("funding", None)
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
