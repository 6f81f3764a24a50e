"""`vibe keys` as its user runs it: what it stores, what it answers, and that it never shows a key or a password."""

from pathlib import Path

from gateways.keys.keystore import Keystore
from tests.system.command import vibe

SECRET, OTHER = "01" * 32, "02" * 32
FIRST, SECOND = "correct horse", "battery staple"


async def test_the_life_of_a_key(tmp_path: Path) -> None:
    data, outputs = tmp_path / "data", list[str]()
    for name, content in {"one.key": SECRET, "two.key": f"0x{OTHER}\n", "first": FIRST, "second": SECOND}.items():
        (tmp_path / name).write_text(content)

    async def keys(*arguments: str, password: str = "first") -> tuple[int, str, str]:
        settings = {"VIBE_KEYSTORE_PASSWORD_FILE": str(tmp_path / password)}
        ended = await vibe(data, "keys", *arguments, settings=settings)
        outputs.extend((ended.out, ended.err))
        return ended.code, ended.out, ended.err

    code, out, _ = await keys("list")
    assert (code, "add one: vibe keys add" in out) == (0, True)
    code, out, err = await keys("add", "alice", "--key-file", str(tmp_path / "one.key"), "--json")
    assert (code, err) == (0, "")
    assert '"name":"alice"' in out
    code, _, err = await keys("add", "alice", "--key-file", str(tmp_path / "two.key"))
    assert (code, "vibe keys rotate alice" in err) == (1, True)
    code, _, err = await keys("add", "bob", "--key-file", str(tmp_path / "one.key"))
    assert (code, "is in the keystore as 'alice'" in err) == (1, True)
    code, _, err = await keys("add", "bob", "--key-file", str(tmp_path / "two.key"), password="second")
    assert (code, "the password is another one" in err) == (1, True)
    code, _, err = await keys("rotate", "alice")
    assert (code, "NAME and --key-file" in err) == (1, True)
    assert (await keys("rotate", "alice", "--key-file", str(tmp_path / "two.key")))[0] == 0
    assert (await keys("rotate", "--new-password-file", str(tmp_path / "second")))[0] == 0
    assert Keystore.open(data / "keystore.json", SECOND).key("alice").secret().hex() == OTHER
    assert (await keys("remove", "alice", password="second"))[0] == 0
    code, _, err = await keys("remove", "alice", password="second")
    assert (code, "holds no key 'alice'" in err) == (1, True)
    for secret in (SECRET, OTHER, FIRST, SECOND):
        assert not any(secret in output for output in outputs)
    assert [path.name for path in data.iterdir()] == ["keystore.json"]


async def test_a_start_without_the_keystores_password_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "one.key").write_text(SECRET)
    (tmp_path / "first").write_text(FIRST)
    data, settings = tmp_path / "data", {"VIBE_KEYSTORE_PASSWORD_FILE": str(tmp_path / "first")}
    await vibe(data, "keys", "add", "alice", "--key-file", str(tmp_path / "one.key"), settings=settings)
    ended = await vibe(data, "up", "--seconds", "1")
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith(
        "vibe: the keystore needs its password: set VIBE_KEYSTORE_PASSWORD_FILE"
    )


async def test_without_a_terminal_the_password_has_to_be_set(tmp_path: Path) -> None:
    (tmp_path / "one.key").write_text(SECRET)
    ended = await vibe(tmp_path / "data", "keys", "add", "alice", "--key-file", str(tmp_path / "one.key"))
    assert ended.code == 1
    assert "set VIBE_KEYSTORE_PASSWORD_FILE" in ended.err
    assert not (tmp_path / "data").exists()
