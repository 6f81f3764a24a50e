"""Who trades on the sandbox: four wallets worth following, anonymous market makers, and a crowd that no one follows.

Addresses are derived from names, so every process agrees on them without a file. A followed wallet is a proxy: its
owner signs with another address, which `/public-profile` knows too.
"""

from dataclasses import dataclass
from typing import Final

from gateways.sandbox.hyperliquid.traders import address_of


@dataclass(frozen=True)
class SandboxInfluencer:
    """A followed wallet. `address` is the proxy wallet that trades, `signer` the address of the person behind it."""

    id: str
    label: str
    address: str
    signer: str
    deposit_micros: int


def _influencer(name: str, label: str, deposit_usd: int) -> SandboxInfluencer:
    return SandboxInfluencer(name, label, address_of(name), address_of(f"{name} signer"), deposit_usd * 1_000_000)


TAKER: Final = _influencer("poly-taker", "Eager taker", 60_000)
MAKER: Final = _influencer("poly-maker", "Quiet maker", 250_000)
DRIPPER: Final = _influencer("poly-dripper", "Small dripper", 5_000)
SPLITTER: Final = _influencer("poly-splitter", "Tidy splitter", 40_000)

INFLUENCERS: Final[tuple[SandboxInfluencer, ...]] = (TAKER, MAKER, DRIPPER, SPLITTER)

MAKERS: Final[tuple[str, ...]] = tuple(address_of(f"poly-market-maker-{number}") for number in range(1, 7))
CROWD: Final[tuple[str, ...]] = tuple(address_of(f"poly-crowd-{number}") for number in range(1, 25))

SCENERY: Final = frozenset((*MAKERS, *CROWD))

# The crowd never runs out of cash.
SCENERY_DEPOSIT_MICROS: Final = 50_000_000 * 1_000_000

_PSEUDONYMS: Final = ("Mealy-Oar", "Rowdy-Tenement", "Outlandish-Shop", "Faint-Trolley")


@dataclass(frozen=True)
class Profile:
    """What the venue shows about the owner of a wallet; the crowd has no names."""

    name: str = ""
    pseudonym: str = ""


PROFILES: Final[dict[str, Profile]] = {
    who.address: Profile(who.label, pseudonym) for who, pseudonym in zip(INFLUENCERS, _PSEUDONYMS, strict=True)
}


def deposits() -> dict[str, int]:
    """What every wallet starts with, in micros of a dollar."""
    return {who.address: who.deposit_micros for who in INFLUENCERS} | dict.fromkeys(
        (*MAKERS, *CROWD), SCENERY_DEPOSIT_MICROS
    )
