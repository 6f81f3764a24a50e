"""How a client logs in to NATS: what a URL states beside the addresses of the servers.

`nats://pipeline@127.0.0.1:4222?keys=/data/nats-keys` is the role `pipeline` with the seed in
`/data/nats-keys/pipeline.nk`. A role receives answers in inboxes of its own, `_INBOX_pipeline.>`: the server lets no
other role listen there. With `tls://` the connection is encrypted, and `ca=FILE` names the certificates to trust
instead of the system's. A URL without `keys` holds a user and a password, a token, or nothing, as everywhere in NATS,
and its inboxes are the usual ones. Of several servers, separated by commas, the first names the role and the keys.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from streams.errors import RefusedError
from streams.nkeys import UserKey, user_of

KEY_SUFFIX = ".nk"
_INBOX = "_INBOX"


class Login(NamedTuple):
    """A role's login: the addresses of the servers, the role, its key pair, and the prefix of its inboxes."""

    servers: list[str]
    role: str
    key: UserKey
    inbox: str


def inbox_of(role: str) -> str:
    """The prefix of a role's inboxes."""
    return f"{_INBOX}_{role.replace('-', '_')}"


def key_file(folder: Path, role: str) -> Path:
    """Where a role's seed is in a folder of keys."""
    return folder / f"{role}{KEY_SUFFIX}"


def with_keys(url: str, folder: Path) -> str:
    """The URL of a server whose roles have their seeds in `folder`; `as_role` then chooses one of them."""
    first, *others = url.split(",")
    return ",".join([f"{first}?keys={quote(str(folder.resolve()))}", *others])


def as_role(url: str, role: str) -> str:
    """The URL that logs in as `role`. One without keys stays as it is: its server knows no roles, or one user is given
    for everything."""
    first, *others = url.split(",")
    parts = urlsplit(first)
    if not _keys_of(parts.query):
        return url
    return ",".join([urlunsplit(parts._replace(netloc=f"{role}@{_address(parts.netloc)}")), *others])


def login_of(url: str) -> Login | None:
    """The role that a URL names, None for one without keys. Raises RefusedError when it names keys without a role, or a
    role whose seed is missing, open to other users of this machine, or damaged."""
    parts = urlsplit(url.split(",")[0])
    folder = _keys_of(parts.query)
    if folder is None:
        return None
    role = unquote(parts.username or "")
    if not role:
        raise RefusedError(f"the URL names the keys in {folder} and no role: nats://ROLE@host:port?keys=FOLDER")
    servers = [_server(one) for one in url.split(",")]
    return Login(servers, role, _key(key_file(folder, role), role), inbox_of(role))


def tls_of(url: str) -> ssl.SSLContext | None:
    """TLS 1.3 with the certificates that a URL trusts; None for one that names none. Raises RefusedError when its file
    cannot be read."""
    named = parse_qs(urlsplit(url.split(",")[0]).query).get("ca")
    if named is None:
        return None
    try:
        context = ssl.create_default_context(cafile=named[0])
    except (OSError, ssl.SSLError) as error:
        raise RefusedError(f"the URL trusts the certificates in {named[0]}, which cannot be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def without_query(url: str) -> str:
    """The URL as other clients of NATS know it."""
    first, *others = url.split(",")
    return ",".join([urlunsplit(urlsplit(first)._replace(query="")), *others]) if "?" in first else url


def shown(url: str) -> str:
    """The addresses of a URL, without its credentials."""
    return ",".join(_server(one) for one in url.split(","))


def _key(path: Path, role: str) -> UserKey:
    try:
        if path.stat().st_mode & 0o077:
            raise RefusedError(f"other users of this machine can read the key {path}; run: chmod 600 {path}")
        return user_of(path.read_text())
    except OSError as error:
        raise RefusedError(f"the role {role} needs its key {path}: {error.strerror}") from error
    except ValueError as error:
        raise RefusedError(f"{path}: {error}") from error


def _keys_of(query: str) -> Path | None:
    found: Mapping[str, list[str]] = parse_qs(query)
    return Path(found["keys"][0]) if "keys" in found else None


def _server(one: str) -> str:
    parts = urlsplit(one.strip() if "://" in one else f"nats://{one.strip()}")
    return f"{parts.scheme}://{_address(parts.netloc)}"


def _address(netloc: str) -> str:
    return netloc.rpartition("@")[2]
