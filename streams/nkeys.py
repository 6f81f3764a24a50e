"""Nkeys of NATS users: an Ed25519 key pair each, as the server and the `nats` command line write them.

A seed begins with `SU` and is secret; a public key begins with `U` and is what the server's configuration names. Both
are base32 of a prefix, the 32 bytes of the key, and a CRC-16.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import NamedTuple, cast

from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa

_SEED, _USER = 18 << 3, 20 << 3
_SEED_PREFIX = bytes([_SEED | _USER >> 5, (_USER & 31) << 3])


class UserKey(NamedTuple):
    """The key pair of one user; `seed` is the text of the secret, `public` that of the public key."""

    seed: str
    public: str

    def sign(self, nonce: bytes) -> bytes:
        """The signature of the server's nonce, in base64, as CONNECT carries it."""
        secret = _decoded(self.seed)[len(_SEED_PREFIX) :]
        signed: bytes = eddsa.new(_private(secret), "rfc8032").sign(nonce)
        return base64.b64encode(signed)


def new_user() -> UserKey:
    """A new random key pair."""
    return _pair(os.urandom(32))


def user_of(seed: str) -> UserKey:
    """The key pair of a seed. Raises ValueError for a text that is none of a user's; the text is not in the error."""
    try:
        raw = _decoded(seed.strip())
    except (ValueError, binascii.Error) as error:
        raise ValueError("expected the seed of a NATS user, which begins with SU; this text is damaged") from error
    if not raw.startswith(_SEED_PREFIX) or len(raw) != len(_SEED_PREFIX) + 32:
        raise ValueError("expected the seed of a NATS user, which begins with SU; this is another kind of key")
    return _pair(raw[len(_SEED_PREFIX) :])


def _pair(secret: bytes) -> UserKey:
    public = _private(secret).public_key().export_key(format="raw")
    return UserKey(_encoded(_SEED_PREFIX + secret), _encoded(bytes([_USER]) + public))


def _private(secret: bytes) -> ECC.EccKey:
    return ECC.construct(curve="Ed25519", seed=cast(str, secret))  # its stub knows no bytes, which it needs


def _encoded(raw: bytes) -> str:
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    whole = base64.b32decode(text + "=" * (-len(text) % 8))
    raw, check = whole[:-2], whole[-2:]
    if binascii.crc_hqx(raw, 0).to_bytes(2, "little") != check:
        raise ValueError("the checksum does not fit")
    return raw
