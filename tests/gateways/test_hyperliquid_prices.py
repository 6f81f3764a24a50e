"""Prices of coins from the venue's mids: to the nearest micro, and one odd coin costs that coin only."""

from collections.abc import Mapping

import msgspec
import pytest
from aiohttp import web

from gateways.hyperliquid.info_client import InfoClient
from gateways.hyperliquid.prices import VenuePrices
from gateways.venue_errors import WireError

NOW = 1_784_683_600_000_000_000


async def prices_of(mids: object, *assets: str) -> Mapping[str, int]:
    """What a venue that answers these mids is understood to say."""

    async def answered(request: web.Request) -> web.Response:
        assert (await request.json())["type"] == "allMids"
        return web.Response(body=msgspec.json.encode(mids))

    app = web.Application()
    app.router.add_post("/info", answered)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with InfoClient(f"http://127.0.0.1:{runner.addresses[0][1]}") as info:
            found = await VenuePrices(info, lambda: NOW).prices(assets)
    finally:
        await runner.cleanup()
    assert all(price.time == NOW for price in found.values())
    return {asset: price.price_micros for asset, price in found.items()}


async def test_a_mid_of_half_a_tick_is_the_nearest_micro() -> None:
    found = await prices_of({"PUMP": "0.0055155", "BTC": "66405.5", "SOL": "84.12"}, "PUMP", "BTC", "SOL")
    assert found == {"PUMP": 5_516, "BTC": 66_405_500_000, "SOL": 84_120_000}


@pytest.mark.parametrize("odd", ["1e-7", "", None, 5, "0", "-1", "0.0000001"])
async def test_one_odd_coin_costs_that_coin_only(odd: object) -> None:
    assert await prices_of({"ODD": odd, "SOL": "84.12"}, "ODD", "SOL") == {"SOL": 84_120_000}


async def test_what_is_no_table_of_mids_is_refused() -> None:
    with pytest.raises(WireError, match="not mids"):
        await prices_of(["84.12"], "SOL")
