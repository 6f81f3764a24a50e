"""Current prices of coins: the middle of each book, one request for all coins of a dex."""

from collections.abc import Callable, Iterable

import msgspec
import structlog

from domain.events import MarkSource
from domain.micros import NotExactError, nearest_micros
from gateways.hyperliquid.info_client import InfoClient
from gateways.venue_errors import WireError
from gateways.venue_types import Price

log = structlog.get_logger()

_MIDS = msgspec.json.Decoder(dict[str, object])


class VenuePrices:
    """Prices of perpetuals. Where a side of a book is empty, the venue itself answers with the last trade price."""

    def __init__(self, info: InfoClient, clock: Callable[[], int]) -> None:
        self._info = info
        self._clock = clock

    async def prices(self, assets: Iterable[str]) -> dict[str, Price]:
        """Prices of these coins; those that the venue does not know, or whose price cannot be read, are absent.

        Raises VenueUnavailableError or WireError.
        """
        wanted = set(assets)
        found: dict[str, Price] = {}
        for dex in sorted({asset.rpartition(":")[0] for asset in wanted}):
            payload = await self._info.call({"type": "allMids", "dex": dex})
            now = self._clock()
            mids = _mids(payload)
            for asset in wanted & mids.keys():
                try:
                    # A mid is the quotient of two prices: half a tick has one place more than they have.
                    price = nearest_micros(mids[asset])
                except NotExactError as error:
                    log.warning("price.unreadable", asset=asset, error=str(error))
                    continue
                if price > 0:
                    found[asset] = Price(price, MarkSource.MIDPOINT, now)
        return found


def _mids(payload: bytes) -> dict[str, object]:
    try:
        mids = _MIDS.decode(payload)
    except msgspec.MsgspecError as error:
        raise WireError(f"not mids: {error}") from error
    if mids and not any(isinstance(mid, str) for mid in mids.values()):
        raise WireError(f"not mids: none of {len(mids)} values is a text")
    return mids
