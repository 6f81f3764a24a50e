"""The keystore: one file with the keys of many agents, each sealed under one master key made from a password.

    {"format": 1, "scrypt": {"n", "r", "p", "salt"}, "keys": {NAME: {"address", "added_at", "nonce", "sealed"}}}

One derivation opens all of them: a thousand keys cost as much as one. A key is sealed with AES-256-GCM together with
its name and address, so that no entry takes the place of another one. Bytes are hexadecimal.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from Crypto.Cipher import AES
from msgspec import Meta, Struct

from gateways.hyperliquid.signing import InvalidKeyError, SigningKey
from gateways.keys.errors import KeysError

_SALT_BYTES, _NONCE_BYTES, _TAG_BYTES, _KEY_BYTES = 16, 12, 16, 32
_N, _R, _P = 1 << 16, 8, 2
"""64 MiB and some tenths of a second, once for each start."""
_MOST_MEMORY = 1 << 28


class Scrypt(Struct, frozen=True, forbid_unknown_fields=True):
    """How the master key is made from the password."""

    n: Annotated[int, Meta(ge=1 << 14, le=1 << 20)]
    r: Annotated[int, Meta(ge=1, le=16)]
    p: Annotated[int, Meta(ge=1, le=16)]
    salt: Annotated[str, Meta(min_length=2 * _SALT_BYTES)]


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """A sealed key; its address is that of the agent."""

    address: str
    added_at: str
    nonce: str
    sealed: str


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    format: Annotated[int, Meta(ge=1, le=1)]
    scrypt: Scrypt
    keys: dict[str, Entry]


class Keystore:
    """The file at `path`, open under its password. Changes are written at once, whole, readable by the owner alone."""

    def __init__(self, path: Path, master: bytes, file: _File) -> None:
        self.path = path
        self._master = master
        self._file = file

    def __repr__(self) -> str:
        return f"Keystore({self.path})"

    @classmethod
    def open(cls, path: Path, password: str, *, create: bool = False) -> "Keystore":
        """The keystore; with `create` an empty one where there is none. Raises KeysError, also for a wrong password."""
        if create and not path.exists():
            scrypt = Scrypt(_N, _R, _P, secrets.token_hex(_SALT_BYTES))
            return cls(path, _master(password, scrypt), _File(1, scrypt, {}))
        file = read(path)
        store = cls(path, _master(password, file.scrypt), file)
        for name in file.keys:
            store.key(name)
        return store

    @property
    def entries(self) -> Mapping[str, Entry]:
        return self._file.keys

    def key(self, name: str) -> SigningKey:
        """The key of a name. Raises KeysError when there is none, or when it does not open."""
        entry = self._file.keys.get(name)
        if entry is None:
            raise KeysError(f"the keystore {self.path} holds no key {name!r}; add it: vibe keys add {name}")
        try:
            sealed = bytes.fromhex(entry.sealed)
            cipher = _cipher(self._master, bytes.fromhex(entry.nonce), name, entry.address)
            secret = cipher.decrypt_and_verify(sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:])
            return SigningKey(secret)
        except (ValueError, InvalidKeyError):
            raise KeysError(
                f"the key {name!r} in {self.path} does not open: the password is another one, or the file is damaged"
            ) from None

    def put(self, name: str, key: SigningKey) -> None:
        """Seal a key under a name, in place of what had the name."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        ciphertext, tag = _cipher(self._master, nonce, name, key.address).encrypt_and_digest(key.secret())
        added_at = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Entry(key.address, added_at, nonce.hex(), (ciphertext + tag).hex())
        self._write({**self._file.keys, name: entry})

    def remove(self, name: str) -> Entry:
        """Forget a key; returns what it was. Raises KeysError when there is none."""
        if name not in self._file.keys:
            raise KeysError(f"the keystore {self.path} holds no key {name!r}; see: vibe keys list")
        left = dict(self._file.keys)
        removed = left.pop(name)
        self._write(left)
        return removed

    def change_password(self, password: str) -> None:
        """Seal every key anew under a master key from this password and a new salt."""
        opened = {name: self.key(name) for name in self._file.keys}
        times = {name: entry.added_at for name, entry in self._file.keys.items()}
        scrypt = Scrypt(_N, _R, _P, secrets.token_hex(_SALT_BYTES))
        master, sealed = _master(password, scrypt), dict[str, Entry]()
        for name, key in opened.items():
            nonce = secrets.token_bytes(_NONCE_BYTES)
            ciphertext, tag = _cipher(master, nonce, name, key.address).encrypt_and_digest(key.secret())
            sealed[name] = Entry(key.address, times[name], nonce.hex(), (ciphertext + tag).hex())
        self._master, self._file = master, _File(1, scrypt, {})
        self._write(sealed)

    def _write(self, keys: dict[str, Entry]) -> None:
        file = _File(1, self._file.scrypt, dict(sorted(keys.items())))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as target:
                target.write(msgspec.json.format(msgspec.json.encode(file)) + b"\n")
                target.flush()
                os.fsync(target.fileno())
            beside.replace(self.path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        self._file = file


def read(path: Path) -> _File:
    """What a keystore's file holds, still sealed. Raises KeysError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        raise KeysError(
            f"there is no keystore at {path}; add the first key: vibe keys add NAME --key-file FILE"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise KeysError(f"{path} is no keystore: {error}") from None


def _master(password: str, scrypt: Scrypt) -> bytes:
    return hashlib.scrypt(
        password.encode(),
        salt=bytes.fromhex(scrypt.salt),
        n=scrypt.n,
        r=scrypt.r,
        p=scrypt.p,
        dklen=_KEY_BYTES,
        maxmem=_MOST_MEMORY,
    )


def _cipher(master: bytes, nonce: bytes, name: str, address: str) -> Any:
    cipher = AES.new(master, AES.MODE_GCM, nonce=nonce)
    cipher.update(f"{name}\x00{address}".encode())
    return cipher
