"""Funding: at the end of every interval, an hour on the venue, longs pay shorts a fraction of their position's value.

The rate of every coin is the venue's base rate. Only accounts that trade pay and receive it: those of the source's
traders keep what their trades leave.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from gateways.sandbox.hyperliquid.margin import mark_of
from gateways.sandbox.hyperliquid.market import Market
from gateways.sandbox.hyperliquid.market_data import Funding

RATE: Final = Decimal("0.0000125")
_MICRO: Final = Decimal("0.000001")


def settle(market: Market, time_ms: int, paid: Callable[[str, list[Funding]], None]) -> None:
    """Book the funding of every coin and account at `time_ms`; `paid` gets what each account paid and received."""
    market.funding_times.append(time_ms)
    for address, trading in market.trading.items():
        account = market.accounts[address]
        fundings = [
            Funding(
                time_ms,
                coin,
                -(position.size * mark_of(market, coin, position) * RATE).quantize(_MICRO),
                position.size,
                RATE,
            )
            for coin, position in account.positions.items()
        ]
        for funding in fundings:
            account.earned[market.coins[funding.coin].dex] += funding.usdc
        trading.fundings.extend(fundings)
        if fundings:
            paid(address, fundings)
