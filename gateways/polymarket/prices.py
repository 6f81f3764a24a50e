"""Current prices of outcome tokens: the middle of the book, or the last trade where there is none."""

from collections.abc import Callable, Iterable

from domain.events import MarkSource
from gateways.polymarket.clob import Clob
from gateways.venue_types import Price

LAST_TRADES_AT_ONCE = 50
"""Last trades cost a request each; the remaining tokens follow at the next call."""


class PolymarketPrices:
    """Prices of outcome tokens."""

    def __init__(self, clob: Clob, clock: Callable[[], int]) -> None:
        self._clob = clob
        self._clock = clock
        self._next = 0

    async def prices(self, assets: Iterable[str]) -> dict[str, Price]:
        """Prices of these tokens; those without book and trade are absent.

        Raises VenueUnavailableError or WireError.
        """
        wanted = sorted(set(assets))
        middles = await self._clob.midpoints(wanted) if wanted else {}
        now = self._clock()
        found = {token: Price(price, MarkSource.MIDPOINT, now) for token, price in middles.items()}
        missing = [token for token in wanted if token not in found]
        if missing:
            self._next %= len(missing)
            missing = (missing[self._next :] + missing[: self._next])[:LAST_TRADES_AT_ONCE]
            self._next += len(missing)
        for token in missing:
            price = await self._clob.last_trade_price(token)
            if price is not None:
                found[token] = Price(price, MarkSource.LAST_TRADE, self._clock())
        return found
