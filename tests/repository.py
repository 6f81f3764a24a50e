"""The files of this repository, for tests about all of them."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def files(*endings: str) -> list[Path]:
    """Every file that is committed or about to be; only those with one of these endings, when some are given."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = [ROOT / name for name in sorted(listed.stdout.splitlines())]
    return [path for path in found if path.is_file() and (not endings or path.suffix in endings)]


def name_of(path: Path) -> str:
    """The path inside the repository, with slashes."""
    return path.relative_to(ROOT).as_posix()
