"""Encrypted files: what was written comes back, and no changed, missing, moved or added byte goes unnoticed."""

import io
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vibe.backup.encryption import FRAME_BYTES, KEY_BYTES, decrypt, encrypt, read_key
from vibe.backup.errors import BackupError

KEY = bytes(range(KEY_BYTES))
CONTENT = bytes(range(256)) * (FRAME_BYTES // 256) + b"the rest"


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(content), 100_000):
        yield content[begin : begin + 100_000]


async def encrypted(content: bytes, name: str = "set/RAW") -> bytes:
    return b"".join([part async for part in encrypt(KEY, name, _chunks(content))])


def decrypted(stored: bytes, name: str = "set/RAW", key: bytes = KEY) -> bytes:
    return b"".join(decrypt(key, name, io.BytesIO(stored)))


@pytest.mark.parametrize("content", [b"", b"x", CONTENT[:FRAME_BYTES], CONTENT], ids=["none", "one", "a frame", "more"])
async def test_what_was_written_comes_back(content: bytes) -> None:
    assert decrypted(await encrypted(content)) == content


async def test_the_same_content_is_never_stored_as_the_same_bytes() -> None:
    assert await encrypted(b"x") != await encrypted(b"x")


async def test_a_flipped_bit_anywhere_is_found() -> None:
    stored = await encrypted(b"some text")
    for at in range(len(stored)):
        damaged = bytearray(stored)
        damaged[at] ^= 1
        with pytest.raises(BackupError):
            decrypted(bytes(damaged))


async def test_a_missing_end_a_missing_frame_and_an_added_byte_are_found() -> None:
    stored = await encrypted(CONTENT)
    frame = 4 + FRAME_BYTES + 16
    head = len(stored) - len(stored[15:])
    for damaged in (stored[:-1], stored[: head + frame], stored[:head] + stored[head + frame :], stored + b"\0", b""):
        with pytest.raises(BackupError):
            decrypted(damaged)


async def test_a_file_is_bound_to_its_name_and_key() -> None:
    stored = await encrypted(b"some text")
    with pytest.raises(BackupError, match="damaged, or was encrypted with another key"):
        decrypted(stored, name="other/RAW")
    with pytest.raises(BackupError, match="another key"):
        decrypted(stored, key=bytes(KEY_BYTES))


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "backup.key"
    with pytest.raises(BackupError, match="there is no key"):
        read_key(path)
    made = read_key(path, create=True)
    assert len(made) == KEY_BYTES
    assert read_key(path, create=True) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("c2hvcnQ=\n")
    with pytest.raises(BackupError, match="expected 32 bytes as base64, got 5"):
        read_key(path)
