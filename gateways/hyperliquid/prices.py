"""Current prices of coins: the middle of each book, one request for all coins of a dex."""

from collections.abc import Callable, Iterable

import msgspec

from domain.events import MarkSource
from gateways.hyperliquid.info_client import InfoClient
from gateways.hyperliquid.parsing import positive
from gateways.venue_errors import WireError
from gateways.venue_types import Price

_MIDS = msgspec.json.Decoder(dict[str, str])


class VenuePrices:
    """Prices of perpetuals. Where a side of a book is empty, the venue itself answers with the last trade price."""

    def __init__(self, info: InfoClient, clock: Callable[[], int]) -> None:
        self._info = info
        self._clock = clock

    async def prices(self, assets: Iterable[str]) -> dict[str, Price]:
        """Prices of these coins; those that the venue does not know are absent.

        Raises VenueUnavailableError or WireError.
        """
        wanted = set(assets)
        found: dict[str, Price] = {}
        for dex in sorted({asset.rpartition(":")[0] for asset in wanted}):
            payload = await self._info.call({"type": "allMids", "dex": dex})
            now = self._clock()
            try:
                mids = _MIDS.decode(payload)
            except msgspec.MsgspecError as error:
                raise WireError(f"not mids: {error}") from error
            for asset in wanted & mids.keys():
                found[asset] = Price(positive(mids[asset], f"mid of {asset}"), MarkSource.MIDPOINT, now)
        return found
