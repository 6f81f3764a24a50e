"""Event ids are deterministic functions of what they describe, so the same input always has the same id."""

from hashlib import blake2b

_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = tuple(first + second for first in _DIGITS for second in _DIGITS)
"""Two base32 digits, by the 10 bits that they encode."""


def derived(kind: str, *parts: object) -> str:
    """A short stable id such as 'grp_4k2m...': `kind`, then 100 bits of the parts' digest in base32."""
    text = "\x1f".join(str(part) for part in parts)
    # Read models derive an id for every booking: pairs take half the time of base64.b32encode.
    bits = int.from_bytes(blake2b(f"{kind}\x1f{text}".encode(), digest_size=15).digest()) >> 20
    pairs = _PAIRS
    return (
        f"{kind}_{pairs[bits >> 90]}{pairs[bits >> 80 & 1023]}{pairs[bits >> 70 & 1023]}{pairs[bits >> 60 & 1023]}"
        f"{pairs[bits >> 50 & 1023]}{pairs[bits >> 40 & 1023]}{pairs[bits >> 30 & 1023]}{pairs[bits >> 20 & 1023]}"
        f"{pairs[bits >> 10 & 1023]}{pairs[bits & 1023]}"
    )


def ledger_entry_id(source_event_id: str) -> str:
    """The id of the ledger entry that books a fill, deposit or settlement: led_abc for fil_abc."""
    return f"led_{source_event_id.rpartition('_')[2]}"


def cloid(attempt_id: str) -> str:
    """The client order id of a decision, 0x and 128 bits (docs/venues/hyperliquid.md, client order ids)."""
    return f"0x{blake2b(attempt_id.encode(), digest_size=16).hexdigest()}"


def jitter(seed: str, bound: int) -> int:
    """An integer in 0..bound drawn from `seed`: looks random, and is the same in every replay."""
    return int.from_bytes(blake2b(seed.encode(), digest_size=8).digest()) % (bound + 1)
