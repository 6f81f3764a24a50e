"""Traded assets: each is reported once as new, and at every signal as traded."""

import asyncio

from domain.mark_prices import Asset
from handlers.live.event_codec import codec
from handlers.live.traded_assets import TradedAssets
from streams.connection import Connection
from tests.handlers.traded import traded


def named(*names: str) -> list[Asset]:
    return [("hyperliquid", name) for name in names]


async def test_assets_are_reported_in_the_order_of_their_last_trade_and_then_as_they_are_traded(
    log: Connection,
) -> None:
    await traded(log, "BTC", "ETH", "BTC")
    assets = TradedAssets(log, codec())
    await assets.start()
    try:
        heard: list[Asset] = []
        new: list[Asset] = []
        assets.on_trade(heard.append)
        assets.on_new(new.append)
        assert heard == named("ETH", "BTC")
        await traded(log, "SOL", "ETH", "SOL")
        async with asyncio.timeout(5):
            while len(heard) < 5:
                await asyncio.sleep(0.01)
        assert heard[2:] == named("SOL", "ETH", "SOL")
        assert sorted(new) == named("BTC", "ETH", "SOL")
    finally:
        await assets.close()
