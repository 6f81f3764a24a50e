"""Files that hold one private key: hexadecimal digits on one line, or a keystore of version 3, as wallets export it."""

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from Crypto.Cipher import AES
from Crypto.Hash import keccak
from msgspec import Meta, Struct

from gateways.hyperliquid.signing import InvalidKeyError, SigningKey
from gateways.keys.errors import KeysError

_LARGEST = 1 << 16
_MOST_MEMORY = 1 << 30


class _Iv(Struct, frozen=True):
    iv: str


class _Crypto(Struct, frozen=True):
    cipher: str
    cipherparams: _Iv
    ciphertext: str
    kdf: str
    kdfparams: dict[str, Any]
    mac: str


class _Version3(Struct, frozen=True):
    version: Annotated[int, Meta(ge=3, le=3)]
    crypto: _Crypto


def read_key_file(path: Path, password: Callable[[], str]) -> SigningKey:
    """The key in a file; `password` is asked for the one of a keystore of version 3. Raises KeysError."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST)
    except OSError as error:
        raise KeysError(f"cannot read {path}: {error.strerror}") from None
    try:
        if content.lstrip().startswith(b"{"):
            wallet = msgspec.convert(
                {str(name).lower(): one for name, one in msgspec.json.decode(content).items()}, _Version3
            )
            return SigningKey(_opened(wallet.crypto, password(), path))
        return SigningKey.from_hex(content.decode("ascii"))
    except UnicodeDecodeError:
        raise KeysError(f"{path} holds no key: expected 64 hexadecimal digits on one line") from None
    except InvalidKeyError as error:
        raise KeysError(f"{path} holds no key: {error}") from None
    except (msgspec.MsgspecError, ValueError, TypeError, LookupError) as error:
        # The text of these errors quotes structure, never a value.
        reason = str(error) if isinstance(error, msgspec.ValidationError) else "its fields are not as expected"
        raise KeysError(f"{path} is no keystore of version 3: {reason}") from None


def _opened(crypto: _Crypto, password: str, path: Path) -> bytes:
    if crypto.cipher != "aes-128-ctr":
        raise KeysError(f"{path} uses the cipher {crypto.cipher!r}; only aes-128-ctr is read")
    key, ciphertext = _derived(crypto, password.encode(), path), bytes.fromhex(crypto.ciphertext)
    mac = keccak.new(data=key[16:32] + ciphertext, digest_bits=256).hexdigest()
    if not hmac.compare_digest(mac, crypto.mac.lower()):
        raise KeysError(f"{path} does not open: the password is another one, or the file is damaged")
    iv = int.from_bytes(bytes.fromhex(crypto.cipherparams.iv))
    return bytes(AES.new(key[:16], AES.MODE_CTR, nonce=b"", initial_value=iv).decrypt(ciphertext))


def _derived(crypto: _Crypto, password: bytes, path: Path) -> bytes:
    known = crypto.kdfparams
    salt, length = bytes.fromhex(known["salt"]), int(known["dklen"])
    if crypto.kdf == "scrypt":
        n, r, p = int(known["n"]), int(known["r"]), int(known["p"])
        return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, dklen=length, maxmem=_MOST_MEMORY)
    if crypto.kdf == "pbkdf2" and known.get("prf") == "hmac-sha256":
        return hashlib.pbkdf2_hmac("sha256", password, salt, int(known["c"]), length)
    raise KeysError(f"{path} derives its key by {crypto.kdf!r}; only scrypt and pbkdf2 with hmac-sha256 are read")
