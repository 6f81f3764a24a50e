"""`vibe sandbox` with files that are no recordings: one line, exit code 1."""

from pathlib import Path

import pytest

from tests.system.command import vibe


@pytest.mark.parametrize(
    ("option", "files", "message"),
    [
        ("--frames", {"x": "not json\n"}, "recording line 1: JSON is malformed"),
        ("--frames", {"x": "{}\n"}, "recording line 1: Object missing required field"),
        ("--pages", {"x/readme": ""}, "holds no trades_page*.json"),
        ("--pages", {"x/trades_page0.json": "{}"}, "trades_page0.json"),
    ],
)
async def test_what_is_no_recording_is_reported(
    tmp_path: Path, option: str, files: dict[str, str], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    ports = ("--port", "0", "--polymarket-port", "18801")
    ended = await vibe(tmp_path / "data", "sandbox", option, str(tmp_path / "x"), *ports)
    assert ended.code == 1
    assert ended.err.startswith(f"vibe: {option}: not a recording that can be played: ")
    assert message in ended.err
    assert "Traceback" not in ended.err
