"""Event ids are deterministic functions of what they describe, so the same input always has the same id."""

from hashlib import blake2b

_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_BASE32 = bytes(b"0123456789abcdefghijklmnopqrstuv"[max(0, _DIGITS.find(chr(byte)))] for byte in range(256))
"""For each byte of an id the digit that `int` reads in base 32."""
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


def related(kind: str, id: str) -> str:
    """The id of another kind with the same digits: the decision att_abc and the order ord_abc of the request req_abc.

    What one request leads to shares the digest of the request.
    """
    return f"{kind}_{id.rpartition('_')[2]}"


def fill_id(order_id: str, number: int) -> str:
    """The id of an order's fill: fil_abc.0 for the first of ord_abc."""
    return f"{related('fil', order_id)}.{number}"


def ledger_entry_id(source_event_id: str) -> str:
    """The id of the ledger entry that books a fill, deposit or settlement: led_abc for fil_abc."""
    return related("led", source_event_id)


def cloid(attempt_id: str) -> str:
    """The client order id of a decision, 0x and 128 bits (docs/venues/hyperliquid.md, client order ids).

    It holds the 100 bits that the 20 digits of the id encode; of an id of another form, bits of its last characters.
    """
    digits = attempt_id.rpartition("_")[2].encode()[-25:].translate(_BASE32)
    return f"0x{int(digits, 32):032x}"


def jitter(seed: str, bound: int) -> int:
    """An integer in 0..bound drawn from `seed`: looks random, and is the same in every replay."""
    return int.from_bytes(blake2b(seed.encode(), digest_size=8).digest()) % (bound + 1)
