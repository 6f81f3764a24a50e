"""Books on demand, with the venue's limits for an order. Markets are cached for a minute."""

import asyncio

from domain.events import Terms
from gateways.polymarket.clob import Clob
from gateways.polymarket.gamma import Gamma, Market, parse_market
from gateways.venue_errors import WireError
from gateways.venue_types import Captured

MARKET_SECONDS = 60.0
CACHED_MARKETS = 10_000
SIZE_STEP_MICROS = 10_000
"""Orders have two decimals."""
MIN_NOTIONAL_MICROS = 1_000_000


class PolymarketBooks:
    """The order books of the venue."""

    def __init__(self, clob: Clob, gamma: Gamma, *, market_seconds: float = MARKET_SECONDS) -> None:
        self._clob = clob
        self._gamma = gamma
        self._seconds = market_seconds
        self._markets: dict[str, tuple[float, asyncio.Task[Market]]] = {}

    async def capture(self, asset: str) -> Captured | None:
        """The book of a token and its terms now; None when it has no book (any more).

        Raises VenueUnavailableError or WireError, the latter also when no market has the token.
        """
        book, market = await asyncio.gather(self._clob.book(asset), self._market(asset), return_exceptions=True)
        if book is None:
            return None
        if isinstance(book, BaseException):
            raise book
        if isinstance(market, BaseException):
            raise market
        return Captured(book, terms(market))

    async def terms(self, asset: str) -> Terms:
        """The limits for an order in a token, at most a minute old.

        Raises VenueUnavailableError or WireError, the latter also when no market has the token.
        """
        return terms(await self._market(asset))

    def forget_terms(self, asset: str) -> None:
        """Request the market of a token anew: its limits have changed."""
        self._markets.pop(asset, None)

    async def affordable(self) -> None:
        """Wait until a capture could be requested at once."""
        await self._clob.affordable()

    async def _market(self, asset: str) -> Market:
        """The market of a token, requested once however many captures want it at the same time."""
        now = asyncio.get_running_loop().time()
        known = self._markets.get(asset)
        if known is None or known[0] <= now:
            self._forget(now)
            known = self._markets[asset] = (now + self._seconds, asyncio.create_task(self._request(asset)))
        try:
            return await asyncio.shield(known[1])
        except Exception:
            # The next capture requests it again.
            if self._markets.get(asset) is known:
                del self._markets[asset]
            raise

    async def _request(self, asset: str) -> Market:
        payload = await self._gamma.market_of(asset)
        if payload is None:
            raise WireError(f"Gamma knows no market with the token {asset}: its fees and limits are unknown")
        return parse_market(payload)

    def _forget(self, now: float) -> None:
        if len(self._markets) >= CACHED_MARKETS:
            self._markets = {asset: known for asset, known in self._markets.items() if known[0] > now}


def terms(market: Market) -> Terms:
    """The venue's limits for an order in one of the market's tokens."""
    return Terms(
        size_step_micros=SIZE_STEP_MICROS,
        tick_micros=market.tick_micros,
        min_share_micros=market.min_share_micros,
        min_notional_micros=MIN_NOTIONAL_MICROS,
        fee_rate_micros=market.fee_rate_micros,
        closes_at=market.closes_at,
        opens_at=market.opens_at,
        accepting=market.accepting,
        market=market.market,
    )
