"""What every command does with wrong settings, odd standard streams, and files that are none."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.command import environment, vibe

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
    ("name", "value", "said"),
    [
        ("VIBE_LANES", "5", "VIBE_LANES=5: 5 lanes do not divide 64"),
        ("VIBE_LANES", "many", "VIBE_LANES=many: Input should be a valid integer"),
        ("VIBE_HTTP_PORT", "99999", "VIBE_HTTP_PORT=99999: Input should be less than or equal to 65535"),
        ("VIBE_LOG_LEVEL", "loud", "VIBE_LOG_LEVEL=loud: Input should be"),
    ],
)
async def test_a_wrong_setting_is_named_in_one_line(tmp_path: Path, name: str, value: str, said: str) -> None:
    ended = await vibe(tmp_path, "lag", settings={name: value})
    assert ended.code == 2
    assert ended.err.startswith(f"vibe: {said}")
    assert ended.err.count("\n") == 1


def test_odd_standard_streams(tmp_path: Path) -> None:
    imported = shell(tmp_path, f"vibe streams apply >&- && echo '{ALICE}' | vibe config import - --json")
    assert imported.returncode == 0, imported.stderr
    assert '"written":{"subscriber":1}' in imported.stdout
    quiet = shell(tmp_path, "vibe config show 2>&-")
    assert quiet.returncode == 0
    assert "1 subscribers" in quiet.stdout
    full = shell(tmp_path, "vibe config show > /dev/full")
    assert full.returncode == 1
    assert full.stderr == "vibe: [Errno 28] No space left on device\n"
    cut = shell(
        tmp_path,
        "for n in $(seq 3000); do echo '{}'; done > bad; vibe config import bad --json | true".replace(
            "bad", str(tmp_path / "bad")
        ),
    )
    assert cut.returncode == 141
    assert cut.stderr == ""


@pytest.mark.parametrize(
    ("content", "said"), [(None, "Is a directory"), (b"\xff\xfe\x00", "can't decode byte 0xff in position 0")]
)
async def test_a_file_that_is_none(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "config"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    ended = await vibe(tmp_path / "data", "config", "import", str(file))
    assert ended.code == 1
    assert said in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err


async def test_an_export_is_of_the_form_that_its_name_says(tmp_path: Path) -> None:
    mixed = await vibe(tmp_path, "export", "ledger", "--format", "csv", "--out", str(tmp_path / "x.parquet"))
    assert mixed.code == 2
    assert "is not a name for --format csv" in mixed.err
    assert (await vibe(tmp_path, "demo", "--seconds", "3", "--json")).code == 0
    for name, begins in (("x.csv", b"entry_id,"), ("x.parquet", b"PAR1"), ("x", b"PAR1")):
        ended = await vibe(tmp_path, "export", "ledger", "--out", str(tmp_path / name))
        assert ended.code == 0, ended.err
        assert (tmp_path / name).read_bytes().startswith(begins)


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


async def test_a_demo_moves_into_a_folder_where_nothing_was_ever_written(tmp_path: Path) -> None:
    looked = await vibe(tmp_path, "lag")
    assert (looked.code, looked.err.splitlines()[-1]) == (1, "vibe: stream RAW does not exist; run: vibe streams apply")
    played = await vibe(tmp_path, "demo", "--seconds", "1", "--json")
    assert played.code == 0, played.err
