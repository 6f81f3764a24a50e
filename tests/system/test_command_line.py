"""Commands with wrong settings, closed standard streams and unusable files; the table of commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.command import ends, environment, vibe
from vibe.cli.root import COMMANDS

ALICE = '{"kind":"subscriber","id":"alice","mode":"paper","deposit_usd":"10"}'


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which `vibe` is ours."""
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; vibe() {{ "{sys.executable}" -m vibe "$@"; }}; {line}'],
        env=environment(folder, {}),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("VIBE_LANES", "5", "VIBE_LANES=5: a stage has 1, 2, 4 or 8 lanes, not 5"),
        ("VIBE_LANES", "many", "VIBE_LANES=many: Input should be a valid integer"),
        ("VIBE_HTTP_PORT", "99999", "VIBE_HTTP_PORT=99999: Input should be less than or equal to 65535"),
        ("VIBE_LOG_LEVEL", "loud", "VIBE_LOG_LEVEL=loud: Input should be"),
    ],
)
async def test_a_wrong_setting_is_named_in_one_line(tmp_path: Path, name: str, value: str, message: str) -> None:
    ended = await vibe(tmp_path, "lag", settings={name: value})
    assert ended.code == 2
    assert ended.err.startswith(f"vibe: {message}")
    assert ended.err.count("\n") == 1


def test_closed_full_and_abandoned_standard_streams(tmp_path: Path) -> None:
    imported = shell(tmp_path, f"vibe streams apply >&- && echo '{ALICE}' | vibe config import - --json")
    assert imported.returncode == 0, imported.stderr
    assert '"written":{"subscriber":1}' in imported.stdout
    quiet = shell(tmp_path, "vibe config show 2>&-")
    assert quiet.returncode == 0
    assert "1 subscriber: paper, active" in quiet.stdout
    full = shell(tmp_path, "vibe config show > /dev/full")
    assert full.returncode == 1
    assert full.stderr == "vibe: no space is left on the disk\n"
    closed = shell(
        tmp_path,
        "for n in $(seq 3000); do echo '{}'; done > bad; vibe config import bad --json | true".replace(
            "bad", str(tmp_path / "bad")
        ),
    )
    assert closed.returncode == 141
    assert closed.stderr == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is a folder; name a file"), (b"\xff\xfe\x00", "is not UTF-8 text: invalid start byte at byte 0")],
)
async def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "config"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    ended = await vibe(tmp_path / "data", "config", "import", str(file))
    assert ended.code == 1
    assert ended.err == f"vibe: {file} {message}\n"


@pytest.mark.parametrize("arguments", [("up", "--seconds", "1"), ("run", "plan")])
async def test_stages_do_not_run_in_a_demos_folder(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "demo.json").write_text("{}")
    ended = await vibe(tmp_path, *arguments)
    assert ended.code == 1
    assert ended.err == (
        f"vibe: {tmp_path} holds a demo, and the next demo removes all of it; "
        f"set VIBE_DATA_DIR to a folder of your own, or remove {tmp_path}\n"
    )


async def test_a_venue_that_cannot_be_reached_is_no_success(tmp_path: Path) -> None:
    asked = ("VIBE_HYPERLIQUID_API_URL", "VIBE_POLYMARKET_DATA_URL", "VIBE_POLYGON_HTTP_URL")
    heard = ("VIBE_HYPERLIQUID_WS_URL", "VIBE_POLYGON_WS_URL")
    nowhere = dict.fromkeys(asked, "http://127.0.0.1:9") | dict.fromkeys(heard, "ws://127.0.0.1:9")
    ended = await vibe(tmp_path, "up", "--seconds", "4", "--json", settings=nowhere)
    assert ended.code == 1
    assert ended.json["raw_events"] == 0
    assert f"ingest was never ready, see {tmp_path / 'logs' / 'ingest'}.log" in ended.err


async def test_a_demo_takes_a_data_folder_without_events(tmp_path: Path) -> None:
    async with ends(tmp_path):
        shown = await vibe(tmp_path, "lag")
        assert shown.code == 1
        assert "holds no event log yet. To begin: `vibe demo`" in shown.err
    demo = await vibe(tmp_path, "demo", "--seconds", "1", "--json")
    assert demo.code == 0, demo.err


def test_help_lists_the_summary_of_every_command_without_importing_one() -> None:
    listing = "import sys; from vibe.cli import app; app(['--help'], result_action='return_value'); "
    ended = subprocess.run(
        [sys.executable, "-c", listing + "print([name for name in sys.modules if name.startswith('vibe.app')])"],
        env=environment(Path(), {"COLUMNS": "200"}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines()[-1] == "[]"
    for name, (_, summary) in COMMANDS.items():
        assert re.search(rf"│ {name} +{re.escape(summary)} +│", ended.stdout), name
