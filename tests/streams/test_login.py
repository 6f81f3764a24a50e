"""What a URL states of the login: the role, its key, its inboxes."""

from pathlib import Path

import pytest

from streams.errors import RefusedError
from streams.login import as_role, inbox_of, key_file, login_of, shown, with_keys
from streams.nkeys import new_user


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = key_file(tmp_path, "ops-writer")
    path.write_text(new_user().seed)
    path.chmod(0o600)
    return tmp_path


def test_a_role_is_chosen_and_its_key_is_read(keys: Path) -> None:
    url = as_role(as_role(with_keys("nats://a:4222", keys), "web"), "ops-writer")
    login = login_of(url)
    assert login is not None
    assert (login.servers, login.role, login.inbox) == (["nats://a:4222"], "ops-writer", "_INBOX_ops_writer")
    assert login.key.seed == key_file(keys, "ops-writer").read_text()


def test_the_first_of_several_servers_names_the_role(keys: Path) -> None:
    login = login_of(as_role(with_keys("nats://a:1,nats://b:2", keys), "ops-writer"))
    assert login is not None
    assert login.servers == ["nats://a:1", "nats://b:2"]


@pytest.mark.parametrize("url", ["nats://a:4222", "nats://user:secret@a:4222", "tls://token@a,tls://b"])
def test_a_url_without_keys_stays_as_it_is(url: str) -> None:
    assert as_role(url, "web") == url
    assert login_of(url) is None


def test_what_is_shown_has_no_credentials(keys: Path) -> None:
    assert shown(as_role(with_keys("nats://a:1,nats://b:2", keys), "web")) == "nats://a:1,nats://b:2"
    assert shown("nats://user:secret@a:1") == "nats://a:1"


def test_a_key_that_others_can_read_is_refused(keys: Path) -> None:
    key_file(keys, "ops-writer").chmod(0o644)
    with pytest.raises(RefusedError, match="chmod 600"):
        login_of(as_role(with_keys("nats://a:1", keys), "ops-writer"))


def test_a_missing_key_a_damaged_one_and_no_role_are_refused(keys: Path) -> None:
    url = with_keys("nats://a:1", keys)
    with pytest.raises(RefusedError, match=r"names the keys in .* and no role"):
        login_of(url)
    with pytest.raises(RefusedError, match=r"the role web needs its key .*web\.nk"):
        login_of(as_role(url, "web"))
    key_file(keys, "ops-writer").write_text("SUdamaged")
    with pytest.raises(RefusedError, match="expected the seed of a NATS user"):
        login_of(as_role(url, "ops-writer"))


def test_each_role_has_inboxes_of_its_own() -> None:
    assert inbox_of("ops-writer") == "_INBOX_ops_writer"
