"""Books on demand, with the lot of each coin from the venue's meta, loaded once and again for a coin that is new."""

import asyncio

from gateways.hyperliquid.info import Coin, InfoClient
from gateways.venue import Book


class VenueBooks:
    """The order books of the venue."""

    def __init__(self, info: InfoClient) -> None:
        self._info = info
        self._coins: dict[str, Coin] = {}
        self._turn = asyncio.Lock()

    async def book(self, asset: str) -> Book | None:
        """The book now; None when the venue does not know the asset."""
        return await self._info.book(asset)

    async def size_step(self, asset: str) -> int:
        """The lot of an asset in micros; 1 when the venue's meta does not list it."""
        async with self._turn:
            if asset not in self._coins:
                self._coins = await self._info.coins()
        coin = self._coins.get(asset)
        return coin.size_step_micros if coin else 1
