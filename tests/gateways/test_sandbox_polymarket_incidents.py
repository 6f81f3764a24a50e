"""What happens to markets and to the Data API on demand."""

import json
from typing import Any

import pytest

from gateways.sandbox.polymarket import MARKETS, FlowSource
from gateways.sandbox.polymarket.traders import SPLITTER
from tests.gateways.test_sandbox_polymarket_data import ORIGIN_NS, ORIGIN_S, SEED, Client, Clock, played, serving
from tests.gateways.test_sandbox_polymarket_market import BRIEF, OPEN, listening
from tests.gateways.test_sandbox_polymarket_polygon import rpc


async def gamma_of(client: Client, listing: Any) -> dict[str, Any]:
    found = await client.get("/gamma/markets", condition_ids=listing.condition, closed="true")
    found += await client.get("/gamma/markets", condition_ids=listing.condition)
    (body,) = found
    return dict(body)


async def test_the_data_api_lags_and_stalls_visibly_while_the_chain_goes_on() -> None:
    clock = Clock(4)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client:

        async def newest() -> int:
            return int((await client.get("/data/v2/trades", limit=1))["data"][0]["timestamp"]) - ORIGIN_S

        async def lag() -> int:
            return int((await client.get("/data/v2/status"))["data"]["serving"]["lag_seconds"])

        await client.fault(data_lag_s=30)
        clock.advance(20)
        assert await newest() < 4
        assert await lag() >= 20
        clock.advance(20)
        assert 8 <= await newest() <= 12
        status = (await client.get("/data/v2/status"))["data"]
        assert status["ingestion"]["lagging"]
        await client.fault(data_lag_s=0, data_stall=True)
        stood = await newest()
        head = client.sandbox.venue.chain.head
        clock.advance(60)
        assert await newest() == stood
        assert await lag() >= 90
        assert int((await rpc(client, "eth_blockNumber"))["result"], 16) == head + 30
        await client.fault(data_stall=False)
        assert await newest() >= 96
        assert await lag() <= 4


@pytest.mark.parametrize(("payouts", "prices"), [("first", ["1", "0"]), ("50/50", ["0.5", "0.5"])])
async def test_a_market_is_resolved_now_and_redeemed(payouts: str, prices: list[str]) -> None:
    clock = Clock(14)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client:
        held = await client.get("/data/positions", user=SPLITTER.address, sizeThreshold=0)
        listing = next(one for one in MARKETS[1:] if one.condition in {row["conditionId"] for row in held})
        assert listing in MARKETS
        await client.fault(resolve={"market": listing.tokens[1], "payouts": payouts})
        body = await gamma_of(client, listing)
        assert json.loads(body["outcomePrices"]) == prices
        assert (body["closed"], body["umaResolutionStatus"]) == (True, "resolved")
        assert (await client.ask("/clob/book", token_id=listing.tokens[0])).status == 404
        clock.advance(9)
        rows = await client.walk("/data/v2/activity", user=SPLITTER.address, type="REDEEM", condition=listing.condition)
        assert rows
        for row in rows:
            share = float(prices[row["outcome_index"]])
            assert row["usdc_size"] == pytest.approx(row["size"] * share, abs=1e-6)
        assert not [
            row
            for row in await client.get("/data/positions", user=SPLITTER.address, sizeThreshold=0)
            if row["conditionId"] == listing.condition
        ]
        later = await client.walk("/data/v2/trades", condition=listing.condition, start=0, limit=1000)
        assert max(row["timestamp"] for row in later) <= ORIGIN_S + 16, "no wallet trades in it any more"
        assert (await client.get("/data/v2/resolutions", condition=listing.condition))["data"][0]["resolved_block"]


async def test_a_resolution_is_proposed_disputed_and_changed() -> None:
    async with played(9) as client:
        await client.fault(resolve={"market": OPEN.slug, "payouts": "first", "final": False})
        body = await gamma_of(client, OPEN)
        assert (body["umaResolutionStatus"], body["automaticallyResolved"]) == ("proposed", False)
        assert json.loads(body["outcomePrices"]) == ["1", "0"]
        row = (await client.get("/data/v2/resolutions", condition=OPEN.condition))["data"][0]
        assert (row["status"], row["payouts"]) == ("proposed", [])
        await client.fault(resolve={"market": OPEN.slug, "payouts": "second", "final": False})
        assert (await gamma_of(client, OPEN))["umaResolutionStatus"] == "disputed"
        await client.fault(resolve={"market": OPEN.slug, "payouts": "second"})
        body = await gamma_of(client, OPEN)
        assert (body["umaResolutionStatus"], json.loads(body["outcomePrices"])) == ("resolved", ["0", "1"])
        assert (await client.get("/data/v2/resolutions", condition=OPEN.condition))["data"][0]["was_disputed"] is True
        await client.fault(resolve={"market": OPEN.slug, "payouts": "50/50"})
        assert json.loads((await gamma_of(client, OPEN))["outcomePrices"]) == ["0.5", "0.5"]


async def test_a_closed_market_takes_no_orders_and_is_not_resolved() -> None:
    clock = Clock(5)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client:
        await client.fault(close=OPEN.name)
        body = await gamma_of(client, OPEN)
        assert (body["closed"], body["acceptingOrders"]) == (False, False)
        assert "umaResolutionStatus" not in body
        assert (await client.ask("/clob/book", token_id=OPEN.tokens[0])).status == 404
        clock.advance(30)
        rows = await client.walk("/data/v2/trades", condition=OPEN.condition, limit=1000)
        assert max((row["timestamp"] for row in rows), default=0) <= ORIGIN_S + 8


async def test_books_are_crossed_or_empty_until_the_fault_is_taken_back() -> None:
    async with played(9) as client, listening(client, OPEN.tokens[0]) as market:
        await market.raw()
        right = await client.get("/clob/book", token_id=OPEN.tokens[0])
        state = await client.fault(books={OPEN.name: "crossed"})
        assert state["books"] == {OPEN.name: "crossed"}
        crossed = await client.get("/clob/book", token_id=OPEN.tokens[0])
        assert float(crossed["bids"][-1]["price"]) > float(crossed["asks"][-1]["price"])
        assert (await market.rest())[0]["bids"] == crossed["bids"]
        await client.fault(books={OPEN.name: "empty"})
        empty = await client.get("/clob/book", token_id=OPEN.tokens[1])
        assert (empty["bids"], empty["asks"]) == ([], [])
        assert (await client.ask("/clob/midpoint", token_id=OPEN.tokens[0])).status == 404
        assert (await client.get("/clob/price", token_id=OPEN.tokens[0], side="BUY")) == {"price": "0"}
        await client.fault(books={OPEN.name: "no_asks"})
        other = await client.get("/clob/book", token_id=OPEN.tokens[1])
        assert other["bids"] == [], "without asks for the first there are no bids for the second"
        assert other["asks"]
        await client.fault(books={OPEN.name: "normal"})
        mended = await client.get("/clob/book", token_id=OPEN.tokens[0])
        assert (mended["bids"], mended["asks"]) == (right["bids"], right["asks"])


async def test_the_brief_market_ends_at_the_configured_time() -> None:
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS, resolves_s=5), Clock(6)) as client:
        assert (await gamma_of(client, BRIEF))["closedTime"] == "2026-01-01 00:00:05+00"
