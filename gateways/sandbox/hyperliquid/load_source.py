"""A steady load for benchmarks: influencers that open and close in turn, each trade a signal group of its own.

Every influencer trades one coin. It buys, and at its next trade sells all of it again, so that whatever copies it opens
and closes too and no position grows. Books are deep and their prices never move, so that a decision is about the
software and not about the market. The counterparty of every trade is a market maker that is not followed.
"""

import asyncio
from decimal import Decimal
from hashlib import sha256
from typing import Final

from gateways.sandbox.hyperliquid.coins import Coin
from gateways.sandbox.hyperliquid.market import Market
from gateways.sandbox.hyperliquid.market_data import Book, Level, Trade
from gateways.sandbox.hyperliquid.venue import Venue

_MAKER: Final = "0x" + "ee" * 20
_BID, _ASK, _STEP, _LEVELS = Decimal("99.99"), Decimal("100.01"), Decimal("0.01"), 20
_SIZE: Final = Decimal(200)
_WAIT_S: Final = 0.005
_OID_START: Final = 1_000_000


def load_address(number: int) -> str:
    """The address of the influencer with this number: 20 bytes, the same in every process."""
    return "0x" + sha256(f"load influencer {number}".encode()).hexdigest()[:40]


def load_coins(count: int) -> tuple[Coin, ...]:
    """The coins L000, L001, ... that the load is traded on, all at 100 USD."""
    return tuple(Coin(f"L{number:03}", 2, 40, Decimal(100)) for number in range(count))


class LoadSource:
    """Plays `rate` trades a second for `seconds`, from when a client has subscribed to trades and `begin` is set.

    `sent` counts the trades played; trade number n belongs to influencer n modulo `influencers`. Two trades of one
    influencer on one side must lie further apart than a signal group is long: influencers / rate above the window.
    """

    quotes_itself = False

    def __init__(self, *, rate: float, influencers: int, coins: int, seconds: float) -> None:
        if rate <= 0 or influencers < 1 or coins < 1 or seconds <= 0:
            raise ValueError("rate, influencers, coins and seconds must be above zero")
        self.sent = 0
        self.begin = asyncio.Event()
        self._rate = rate
        self._influencers = influencers
        self._coins = load_coins(coins)
        self._total = round(rate * seconds)

    def prepare(self, market: Market) -> None:
        market.list_coins(self._coins)
        book = Book(
            tuple(Level(_BID - step * _STEP, Decimal(5_000_000), 9) for step in range(_LEVELS)),
            tuple(Level(_ASK + step * _STEP, Decimal(5_000_000), 9) for step in range(_LEVELS)),
        )
        market.books.update({coin.name: book for coin in self._coins})
        for number in range(self._influencers):
            market.open_account(load_address(number), Decimal(10_000_000))

    def now_ms(self, clock_ns: int) -> int:
        return clock_ns // 1_000_000

    async def run(self, venue: Venue) -> None:
        await venue.trades_wanted.wait()
        await self.begin.wait()
        loop = asyncio.get_running_loop()
        start = loop.time()
        while self.sent < self._total:
            due = min(self._total, int((loop.time() - start) * self._rate) + 1)
            while self.sent < due:
                self._trade(venue, self.sent)
                self.sent += 1
            await asyncio.sleep(_WAIT_S)

    def _trade(self, venue: Venue, number: int) -> None:
        turn, influencer = divmod(number, self._influencers)
        buys = turn % 2 == 0
        address = load_address(influencer)
        trade = Trade(
            coin=self._coins[influencer % len(self._coins)].name,
            side="B" if buys else "A",
            px=_ASK if buys else _BID,
            sz=_SIZE,
            time=venue.now_ms(),
            hash="0x" + sha256(f"load trade {number}".encode()).hexdigest(),
            tid=number + 1,
            users=(address, _MAKER) if buys else (_MAKER, address),
        )
        oid = _OID_START + 2 * number
        venue.traded([trade], venue.market.settle(trade, oid, oid + 1))
