"""Signatures of trading actions (docs/venues/hyperliquid.md, signing): EIP-712 over the hash of the action's msgpack.

The types are constant, so that what EIP-712 asks for is two hashes: no general encoder is needed, and a signature takes
some 80 microseconds.
"""

from typing import Any, NamedTuple

import msgspec
from coincurve import PrivateKey, PublicKey
from Crypto.Hash import keccak

_ZERO_ADDRESS = bytes(32)
_CHAIN_ID = (1337).to_bytes(32, "big")


class Signature(NamedTuple):
    """`r` and `s` as 0x and 64 hexadecimal digits, `v` 27 or 28."""

    r: str
    s: str
    v: int

    def wire(self) -> dict[str, str | int]:
        """As the venue wants it in a request."""
        return {"r": self.r, "s": self.s, "v": self.v}


class InvalidKeyError(ValueError):
    """What was given as a private key is none; the text never holds it."""


class SigningKey:
    """The private key of an agent. Nothing shows it: not `repr`, not an error, not a copy."""

    __slots__ = ("_key", "address")

    def __init__(self, secret: bytes) -> None:
        """`secret` are 32 bytes. Raises InvalidKeyError."""
        try:
            self._key = PrivateKey(secret)
        except ValueError:
            raise InvalidKeyError("not a private key: expected 32 bytes inside the order of secp256k1") from None
        self.address = address_of_public(self._key.public_key)
        """The agent's address, lower case."""

    @classmethod
    def from_hex(cls, text: str) -> "SigningKey":
        """A key written as 64 hexadecimal digits, with 0x or without. Raises InvalidKeyError."""
        digits = text.strip().removeprefix("0x")
        try:
            secret = bytes.fromhex(digits)
        except ValueError:
            raise InvalidKeyError("not a private key: expected 64 hexadecimal digits") from None
        if len(secret) != 32:
            raise InvalidKeyError(f"not a private key: expected 64 hexadecimal digits, got {len(digits)} characters")
        return cls(secret)

    def __repr__(self) -> str:
        return f"SigningKey({self.address})"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not copied or stored")

    def secret(self) -> bytes:
        """The key itself, for the keystore alone."""
        secret: bytes = self._key.secret
        return secret

    def sign(self, digest: bytes) -> Signature:
        """The signature of 32 bytes; the same bytes are signed the same way (RFC 6979)."""
        signed = self._key.sign_recoverable(digest, hasher=None)
        return Signature(f"0x{signed[:32].hex()}", f"0x{signed[32:64].hex()}", 27 + signed[64])


def sign_action(
    key: SigningKey,
    action: dict[str, Any],
    *,
    nonce: int,
    expires_after: int | None,
    vault: str | None = None,
    mainnet: bool,
) -> Signature:
    """The signature of an L1 action: order, cancel, modify, leverage. `nonce` and `expires_after` are in ms.

    The order of the action's keys is part of what is signed.
    """
    return key.sign(action_digest(action, nonce=nonce, expires_after=expires_after, vault=vault, mainnet=mainnet))


def action_digest(
    action: dict[str, Any], *, nonce: int, expires_after: int | None, vault: str | None = None, mainnet: bool
) -> bytes:
    """The 32 bytes that are signed."""
    connection = action_hash(action, nonce=nonce, expires_after=expires_after, vault=vault)
    return _agent_digest(b"a" if mainnet else b"b", connection)


def signer_of(digest: bytes, r: str, s: str, v: int) -> str | None:
    """The address that signed 32 bytes, lower case; None when this is no signature."""
    try:
        signature = int(r, 16).to_bytes(32) + int(s, 16).to_bytes(32) + bytes([v - 27])
        public = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except (ValueError, OverflowError, TypeError):
        return None
    return address_of_public(public)


def address_of_public(public: PublicKey) -> str:
    """The address of a public key, lower case."""
    return f"0x{_keccak(public.format(compressed=False)[1:])[-20:].hex()}"


def action_hash(action: dict[str, Any], *, nonce: int, expires_after: int | None, vault: str | None = None) -> bytes:
    """What a signature is for: keccak-256 of the action's msgpack, the nonce, the vault, and the time of expiry."""
    parts = [msgspec.msgpack.encode(action), nonce.to_bytes(8, "big")]
    parts.append(b"\x00" if vault is None else b"\x01" + bytes.fromhex(vault.removeprefix("0x")))
    if expires_after is not None:
        parts.append(b"\x00" + expires_after.to_bytes(8, "big"))
    return _keccak(b"".join(parts))


def _agent_digest(source: bytes, connection: bytes) -> bytes:
    agent = _keccak(_AGENT_TYPE + _keccak(source) + connection)
    return _keccak(b"\x19\x01" + _DOMAIN + agent)


def _keccak(data: bytes) -> bytes:
    return keccak.new(data=data, digest_bits=256).digest()


_AGENT_TYPE = _keccak(b"Agent(string source,bytes32 connectionId)")
_DOMAIN = _keccak(
    _keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    + _keccak(b"Exchange")
    + _keccak(b"1")
    + _CHAIN_ID
    + _ZERO_ADDRESS
)
