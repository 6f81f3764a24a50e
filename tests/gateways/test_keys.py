"""The keystore, key files of wallets, and the other sources of agents' keys."""

import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from aiohttp import web
from eth_keyfile.keyfile import create_keyfile_json

from gateways.hyperliquid.signing import SigningKey
from gateways.keys.errors import KeysError
from gateways.keys.key_files import read_key_file
from gateways.keys.keystore import Keystore
from gateways.keys.sources import AgentKeys, agent_keys

SECRET = "0123456789012345678901234567890123456789012345678901234567890123"
OTHER = "11" * 32
PASSWORD = "correct horse battery staple"
Vault = tuple[Any, list[object]]
"""The settings of a Vault, and what it was asked."""


@pytest.fixture
def store(tmp_path: Path) -> Keystore:
    made = Keystore.open(tmp_path / "keystore.json", PASSWORD, create=True)
    made.put("alice", SigningKey.from_hex(SECRET))
    made.put("bob", SigningKey.from_hex(OTHER))
    return made


def settings(**values: object) -> Any:
    unset = dict.fromkeys(("vault_url", "vault_role_id", "vault_secret_id_file", "keystore_password_file"))
    return SimpleNamespace(**{**unset, "vault_path": "secret/vibe/agents", **values})


def secret_of(keys: AgentKeys, name: str) -> str:
    key = keys.get(name)
    assert key is not None
    return key.secret().hex()


def test_a_keystore_gives_back_its_keys_and_shows_none(store: Keystore) -> None:
    again = Keystore.open(store.path, PASSWORD)
    assert again.key("alice").secret().hex() == SECRET
    assert list(again.entries) == ["alice", "bob"]
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    content = store.path.read_text()
    assert SECRET not in content
    assert OTHER not in content
    assert PASSWORD not in content
    assert os.listdir(store.path.parent) == ["keystore.json"]


def test_a_wrong_password_opens_nothing(store: Keystore) -> None:
    with pytest.raises(KeysError, match="does not open: the password is another one"):
        Keystore.open(store.path, "wrong")


def test_an_entry_under_another_name_does_not_open(store: Keystore) -> None:
    file = json.loads(store.path.read_text())
    file["keys"]["alice"], file["keys"]["bob"] = file["keys"]["bob"], file["keys"]["alice"]
    store.path.write_text(json.dumps(file))
    with pytest.raises(KeysError, match="does not open"):
        Keystore.open(store.path, PASSWORD)


def test_a_new_password_seals_everything_anew(store: Keystore) -> None:
    before = store.path.read_text()
    store.change_password("another")
    assert json.loads(store.path.read_text())["scrypt"]["salt"] not in before
    assert Keystore.open(store.path, "another").key("bob").secret().hex() == OTHER
    with pytest.raises(KeysError):
        Keystore.open(store.path, PASSWORD)


def test_a_removed_key_is_gone(store: Keystore) -> None:
    assert store.remove("alice").address == SigningKey.from_hex(SECRET).address
    with pytest.raises(KeysError, match="holds no key 'alice'"):
        Keystore.open(store.path, PASSWORD).key("alice")


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"format":2}', '{"format":1,"scrypt":{"n":1,"r":8,"p":1,"salt":"00"},"keys":{}}', "\xff"],
)
def test_what_is_no_keystore_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keystore.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(KeysError, match="is no keystore"):
        Keystore.open(path, PASSWORD)


@pytest.mark.parametrize(("kdf", "work"), [("scrypt", 2), ("pbkdf2", 10)])
def test_keystores_of_wallets_are_read(tmp_path: Path, kdf: Literal["scrypt", "pbkdf2"], work: int) -> None:
    password: Any = b"pass"  # its type is written as str, but only bytes work
    wallet = create_keyfile_json(bytes.fromhex(SECRET), password, kdf=kdf, iterations=work)
    for number, written in enumerate(
        (wallet, {**{k: v for k, v in wallet.items() if k != "crypto"}, "Crypto": wallet["crypto"]})
    ):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(written))
        assert read_key_file(path, lambda: "pass").secret().hex() == SECRET
        with pytest.raises(KeysError, match="does not open"):
            read_key_file(path, lambda: "wrong")


def test_a_key_on_one_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "agent.key"
    path.write_text(f"0x{SECRET}\n")
    assert read_key_file(path, lambda: pytest.fail("asked for a password")).secret().hex() == SECRET


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        SECRET[:-1].encode(),
        b"{",
        b'{"version":3}',
        b'{"version":1,"crypto":{}}',
        b'{"version":3,"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"zz"},"ciphertext":"","kdf":"scrypt",'
        b'"kdfparams":{},"mac":""}}',
        b'{"version":3,"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"00"},"ciphertext":"","kdf":"argon2",'
        b'"kdfparams":{"salt":"00","dklen":32},"mac":""}}',
    ],
)
def test_files_without_a_key_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "agent.key"
    path.write_bytes(content)
    with pytest.raises(KeysError) as raised:
        read_key_file(path, lambda: "pass")
    assert str(path) in str(raised.value)


async def test_keys_of_the_environment_are_deleted_from_it(tmp_path: Path, store: Keystore) -> None:
    environ = {"VIBE_AGENT_KEY_CAROL_2": OTHER, "VIBE_KEYSTORE_PASSWORD": PASSWORD, "HOME": "/"}
    keys = await agent_keys(settings(keystore_path=store.path), environ)
    assert environ == {"HOME": "/"}
    assert secret_of(keys, "carol-2") == OTHER
    assert secret_of(keys, "alice") == SECRET
    assert keys.get("nothing") is None
    assert repr(keys) == "AgentKeys(3)"


async def test_a_keystore_without_its_password_names_the_setting(store: Keystore) -> None:
    with pytest.raises(KeysError, match="set VIBE_KEYSTORE_PASSWORD_FILE"):
        await agent_keys(settings(keystore_path=store.path), {})


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[Vault]:
    """A Vault with one secret, behind an AppRole: its address and what it was asked."""
    asked: list[object] = []

    async def login(request: web.Request) -> web.Response:
        asked.append(await request.json())
        granted = asked[-1] == {"role_id": "role", "secret_id": "the secret id"}
        return web.json_response({"auth": {"client_token": "t"}} if granted else {}, status=200 if granted else 403)

    async def secret(request: web.Request) -> web.Response:
        asked.append(request.headers.get("X-Vault-Token"))
        return web.json_response({"data": {"data": {"dave": SECRET}, "metadata": {"version": 1}}})

    app = web.Application()
    app.add_routes([web.post("/v1/auth/approle/login", login), web.get("/v1/kv/data/vibe/agents", secret)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (tmp_path / "secret-id").write_text("the secret id\n")
    known = settings(
        keystore_path=tmp_path / "none.json",
        vault_url=f"http://127.0.0.1:{runner.addresses[0][1]}",
        vault_path="kv/vibe/agents",
        vault_role_id="role",
        vault_secret_id_file=tmp_path / "secret-id",
    )
    yield known, asked
    await runner.cleanup()


async def test_a_vault_is_asked_once(vault: Vault) -> None:
    known, asked = vault
    keys = await agent_keys(known, {})
    assert secret_of(keys, "dave") == SECRET
    assert asked == [{"role_id": "role", "secret_id": "the secret id"}, "t"]


async def test_a_vault_that_refuses_is_named(vault: Vault, tmp_path: Path) -> None:
    known, _ = vault
    (tmp_path / "secret-id").write_text("another")
    with pytest.raises(KeysError, match=r"auth/approle/login: HTTP 403"):
        await agent_keys(known, {})
