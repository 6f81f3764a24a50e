"""The seeded flow as a source of the venue: actions become trades and books when their block time has come."""

import asyncio
from typing import Final

from gateways.sandbox.hyperliquid.coins import COINS
from gateways.sandbox.hyperliquid.flow import Action, flow, opening_books
from gateways.sandbox.hyperliquid.market import Market
from gateways.sandbox.hyperliquid.market_data import Fill, Trade
from gateways.sandbox.hyperliquid.traders import CROWD, INFLUENCERS, MAKERS
from gateways.sandbox.hyperliquid.venue import Venue

_MS: Final = 1_000_000
# The clock may be any function, even one that jumps, so it is read again at least this often.
_LOOK_EVERY_S: Final = 0.02


class FlowSource:
    """Plays `flow(seed)`. The block time of an action is `origin_ns` (None: the clock when it starts) + its offset.

    With `horizon_s` no action at or after that offset is ever played, and the source is exhausted when the clock
    passes it. An origin in the past plays everything due at once.
    """

    quotes_itself = False

    def __init__(self, seed: int, *, origin_ns: int | None = None, horizon_s: float | None = None) -> None:
        self.seed = seed
        self._origin_ns = origin_ns
        self._horizon_ms = None if horizon_s is None else round(horizon_s * 1_000)
        self._played_ms = 0
        self._next_ms: int | None = None

    def prepare(self, market: Market) -> None:
        market.list_coins(COINS)
        market.books.update(opening_books(self.seed))
        for address in (*(who.address for who in INFLUENCERS), *MAKERS, *CROWD):
            market.open_account(address)

    def now_ms(self, clock_ns: int) -> int:
        # An action that is due but not played yet must not lie before a time that clients have already seen.
        now = clock_ns // _MS
        return now if self._next_ms is None else max(self._played_ms, min(now, self._next_ms - 1))

    async def run(self, venue: Venue) -> None:
        origin_ns = venue.clock() if self._origin_ns is None else self._origin_ns
        for action in flow(self.seed):
            if self._horizon_ms is not None and action.offset_ms >= self._horizon_ms:
                break
            due_ns = origin_ns + action.offset_ms * _MS
            self._next_ms = due_ns // _MS
            await _until(venue, due_ns)
            self._played_ms = self._next_ms
            _apply(venue, action, self._played_ms)
            # Lets the sockets write between actions when many are due at once.
            await asyncio.sleep(0)
        self._next_ms = None
        if self._horizon_ms is not None:
            await _until(venue, origin_ns + self._horizon_ms * _MS)


async def _until(venue: Venue, due_ns: int) -> None:
    left_ns = due_ns - venue.clock()
    while left_ns > 0:
        await asyncio.sleep(min(left_ns / 1e9, _LOOK_EVERY_S))
        left_ns = due_ns - venue.clock()


def _apply(venue: Venue, action: Action, time_ms: int) -> None:
    trades: list[Trade] = []
    fills: list[tuple[str, Fill]] = []
    for p in action.prints:
        trade = Trade(action.coin, p.side, p.px, p.sz, time_ms, action.hash, p.tid, (p.buyer, p.seller))
        trades.append(trade)
        fills.extend(venue.market.settle(trade, p.buyer_oid, p.seller_oid, action.twap_id))
    venue.traded(trades, fills)
    if action.book is not None:
        venue.quoted(action.coin, action.book)
