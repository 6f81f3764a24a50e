"""Faults on demand."""

import asyncio
import json
import time

import aiohttp
import pytest
import websockets

from gateways.sandbox.hyperliquid import FlowSource as HyperliquidFlow
from gateways.sandbox.hyperliquid import serve as serve_hyperliquid
from gateways.sandbox.polymarket import FlowSource, Limits, PolymarketSandbox, serve
from gateways.sandbox.polymarket.traders import DRIPPER, TAKER
from tests.gateways.test_sandbox_polymarket_data import ORIGIN_NS, ORIGIN_S, SEED, Client, Clock, played, serving
from tests.gateways.test_sandbox_polymarket_market import OPEN, listening
from tests.gateways.test_sandbox_polymarket_polygon import connected, rpc

NONE = {
    "refuse_connections_s": 0.0,
    "silence_s": 0.0,
    "duplicate": False,
    "http_429": 0,
    "http_5xx": 0,
    "malformed": 0,
    "rpc_errors": 0,
    "retry_after_s": 1,
    "status_5xx": 503,
    "delay_ms": 0,
    "route": "",
    "data_lag_s": 0.0,
    "data_stall": False,
    "books": {},
    "paused": False,
}


async def statuses(client: Client, path: str, count: int) -> list[int]:
    return [(await client.ask(path)).status for _ in range(count)]


async def test_no_faults_at_first_and_a_mistake_is_refused() -> None:
    async with played(1) as client:
        assert await client.fault() == NONE
        for wrong, text in (
            ({"drop_conections": True}, "drop_conections"),
            ({"close": "moon"}, "there is no market 'moon'; use one of btc-updown, "),
            ({"reorg": 0}, "reorg takes 1 to 100 blocks, got 0"),
        ):
            async with client.http.post(f"{client.sandbox.url}/sandbox/faults", json=wrong) as response:
                assert response.status == 422
                assert text in await response.text()
        assert await client.fault() == NONE


async def test_dropped_and_closed_sockets() -> None:
    async with played(1) as client:
        async with listening(client, OPEN.tokens[0]) as market, connected(client) as node:
            await client.fault(drop_connections=True, only="market")
            await asyncio.wait_for(market.connection.wait_closed(), 2)
            assert market.connection.close_code == 1006
            assert (await node.call("eth_chainId"))["result"] == "0x89"
            await client.fault(close_connections=1013)
            await asyncio.wait_for(node.connection.wait_closed(), 2)
            assert node.connection.close_code == 1013
        async with connected(client) as again:
            assert (await again.call("eth_chainId"))["result"] == "0x89"


async def test_connections_are_refused_for_a_while() -> None:
    async with played(1) as client:
        await client.fault(refuse_connections_s=0.2)
        for url in (client.sandbox.market_ws_url, client.sandbox.polygon_ws_url):
            with pytest.raises(websockets.InvalidStatus):
                await websockets.connect(url)
        assert (await client.ask("/clob/time")).status == 200
        await asyncio.sleep(0.21)
        async with connected(client) as node:
            assert (await node.call("eth_blockNumber"))["result"]


async def test_http_faults_hit_their_route_so_many_times() -> None:
    async with played(1) as client:
        await client.fault(http_429=2, retry_after_s=7, route="/data")
        assert await statuses(client, "/gamma/markets", 1) == [200]
        response = await client.ask("/data/v2/activity", user=TAKER.address)
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
        body = await response.json()
        assert (body["code"], body["retryable"]) == ("rate_limited", True)
        assert body["trace_id"]
        response = await client.ask("/data/value", user=TAKER.address)
        assert (response.status, await response.json()) == (429, {"error": "Too Many Requests"})
        assert await statuses(client, "/data/v2/status", 1) == [200]
        await client.fault(http_5xx=2, route="/clob")
        assert await statuses(client, "/clob/time", 3) == [503, 503, 200]
        await client.fault(http_5xx=1, status_5xx=502, route="")
        assert await statuses(client, "/gamma/markets", 2) == [502, 200]
        await client.fault(http_5xx=1, status_5xx=500, route="/polygon")
        async with client.http.post(client.sandbox.polygon_url, json={}) as refused:
            assert refused.status == 500


async def test_malformed_bodies_and_delays() -> None:
    async with played(1) as client:
        await client.fault(malformed=1)
        async with client.http.get(f"{client.sandbox.gamma_url}/markets") as response:
            assert response.status == 200
            with pytest.raises(json.JSONDecodeError):
                json.loads(await response.text())
        assert len(await client.get("/gamma/markets")) == 6
        await client.fault(delay_ms=120, route="/clob/book")
        start = time.monotonic()
        await client.get("/clob/book", token_id=OPEN.tokens[0])
        assert time.monotonic() - start >= 0.12
        await client.fault(delay_ms=0)
        start = time.monotonic()
        await client.get("/clob/book", token_id=OPEN.tokens[0])
        assert time.monotonic() - start < 0.12


