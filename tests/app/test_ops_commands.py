"""`vibe ops`: the configuration that nats-server reads, and the context that the `nats` command line reads."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from gateways.embedded.folder import Folder
from gateways.embedded.nats_server import NatsServer, binary
from streams.roles import LOG_ACCOUNT
from vibe.app.nats_roles import keys_folder, make_keys, password_file
from vibe.app.settings import Settings
from vibe.cli.errors import CommandError
from vibe.cli.ops import run_context, run_nats_conf


async def test_nats_server_accepts_the_configuration_and_it_holds_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run_nats_conf(Settings(data_dir=tmp_path), None, json=False) == 0
    first, made = capsys.readouterr()
    assert "made keys in" in made
    conf = tmp_path / "printed.conf"
    conf.write_text(first)
    checked = subprocess.run([binary(), "-t", "-c", conf], capture_output=True, text=True, timeout=20, check=False)
    assert checked.returncode == 0, checked.stderr
    for file in keys_folder(tmp_path).iterdir():
        if file.suffix != ".bcrypt":
            assert file.read_text().strip() not in first
    assert await run_nats_conf(Settings(data_dir=tmp_path), None, json=True) == 0
    again, made = capsys.readouterr()
    assert (json.loads(again)["configuration"], json.loads(again)["made"], made) == (first, [], "")


async def test_the_context_logs_in_as_the_operator_and_only_its_owner_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    make_keys(tmp_path / "keys")
    url = "nats://web@n1:4222?keys=/k,nats://n2:4222"
    assert await run_context(Settings(data_dir=tmp_path), "prod", url, tmp_path / "keys", json=False) == 0
    written = tmp_path / "nats" / "context" / "prod.json"
    assert written.stat().st_mode & 0o777 == 0o600
    assert json.loads(written.read_text()) == {
        "description": "the event log, only to read",
        "url": "nats://n1:4222,nats://n2:4222",
        "user": "ops",
        "password": password_file(tmp_path / "keys").read_text().strip(),
        "inbox_prefix": "_INBOX_ops",
    }


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b"])
async def test_a_context_cannot_be_written_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError, match="a context is called by"):
        await run_context(Settings(data_dir=tmp_path), name, "nats://a", tmp_path, json=False)


def test_the_log_of_a_server_without_accounts_becomes_that_of_the_account(tmp_path: Path) -> None:
    before = tmp_path / "nats" / "jetstream" / "$G" / "streams"
    before.mkdir(parents=True)
    server = NatsServer(Folder(tmp_path), tmp_path / "nats.conf", account=LOG_ACCOUNT)
    for _ in range(2):
        asyncio.run(server.prepare(lambda _: None))
        assert (tmp_path / "nats" / "jetstream" / LOG_ACCOUNT / "streams").is_dir()
        assert not before.exists()
