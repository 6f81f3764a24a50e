"""The Data API of the sandbox: positions, staleness, resolutions; and the venue's time."""

import asyncio

from gateways.sandbox.polymarket import MARKETS, FlowSource
from gateways.sandbox.polymarket.traders import MAKER, SPLITTER, TAKER
from tests.gateways.test_sandbox_polymarket_data import ORIGIN_NS, ORIGIN_S, SEED, Clock, played, serving


async def test_positions_are_valued_by_the_market() -> None:
    async with played() as client:
        rows = await client.get("/data/positions", user=MAKER.address, sizeThreshold=0)
        assert [row["currentValue"] for row in rows] == sorted((row["currentValue"] for row in rows), reverse=True)
        ended = [row for row in rows if row["conditionId"] == MARKETS[0].condition]
        assert ended, "the maker lets his shares lie"
        assert {row["redeemable"] for row in ended} == {True}
        assert {row["curPrice"] for row in ended} <= {0, 1}
        book = await client.get("/clob/midpoint", token_id=rows[0]["asset"])
        assert str(rows[0]["curPrice"]) == book["mid"]
        second = (await client.get("/data/v2/positions", user=MAKER.address, limit=1000))["data"]
        assert {row["status"] for row in second} <= {"OPEN", "REDEEMABLE", "REDEEMABLE_LOST"}
        lost = (await client.get("/data/v2/positions", user=MAKER.address, status="REDEEMABLE_LOST"))["data"]
        won = (await client.get("/data/v2/positions", user=MAKER.address, status="REDEEMABLE"))["data"]
        assert {row["token_id"] for row in lost + won} == {row["asset"] for row in ended}
        merge = await client.get("/data/positions", user=SPLITTER.address, mergeable="true")
        assert len(merge) >= 2
        closed = (await client.get("/data/v2/positions", user=TAKER.address, status="CLOSED"))["data"]
        assert closed
        assert {row["current_size"] for row in closed} == {0}
        value = await client.get("/data/v2/value", user=MAKER.address)
        assert abs(value["data"]["value"] - (await client.get("/data/value", user=MAKER.address))[0]["value"]) < 0.0002


async def test_status_shows_how_far_the_rows_are() -> None:
    clock = Clock(8)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client:
        status = (await client.get("/data/v2/status"))["data"]
        head = client.sandbox.venue.chain.head
        assert 1 <= head - status["ingestion"]["max_synced_block"] <= 2
        assert 2 <= status["serving"]["lag_seconds"] <= 4
        newest = (await client.get("/data/v2/trades", limit=1))["data"][0]["timestamp"]
        synced = client.sandbox.venue.chain.timestamp_s(status["ingestion"]["max_synced_block"])
        assert newest <= synced


async def test_resolutions_by_condition() -> None:
    async with played(11) as client:
        ids = f"{MARKETS[0].condition},{MARKETS[1].condition}"
        rows = (await client.get("/data/v2/resolutions", condition=ids))["data"]
        assert [(row["status"], row["payouts"], row["price"]) for row in rows] == [("initialized", [], "69")] * 2
    async with played() as client:
        row = (await client.get("/data/v2/resolutions", condition=MARKETS[0].condition))["data"][0]
        assert sorted(row["payouts"]) == [0, 1_000_000]
        assert (row["status"], row["was_disputed"]) == ("resolved", False)
        assert row["resolved_at"] == "2026-01-01T00:00:12Z"


async def test_nothing_of_the_scenario_is_played_before_its_time_and_done_comes_when_all_is_served() -> None:
    clock = Clock(-3)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS, horizon_s=4), clock) as client:
        assert await client.get("/data/activity", user=TAKER.address, start=ORIGIN_S) == []
        held = await client.get("/data/positions", user=TAKER.address)
        assert held, "positions from before"
        clock.advance(7.1)
        await asyncio.sleep(0.06)
        assert not client.sandbox.done.is_set(), "the last rows are not served yet"
        clock.advance(6)
        await asyncio.wait_for(client.sandbox.done.wait(), 1)
        assert await client.get("/data/activity", user=TAKER.address, start=ORIGIN_S)


async def test_all_is_collected_when_each_wallet_was_asked_for_once_more() -> None:
    clock = Clock(-3)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS, horizon_s=4), clock) as client:
        await client.get("/data/activity", user=TAKER.address)
        await client.get("/data/v2/activity", user=MAKER.address)
        clock.advance(13.1)
        await asyncio.wait_for(client.sandbox.done.wait(), 1)
        await client.get("/data/v2/activity", user=TAKER.address)
        await asyncio.sleep(0.06)
        assert not client.sandbox.collected.is_set()
        await client.get("/data/v2/activity", user=MAKER.address)
        await asyncio.wait_for(client.sandbox.collected.wait(), 1)


async def test_time_stops_while_paused() -> None:
    clock = Clock(5)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client:
        client.sandbox.pause()
        clock.advance(30)
        assert await client.get("/clob/time") == ORIGIN_S + 5
        client.sandbox.go()
        clock.advance(2)
        assert await client.get("/clob/time") == ORIGIN_S + 7
        assert (await client.fault(paused=True))["paused"] is True
        clock.advance(9)
        assert await client.get("/clob/time") == ORIGIN_S + 7
        assert (await client.fault(paused=False))["paused"] is False
