"""Books on demand, with the lot and tick of each coin. The meta of a dex is loaded once, and again for a new coin."""

import asyncio

from domain.events import Terms
from domain.micros import MICRO
from gateways.hyperliquid.info_client import Coin, InfoClient
from gateways.venue_errors import VenueUnavailableError
from gateways.venue_types import Captured

SIGNIFICANT = 5
"""Significant digits of a price; whole dollars are always allowed (docs/venues/hyperliquid.md, prices and lots)."""


class VenueBooks:
    """The order books of the venue."""

    def __init__(self, info: InfoClient) -> None:
        self._info = info
        self._coins: dict[str, Coin] = {}
        self._loading = asyncio.Lock()

    async def capture(self, asset: str) -> Captured | None:
        """The book now, and the terms of its coin; None when the venue does not know the asset."""
        book = await self._info.book(asset)
        if book is None:
            return None
        return Captured(book, await self.terms(asset) or terms(asset, 1))

    async def terms(self, asset: str) -> Terms | None:
        """The limits for an order in a coin; None when the venue's meta does not list it.

        Raises VenueUnavailableError while the part of the meta that would list it cannot be read.
        """
        if asset not in self._coins:
            async with self._loading:
                if asset not in self._coins:
                    await self._load(asset)
        coin = self._coins.get(asset)
        return terms(asset, coin.size_step_micros) if coin else None

    async def affordable(self) -> None:
        """Wait until a capture could be requested at once."""
        await self._info.affordable("l2Book")

    async def _load(self, asset: str) -> None:
        dex = asset.rpartition(":")[0]
        coins = await self._info.coins_of(dex)
        # A dex that cannot be read now keeps the lots that are known, and no dex changes those of another one.
        self._coins |= {name: coin for name, coin in coins.listed.items() if name.rpartition(":")[0] == dex}
        if asset not in self._coins and coins.is_unread(asset):
            raise VenueUnavailableError(f"the lot of {asset} is not known: the venue's meta of it cannot be read")


def terms(asset: str, size_step_micros: int) -> Terms:
    """The venue's limits for an order in a coin: prices have at most 6 - szDecimals decimals and five digits."""
    return Terms(
        size_step_micros=size_step_micros,
        tick_micros=max(1, MICRO // size_step_micros),
        market=asset,
        significant_digits=SIGNIFICANT,
    )
