"""Faults on demand."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest
import websockets

from gateways.sandbox.hyperliquid import FlowSource, Sandbox
from gateways.sandbox.hyperliquid.subscriptions import Topic
from tests.gateways.test_sandbox_hyperliquid_ws import (
    ORIGIN_NS,
    SEED,
    Clock,
    connected,
    played,
    serving,
    until,
    wire_trades,
)

NONE = {
    "refuse_connections_s": 0.0,
    "silence_s": 0.0,
    "http_429": 0,
    "delay_ms": 0,
    "duplicate": False,
    "exchange_lost_answers": 0,
    "exchange_5xx": 0,
    "exchange_delay_ms": 0,
    "exchange_errors": [],
    "funding_every_s": 3600.0,
    "listener_drops_every": 0,
    "listener_silence_s": 0.0,
}


async def order(sandbox: Sandbox, **faults: object) -> Any:
    async with aiohttp.ClientSession() as http, http.post(f"{sandbox.url}/sandbox/faults", json=faults) as response:
        assert response.status == 200
        return await response.json()


async def status(sandbox: Sandbox) -> int:
    async with aiohttp.ClientSession() as http, http.post(f"{sandbox.url}/info", json={"type": "meta"}) as response:
        return response.status


async def test_no_faults_at_first_and_a_typo_is_refused() -> None:
    async with played(0.1) as sandbox:
        assert await order(sandbox) == NONE
        url, typo = f"{sandbox.url}/sandbox/faults", {"drop_conections": True}
        async with aiohttp.ClientSession() as http, http.post(url, json=typo) as response:
            assert response.status == 422
            assert "drop_conections" in await response.text()


async def test_dropped_connections_see_1006_and_may_come_back() -> None:
    async with played(0.1) as sandbox:
        async with connected(sandbox) as one, connected(sandbox) as two:
            assert await order(sandbox, drop_connections=True) == NONE
            assert [await one.close_code(), await two.close_code()] == [1006, 1006]
        async with connected(sandbox) as again:
            await again.send({"method": "ping"})
            assert await again.next() == {"channel": "pong"}


async def test_connections_are_refused_for_a_while() -> None:
    async with played(0.1) as sandbox, connected(sandbox) as old:
        state = await order(sandbox, refuse_connections_s=0.3)
        assert 0 < state["refuse_connections_s"] <= 0.3
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(sandbox.ws_url)
        await old.send({"method": "ping"})
        assert await old.next() == {"channel": "pong"}, "who is connected stays connected"
        until_then = time.monotonic() + 2
        while (await order(sandbox))["refuse_connections_s"] > 0:
            assert time.monotonic() < until_then
        async with connected(sandbox) as new:
            await new.send({"method": "ping"})
            assert await new.next() == {"channel": "pong"}


async def test_so_many_calls_are_answered_429() -> None:
    async with played(0.1) as sandbox:
        assert (await order(sandbox, http_429=2))["http_429"] == 2
        assert [await status(sandbox) for _ in range(3)] == [429, 429, 200]


async def test_answers_are_delayed_until_the_fault_is_taken_back() -> None:
    async with played(0.1) as sandbox:
        await order(sandbox, delay_ms=150)
        start = time.monotonic()
        await status(sandbox)
        assert time.monotonic() - start >= 0.15
        assert (await order(sandbox, delay_ms=0))["delay_ms"] == 0
        start = time.monotonic()
        await status(sandbox)
        assert time.monotonic() - start < 0.15


async def test_raw_text_goes_to_everybody_with_a_subscription() -> None:
    async with played(0.1) as sandbox, connected(sandbox) as listening, connected(sandbox) as other:
        await listening.subscribe(type="allMids")
        await listening.next("allMids")
        await order(sandbox, inject_frames=["{not json", '{"channel":"trades","data":[{"coin":1}]}'])
        assert await listening.raw() == "{not json"
        assert await listening.raw() == '{"channel":"trades","data":[{"coin":1}]}'
        assert await other.quiet()


async def test_trades_come_twice() -> None:
    clock = Clock()
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as sandbox, connected(sandbox) as client:
        action = until(5)[0]
        await client.subscribe(type="trades", coin=action.coin)
        assert (await order(sandbox, duplicate=True))["duplicate"] is True
        clock.advance(action.offset_ms / 1_000)
        twice = [(await client.next())["data"] for _ in range(2)]
        assert twice == [wire_trades([action])] * 2
        assert await client.quiet()


async def test_books_come_twice_too() -> None:
    clock = Clock()
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as sandbox, connected(sandbox) as client:
        action = next(one for one in until(20) if one.book is not None)
        await client.subscribe(type="bbo", coin=action.coin)
        await client.next("bbo")
        await order(sandbox, duplicate=True)
        clock.advance(action.offset_ms / 1_000)
        one, other = await client.next("bbo"), await client.next("bbo")
        assert one == other


async def test_silent_feeds_stay_open_and_are_heard_again_afterwards() -> None:
    async with played(0.1) as sandbox, connected(sandbox) as client:
        await client.subscribe(type="l2Book", coin="SOL", fast=True)
        await client.next("l2Book")
        assert (await order(sandbox, silence_s=30))["silence_s"] > 29
        await asyncio.sleep(0.01)
        assert await client.quiet(1.2), "books are sent twice a second otherwise"
        await client.send({"method": "ping"})
        assert await client.next() == {"channel": "pong"}
        await order(sandbox, silence_s=0)
        assert (await client.next("l2Book"))["data"]["coin"] == "SOL"


async def test_one_listener_gets_other_trades_than_the_rest_or_none() -> None:
    source = FlowSource(SEED, origin_ns=ORIGIN_NS)
    async with serving(source, Clock()) as sandbox, connected(sandbox) as old, connected(sandbox) as new:
        for client in (old, new):
            await client.subscribe(type="trades", coin="BTC")
        await order(sandbox, listener_drops_every=2)
        for number in range(4):
            sandbox.venue.hub.publish(Topic("trades", "BTC"), b'{"channel":"trades","data":%d}' % number)
        assert [(await new.next("trades"))["data"] for _ in range(4)] == [0, 1, 2, 3]
        assert [(await old.next("trades"))["data"] for _ in range(2)] == [0, 2]
        await order(sandbox, listener_drops_every=0, listener_silence_s=60)
        sandbox.venue.hub.publish(Topic("trades", "BTC"), b'{"channel":"trades","data":4}')
        assert (await new.next("trades"))["data"] == 4
        assert await old.quiet()