async def test_an_url_asked_again_answers_the_old_body_until_it_expires() -> None:
    clock = Clock(8)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client:
        query = {"user": DRIPPER.address, "taker_only": "false", "limit": 1000}
        first = await client.get("/data/v2/trades", buster=False, **query)
        activity = await client.get("/data/v2/activity", buster=False, user=DRIPPER.address)
        clock.advance(14)
        again = await client.ask("/data/v2/trades", buster=False, **query)
        assert await again.json() == first
        assert (again.headers["Age"], again.headers["X-Cache"]) == ("14", "Hit from cloudfront")
        assert again.headers["Cache-Control"] == "public, max-age=300"
        fresh = await client.get("/data/v2/trades", **query)
        assert len(fresh["data"]) > len(first["data"])
        assert await client.get("/data/v2/activity", buster=False, user=DRIPPER.address) == activity
        clock.advance(2)
        later = await client.get("/data/v2/activity", buster=False, user=DRIPPER.address)
        assert later != activity, "activity is kept for 15 seconds"
        clock.advance(290)
        expired = await client.ask("/data/v2/trades", buster=False, **query)
        assert expired.headers["Age"] == "0"
        assert await expired.json() != first
        assert await client.get("/data/trades", user=TAKER.address, buster=False)


async def test_frames_come_twice_or_not_at_all() -> None:
    clock = Clock(1)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client, connected(client) as node:
        heads = (await node.call("eth_subscribe", "newHeads"))["result"]
        await client.fault(duplicate=True)
        clock.advance(2)
        twice = [await node.next(heads), await node.next(heads)]
        assert [int(head["timestamp"], 16) - ORIGIN_S for head in [*twice, *await node.drained(heads)]] == [2, 2]
        await client.fault(duplicate=False, silence_s=60)
        clock.advance(4)
        assert await node.drained(heads) == []
        assert (await node.call("eth_blockNumber"))["result"], "the socket is open"
        await client.fault(silence_s=0)
        clock.advance(2)
        once = await node.next(heads)
        assert [int(head["timestamp"], 16) - ORIGIN_S for head in [once, *await node.drained(heads)]] == [8]


async def test_raw_text_goes_to_everybody_who_listens() -> None:
    async with played(1) as client, listening(client, OPEN.tokens[0]) as market, connected(client) as node:
        await market.raw()
        await node.call("eth_subscribe", "newHeads")
        await client.fault(inject_frames=["{not json"])
        assert await market.raw() == "{not json"
        assert await asyncio.wait_for(node.connection.recv(), 1) == "{not json"
        await client.fault(inject_frames=["1"], only="polygon")
        assert await asyncio.wait_for(node.connection.recv(), 1) == "1"
        assert await market.rest(0.05) == []


async def test_a_lagging_node_refuses_ranges() -> None:
    async with played(9) as client:
        await client.fault(rpc_errors=2)
        answers = [await rpc(client, "eth_getLogs", {"fromBlock": "latest"}) for _ in range(3)]
        assert [answer.get("error", {}).get("message") for answer in answers] == [
            "invalid block range params",
            "invalid block range params",
            None,
        ]


async def test_a_client_that_does_not_read_is_closed() -> None:
    clock = Clock(0)
    async with (
        serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock, Limits(queued_frames=8)) as client,
        connected(client) as slow,
    ):
        await slow.call("eth_subscribe", "logs", {})
        clock.advance(30)
        await client.get("/clob/time")
        await asyncio.wait_for(slow.connection.wait_closed(), 2)
        assert slow.connection.close_code == 1006


async def test_both_sandboxes_in_one_process() -> None:
    clock = Clock(3)
    other = await serve_hyperliquid(HyperliquidFlow(SEED, origin_ns=ORIGIN_NS), clock=clock)
    sandbox = await serve(FlowSource(SEED, origin_ns=ORIGIN_NS), clock=clock)
    try:
        async with aiohttp.ClientSession() as http:
            async with http.post(f"{other.url}/info", json={"type": "meta"}) as response:
                assert response.status == 200
            async with http.get(f"{sandbox.gamma_url}/markets") as response:
                assert len(await response.json()) == 6
    finally:
        await other.close()
        await sandbox.close()
    again = PolymarketSandbox(FlowSource(SEED, origin_ns=ORIGIN_NS), clock=clock, port=sandbox.port)
    async with again:
        assert again.port == sandbox.port, "the port is free again"


async def test_a_taken_port_is_an_error() -> None:
    async with played(1) as client:
        taken = PolymarketSandbox(FlowSource(SEED), port=client.sandbox.port)
        with pytest.raises(OSError):
            await taken.start()
        await taken.stop()


async def test_more_requests_than_a_path_allows_within_ten_seconds_are_answered_429() -> None:
    limits = Limits(requests_per_10_s={"/clob": 5, "/clob/book": 2, "/gamma": 1})
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), Clock(1), limits) as client:
        book = [(await client.ask("/clob/book", token_id=OPEN.tokens[0])).status for _ in range(3)]
        assert book == [200, 200, 429]
        assert await statuses(client, "/clob/time", 3) == [200, 200, 429], "the refused one counts for all of the CLOB"
        assert await statuses(client, "/gamma/markets", 2) == [200, 429]
        assert await statuses(client, "/data/v2/status", 3) == [200] * 3
        refused = await client.ask("/gamma/markets")
        assert refused.headers["Retry-After"] == "1"
        assert (client.sandbox.venue.requests.served, client.sandbox.venue.requests.refused) == (8, 4)


def test_the_limits_of_requests_are_the_venues() -> None:
    limits = Limits().requests_per_10_s
    assert (limits["/data/v2/trades"], limits["/gamma/markets"], limits["/clob/book"]) == (200, 300, 1_500)
