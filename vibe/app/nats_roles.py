"""The configuration of nats-server with the roles of `streams/roles.py`: keys, accounts, users, permissions.

The keys are made once, in a folder that only its owner can read: `<role>.nk` holds a seed, `ops.password` the password
of the operators' user and `ops.bcrypt` its hash. The server's configuration holds public keys and the hash alone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

from Crypto.Protocol.KDF import bcrypt

from streams.login import inbox_of, key_file
from streams.nkeys import new_user, user_of
from streams.roles import (
    LOG_ACCOUNT,
    MONITOR,
    OPERATOR,
    OPERATOR_ACCOUNT,
    OPERATOR_FEEDS,
    OPERATOR_SERVICES,
    ROLES,
    SYSTEM_ACCOUNT,
    Role,
)

_BCRYPT_COST = 11
"""The server computes the hash at every login of an operator: a tenth of a second."""


def keys_folder(data_dir: Path) -> Path:
    """Where the keys of a data folder's own server are."""
    return data_dir / "nats-keys"


def password_file(keys: Path) -> Path:
    """The password of the operators' user."""
    return keys / f"{OPERATOR}.password"


def make_keys(keys: Path) -> list[str]:
    """Make what is missing in the folder; returns the names of the roles that got a key. Two processes that do this at
    once end up with the same keys."""
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys.chmod(0o700)
    made = [name for name in _users() if _create(key_file(keys, name), lambda: new_user().seed)]
    _create(password_file(keys), lambda: secrets.token_urlsafe(24))
    password = password_file(keys).read_bytes().strip()
    _create(_hash_file(keys), lambda: bcrypt(password, _BCRYPT_COST).decode())
    return made


class Certificate(NamedTuple):
    """The files of the server's certificate, with those that signed it, and of its private key."""

    certificate: Path
    key: Path


def configuration(base: str, keys: Path, tls: Certificate | None = None) -> str:
    """The text of nats-server's configuration: `base`, then accounts and users with the keys of the folder, and with
    `tls` that only encrypted connections are taken. Raises FileNotFoundError for a key that is missing and ValueError
    for a damaged one."""
    public = {name: user_of(key_file(keys, name).read_text()).public for name in _users()}
    operator = _hash_file(keys).read_text().strip()
    encrypted = [] if tls is None else [*_encrypted(tls), ""]
    return "\n".join([base.rstrip(), "", *encrypted, *_accounts(public, operator), ""])


def write_configuration(base: Path, keys: Path, to: Path) -> None:
    """Write the configuration to a file that only its owner can read, whole or not at all."""
    with NamedTemporaryFile("w", dir=to.parent, prefix=f".{to.name}.", delete=False) as draft:
        draft.write(configuration(base.read_text(), keys))
    Path(draft.name).replace(to)


def _users() -> Iterator[str]:
    yield from (role.name for role in ROLES)
    yield MONITOR


def _hash_file(keys: Path) -> Path:
    return keys / f"{OPERATOR}.bcrypt"


def _create(path: Path, make: Callable[[], str]) -> bool:
    if path.exists():
        return False
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(make() + "\n")
    try:
        # Not a rename: the first of two processes wins, and the other one uses its key.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
            return True
        return False
    finally:
        draft.unlink()


def _encrypted(tls: Certificate) -> Iterator[str]:
    # nats-server reads the files again at a reload.
    yield "tls {"
    yield f'  cert_file: "{tls.certificate.resolve()}"'
    yield f'  key_file: "{tls.key.resolve()}"'
    yield '  min_version: "1.3"'
    yield "  timeout: 2"
    yield "}"


def _accounts(public: dict[str, str], operator: str) -> Iterator[str]:
    yield "accounts {"
    yield f"  {SYSTEM_ACCOUNT} {{"
    yield f"    users: [ {{ nkey: {public[MONITOR]} }} ]  # {MONITOR}"
    yield "  }"
    yield f"  {LOG_ACCOUNT} {{"
    yield "    jetstream: enabled"
    yield "    users: ["
    for role in ROLES:
        yield from _user(role, public[role.name])
    yield "    ]"
    yield "    exports: ["
    for subject in OPERATOR_SERVICES:
        # A direct get may answer with several messages.
        several = ", response_type: stream" if "DIRECT" in subject else ""
        yield f'      {{ service: "{subject}", accounts: [{OPERATOR_ACCOUNT}]{several} }}'
    for subject in OPERATOR_FEEDS:
        yield f'      {{ stream: "{subject}", accounts: [{OPERATOR_ACCOUNT}] }}'
    yield "    ]"
    yield "  }"
    yield f"  {OPERATOR_ACCOUNT} {{"
    yield "    users: ["
    yield f'      {{ user: {OPERATOR}, password: "{operator}", permissions: {{'
    yield f"        publish: {{ allow: {_list(OPERATOR_SERVICES)} }}"
    yield f"        subscribe: {{ allow: {_list([f'{inbox_of(OPERATOR)}.>', *OPERATOR_FEEDS])} }} }} }}"
    yield "    ]"
    yield "    imports: ["
    for subject in OPERATOR_SERVICES:
        yield f'      {{ service: {{ account: {LOG_ACCOUNT}, subject: "{subject}" }} }}'
    for subject in OPERATOR_FEEDS:
        yield f'      {{ stream: {{ account: {LOG_ACCOUNT}, subject: "{subject}" }} }}'
    yield "    ]"
    yield "  }"
    yield "}"
    yield f"system_account: {SYSTEM_ACCOUNT}"


def _user(role: Role, public: str) -> Iterator[str]:
    yield f"      # {role.name}: {role.does}"
    if not role.publish:
        yield f"      {{ nkey: {public} }}"
        return
    denied = f", deny: {_list(role.deny)}" if role.deny else ""
    yield f"      {{ nkey: {public}, permissions: {{"
    yield f"        publish: {{ allow: {_list(role.publish)}{denied} }}"
    yield f"        subscribe: {{ allow: {_list(role.subscribe)} }} }} }}"


def _list(subjects: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{subject}"' for subject in subjects) + "]"
