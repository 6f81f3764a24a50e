"""The mode of an account, and what it counts as equity (docs/venues/hyperliquid.md, account modes)."""

from typing import NamedTuple

import msgspec
from msgspec import Struct

from gateways.hyperliquid.parsing import exact
from gateways.venue_errors import WireError

SEPARATE = frozenset({"default", "disabled", "dexAbstraction"})
"""Modes in which the reports of the dexes state the equity."""
UNIFIED = "unifiedAccount"
_COLLATERAL = "USDC"


class AccountMode(NamedTuple):
    """A mode by the venue's name; of a unified account also its collateral in micros, None where it is not stated."""

    name: str
    collateral_micros: int | None

    @property
    def is_unified(self) -> bool:
        return self.name == UNIFIED

    @property
    def is_separate(self) -> bool:
        """True when the reports of the dexes state the equity."""
        return self.name in SEPARATE


class WireBalance(Struct):
    coin: str
    total: str


class WireSpot(Struct):
    balances: list[WireBalance]


class WireMode(Struct):
    """What ingest stores: the answers to userAbstraction and, of a unified account, to spotClearinghouseState."""

    mode: str
    spot: WireSpot | None = None


_MODE = msgspec.json.Decoder(WireMode)


def parse_mode(payload: bytes) -> AccountMode:
    """The stored answers about an account. Raises WireError.

    A unified account has all its collateral in its spot state. Portfolio margin also counts what other coins are worth
    as collateral, so that no answer states its equity.
    """
    try:
        wire = _MODE.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not the mode of an account: {error}") from error
    if wire.mode != UNIFIED or wire.spot is None:
        return AccountMode(wire.mode, None)
    totals = [exact(one.total, "total of USDC") for one in wire.spot.balances if one.coin == _COLLATERAL]
    return AccountMode(wire.mode, sum(totals))
