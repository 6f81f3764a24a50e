"""Who trades on the sandbox: influencers worth following, market makers, and a crowd that no one follows.

Addresses are derived from names, so every process agrees on them without a file.
"""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Final


def address_of(name: str) -> str:
    """The 20-byte address of a sandbox account: `0x` and 40 lower-case hex digits."""
    return "0x" + hashlib.blake2b(f"vibe sandbox {name}".encode(), digest_size=20).hexdigest()


@dataclass(frozen=True)
class SandboxInfluencer:
    """An account that opens, adds, reduces, closes and flips in the seeded flow."""

    id: str
    label: str
    address: str


def _influencer(number: int, label: str) -> SandboxInfluencer:
    return SandboxInfluencer(f"whale-{number}", label, address_of(f"whale-{number}"))


INFLUENCERS: Final[tuple[SandboxInfluencer, ...]] = (
    _influencer(1, "Patient whale"),
    _influencer(2, "Momentum whale"),
    _influencer(3, "Swing whale"),
    _influencer(4, "Contrarian whale"),
    _influencer(5, "Restless whale"),
)

MAKERS: Final[tuple[str, ...]] = tuple(address_of(f"maker-{number}") for number in range(1, 9))
CROWD: Final[tuple[str, ...]] = tuple(address_of(f"crowd-{number}") for number in range(1, 25))

# USD each account starts with in every dex. Sizing by leader equity reads it as `accountValue`.
DEPOSIT: Final = Decimal(1_000_000)
