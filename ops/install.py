"""Make the virtual environment of `make demo` and show the progress.

Usage: python3 ops/install.py VENV

Prints at once what it does, and then how far it is: every second on a terminal, every three seconds elsewhere. The
installer's own output goes to VENV/install.log; its end is shown when something fails. uv is used where there is one,
else pip. Runs before anything is installed, so it imports the standard library only.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"


def main(venv: Path) -> int:
    """Create `venv` and install the locked packages and this project into it; returns the exit code."""
    began = time.monotonic()
    venv.mkdir(parents=True, exist_ok=True)
    log = venv / "install.log"
    log.write_text("")
    uv = shutil.which("uv")
    total = locked(LOCK.read_text())
    tool = "uv" if uv else "pip"
    print(f"installing {total} packages into {venv} with {tool}, once; it takes about a minute", flush=True)
    status = Status(began)
    python = str(venv / "bin" / "python")
    if uv:
        create = [uv, "venv", "--allow-existing", "--python", sys.executable, str(venv)]
        install = [uv, "pip", "install", "--python", python]
    else:
        create = [sys.executable, "-m", "venv", str(venv)]
        install = [python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    for command in (
        create,
        [*install, "--require-hashes", "-r", str(LOCK)],
        [*install, "--no-build-isolation", "--no-deps", "-e", str(ROOT)],
    ):
        code = run(command, log, lambda: status.show(progress(log, venv, total)))
        if code != 0:
            status.clear()
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            print(f"{tail}\ninstalling failed with exit code {code}; the whole output is in {log}", file=sys.stderr)
            return 1
    status.clear()
    print(f"installed in {time.monotonic() - began:.0f} s", flush=True)
    return 0


def run(command: list[str], log: Path, show: Callable[[], None]) -> int:
    """Run `command` to its end with its output in `log`, and show the progress meanwhile; returns its exit code."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                show()
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.terminate()
    return process.wait()


class Status:
    """One line that is overwritten on a terminal; elsewhere a line each time."""

    def __init__(self, began: float) -> None:
        self._began = self._shown = began
        self._terminal = sys.stdout.isatty()

    def show(self, line: str) -> None:
        """Print `line` and the time since the start, unless the last one is too recent."""
        now = time.monotonic()
        if now - self._shown < (1.0 if self._terminal else 3.0):
            return
        self._shown = now
        text = f"  {line} ({now - self._began:.0f} s)"
        print(f"\r\033[K{text}" if self._terminal else text, end="" if self._terminal else "\n", flush=True)

    def clear(self) -> None:
        """Remove the line from a terminal."""
        if self._terminal:
            print("\r\033[K", end="", flush=True)


def locked(lock: str) -> int:
    """How many packages a lock file names."""
    return len(re.findall(r"^[A-Za-z0-9][^\s=]*==", lock, re.MULTILINE))


def progress(log: Path, venv: Path, total: int) -> str:
    """How far an installation is, by the installer's output in `log` and by what it has put into `venv` so far."""
    output = log.read_text(errors="replace")
    installed = sum(1 for _ in venv.glob("lib/python*/site-packages/*.dist-info"))
    if installed > 3:  # pip and setuptools, which come with the environment
        return f"installed {min(installed, total)} of {total} packages"
    downloaded = len(re.findall(r"^Collecting ", output, re.MULTILINE))
    if downloaded:
        return f"downloaded {min(downloaded, total)} of {total} packages"
    return "creating the environment" if not output else "resolving packages"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
