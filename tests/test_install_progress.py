"""`make install` shows how far it is, and the end of the installer's output when it fails."""

import subprocess
import sys
from pathlib import Path

from ops import install
from tests.repository import ROOT


def put_packages(venv: Path, count: int) -> None:
    for number in range(count):
        (venv / "lib" / "python3.11" / "site-packages" / f"p{number}.dist-info").mkdir(parents=True, exist_ok=True)


def test_progress_follows_the_installer(tmp_path: Path) -> None:
    log = tmp_path / "install.log"
    log.write_text("")
    assert install.progress(log, tmp_path, 69) == "creating the environment"
    put_packages(tmp_path, 2)
    log.write_text("Collecting a==1\n  Downloading a.whl\nCollecting b==2\n")
    assert install.progress(log, tmp_path, 69) == "downloaded 2 of 69 packages"
    put_packages(tmp_path, 40)
    assert install.progress(log, tmp_path, 69) == "installed 40 of 69 packages"


def test_the_packages_of_the_lock_are_counted() -> None:
    assert install.locked("a==1 \\\n    --hash=sha256:00\nb-c==2.0 ; sys_platform == 'win32' \\\n") == 2


def test_a_failed_installation_shows_the_end_of_its_output(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "bin").write_text("a file where the environment needs a folder")
    ended = subprocess.run(
        [sys.executable, str(ROOT / "ops" / "install.py"), str(venv)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout.startswith("installing ")
    assert str(venv / "bin") in ended.stderr
    assert f"the whole output is in {venv / 'install.log'}" in ended.stderr
