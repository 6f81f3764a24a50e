"""Where the process that sends orders finds its agents' keys: the keystore, the environment, or a Vault.

They are read once, at the start, and what held them in the environment is deleted from it.
"""

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec
import structlog

from gateways.hyperliquid.signing import InvalidKeyError, SigningKey
from gateways.keys.errors import KeysError
from gateways.keys.keystore import Keystore

log = structlog.get_logger()

ENVIRONMENT = "VIBE_AGENT_KEY_"
"""VIBE_AGENT_KEY_ALICE holds the key named alice; names are compared without regard to case, '_' and '-' are equal."""
PASSWORD = "VIBE_KEYSTORE_PASSWORD"
_SECONDS = 10.0


class KeySettings(Protocol):
    @property
    def keystore_path(self) -> Path: ...
    @property
    def keystore_password_file(self) -> Path | None: ...
    @property
    def vault_url(self) -> str | None: ...
    @property
    def vault_path(self) -> str: ...
    @property
    def vault_role_id(self) -> str | None: ...
    @property
    def vault_secret_id_file(self) -> Path | None: ...


class AgentKeys:
    """Keys by name; of two sources with the same name the keystore wins, then the environment."""

    def __init__(self, keys: dict[str, SigningKey], environment: dict[str, SigningKey] | None = None) -> None:
        self._keys = keys
        self._environment = environment or {}

    def __repr__(self) -> str:
        return f"AgentKeys({len(self._keys) + len(self._environment)})"

    def get(self, name: str) -> SigningKey | None:
        """The key with this name, None where no source holds it."""
        return self._keys.get(name) or self._environment.get(_plain(name))


def without_keys(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment without keys and passwords, for processes that have no use for them."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith((ENVIRONMENT, "VIBE_KEYSTORE", "VIBE_VAULT_"))
    }


def has_keys(settings: KeySettings, environ: Mapping[str, str] = os.environ) -> bool:
    """True when some source of keys is set: then live orders can be sent."""
    named = any(name.startswith(ENVIRONMENT) for name in environ)
    return settings.vault_url is not None or settings.keystore_path.exists() or named


async def agent_keys(settings: KeySettings, environ: MutableMapping[str, str] = os.environ) -> AgentKeys:
    """The keys of every source that is set. Raises KeysError when one of them cannot be read."""
    keys = await _of_vault(settings) if settings.vault_url is not None else {}
    if settings.keystore_path.exists():
        store = Keystore.open(settings.keystore_path, password_of(settings, environ))
        keys.update({name: store.key(name) for name in store.entries})
    environ.pop(PASSWORD, None)
    return AgentKeys(keys, _of_environment(environ))


def password_of(settings: KeySettings, environ: MutableMapping[str, str] = os.environ) -> str:
    """The keystore's password, from its file or from the environment. Raises KeysError when neither is set."""
    if settings.keystore_password_file is not None:
        return secret_in(settings.keystore_password_file)
    password = environ.get(PASSWORD)
    if not password:
        raise KeysError(f"the keystore needs its password: set VIBE_KEYSTORE_PASSWORD_FILE, or {PASSWORD}")
    return password


def secret_in(path: Path) -> str:
    """The secret in a file, without the end of its line. Raises KeysError."""
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"cannot read the secret in {path}: {type(error).__name__}") from None
    if not text:
        raise KeysError(f"the secret in {path} is empty")
    return text


def _of_environment(environ: MutableMapping[str, str]) -> dict[str, SigningKey]:
    found = {}
    for variable in [name for name in environ if name.startswith(ENVIRONMENT)]:
        try:
            found[_plain(variable.removeprefix(ENVIRONMENT))] = SigningKey.from_hex(environ.pop(variable))
        except InvalidKeyError as error:
            raise KeysError(f"{variable} holds no key: {error}") from None
    return found


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


async def _of_vault(settings: KeySettings) -> dict[str, SigningKey]:
    """Every value of one secret of a KV v2 engine, after a sign-in by AppRole."""
    url, path = str(settings.vault_url).rstrip("/"), settings.vault_path.strip("/")
    if settings.vault_role_id is None or settings.vault_secret_id_file is None:
        raise KeysError("VIBE_VAULT_URL needs VIBE_VAULT_ROLE_ID and VIBE_VAULT_SECRET_ID_FILE")
    mount, _, rest = path.partition("/")
    role = {"role_id": settings.vault_role_id, "secret_id": secret_in(settings.vault_secret_id_file)}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session:
        signed_in = await _answer(session, "POST", f"{url}/v1/auth/approle/login", json=role)
        token = _inside(signed_in, "auth", "client_token")
        if not isinstance(token, str):
            raise KeysError(f"the Vault at {url} gave no token to the AppRole")
        headers = {"X-Vault-Token": token}
        secret = await _answer(session, "GET", f"{url}/v1/{mount}/data/{rest}", headers=headers)
    values = _inside(secret, "data", "data")
    if not isinstance(values, dict):
        raise KeysError(f"the Vault at {url} has no secret {path!r} of the KV engine, version 2")
    found = {}
    for name, value in values.items():
        try:
            found[str(name)] = SigningKey.from_hex(str(value))
        except InvalidKeyError as error:
            raise KeysError(f"the value {name!r} of the secret {path!r} is no key: {error}") from None
    return found


async def _answer(session: aiohttp.ClientSession, method: str, url: str, **request: Any) -> object:
    try:
        async with session.request(method, url, **request) as response:
            if response.status != 200:
                raise KeysError(f"{method} {url}: HTTP {response.status}")
            return msgspec.json.decode(await response.read())
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
        raise KeysError(f"{method} {url}: {type(error).__name__}") from None


def _inside(answer: object, *names: str) -> object:
    for name in names:
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer
