"""Encryption of backup files: AES-256-GCM in frames, so that a file of any size is read in bounded memory.

    "VIBEBK1\\n"  7 random bytes   frame  frame ... last frame
    frame = length (4 bytes, big-endian)  ciphertext  tag (16 bytes)

The nonce of a frame is the file's random bytes, the number of the frame (4 bytes) and whether it is the last one
(1 byte): frames cannot be exchanged, repeated or cut off unnoticed. The name of the file is authenticated too, so that
no file takes the place of another one.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

from Crypto.Cipher import AES

from vibe.backup.errors import BackupError

_MAGIC = b"VIBEBK1\n"
_SALT_BYTES, _TAG_BYTES, _LENGTH_BYTES = 7, 16, 4
FRAME_BYTES = 1 << 20
KEY_BYTES = 32


def read_key(path: Path, *, create: bool = False) -> bytes:
    """The key in a file (base64, 32 bytes); with `create` a new one, readable by its owner alone, where there is none.

    Raises BackupError.
    """
    if create and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() + "\n")
    try:
        key = base64.b64decode(path.read_text(encoding="ascii").strip(), validate=True)
    except FileNotFoundError as error:
        raise BackupError(f"there is no key at {path}; set VIBE_BACKUP_KEY_FILE to the key of these backups") from error
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BackupError(f"{path} holds no key: expected 32 bytes as base64") from error
    if len(key) != KEY_BYTES:
        raise BackupError(f"{path} holds no key: expected 32 bytes as base64, got {len(key)}")
    return key


async def encrypt(key: bytes, name: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The encrypted bytes of `chunks` as the file `name`."""
    salt = secrets.token_bytes(_SALT_BYTES)
    yield _MAGIC + salt
    number, held = 0, bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) > FRAME_BYTES:
            yield _sealed(key, salt, name, number, bytes(held[:FRAME_BYTES]), last=False)
            del held[:FRAME_BYTES]
            number += 1
    yield _sealed(key, salt, name, number, bytes(held), last=True)


def decrypt(key: bytes, name: str, file: IO[bytes]) -> Iterator[bytes]:
    """The plain bytes of the file `name`, in chunks. Raises BackupError for a wrong key and for any changed, missing or
    added byte; what was returned before it is genuine."""
    head = file.read(len(_MAGIC) + _SALT_BYTES)
    if len(head) != len(_MAGIC) + _SALT_BYTES or not head.startswith(_MAGIC):
        raise BackupError(f"{name} is no file of a backup, or it is damaged")
    salt, number = head[len(_MAGIC) :], 0
    length = file.read(_LENGTH_BYTES)
    while length:
        size = int.from_bytes(length, "big")
        if size > FRAME_BYTES:
            raise _damaged(name)
        sealed = file.read(size + _TAG_BYTES)
        length = file.read(_LENGTH_BYTES)
        cipher = _cipher(key, salt, name, number, last=not length)
        try:
            yield cipher.decrypt_and_verify(sealed[:size], sealed[size:])
        except ValueError as error:
            raise _damaged(name) from error
        number += 1
    if not number:
        raise _damaged(name)


def _damaged(name: str) -> BackupError:
    return BackupError(f"{name} is damaged, or was encrypted with another key than VIBE_BACKUP_KEY_FILE")


def _sealed(key: bytes, salt: bytes, name: str, number: int, plain: bytes, *, last: bool) -> bytes:
    ciphertext, tag = _cipher(key, salt, name, number, last=last).encrypt_and_digest(plain)
    return b"".join((len(plain).to_bytes(_LENGTH_BYTES, "big"), ciphertext, tag))


def _cipher(key: bytes, salt: bytes, name: str, number: int, *, last: bool) -> AES.GcmMode:  # type: ignore[name-defined]
    nonce = salt + number.to_bytes(4, "big") + bytes([last])
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce)
    cipher.update(name.encode())
    return cipher
