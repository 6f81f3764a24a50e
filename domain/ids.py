"""Event ids are deterministic functions of what they describe, so the same input always has the same id."""

import base64
from hashlib import blake2b


def derived(kind: str, *parts: object) -> str:
    """A short stable id such as 'grp_4k2m...': `kind`, then 100 bits of the parts' digest in base32."""
    text = "\x1f".join(str(part) for part in parts)
    digest = blake2b(f"{kind}\x1f{text}".encode(), digest_size=15).digest()
    return f"{kind}_{base64.b32encode(digest).decode().lower()[:20]}"


def cloid(attempt_id: str) -> str:
    """The client order id of a decision, 0x and 128 bits: the venue's own form (hyperliquid 4.1)."""
    return f"0x{blake2b(attempt_id.encode(), digest_size=16).hexdigest()}"


def jitter(seed: str, bound: int) -> int:
    """An integer in 0..bound drawn from `seed`: looks random, agrees at every replay."""
    return int.from_bytes(blake2b(seed.encode(), digest_size=8).digest()) % (bound + 1)
