"""What the sandbox refuses, and whom it cuts off."""

import asyncio
import contextlib

import aiohttp
import pytest
import websockets
from aiohttp import web

from gateways.sandbox.hyperliquid import FlowSource, Limits, Sandbox
from gateways.sandbox.hyperliquid.faults import Faults
from gateways.sandbox.hyperliquid.subscriptions import Subscription, Topic
from gateways.sandbox.hyperliquid.websocket_hub import Connection, WebsocketHub
from tests.gateways.test_sandbox_hyperliquid_ws import ORIGIN_NS, Clock, connected, played, serving

PARSING = "Error parsing JSON into valid websocket request: "


def user(number: int) -> str:
    return f"0x{number:040x}"


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        '{"method":"post","id":1}',
        '{"method": "subscribe", "subscription": {"type": "noSuchType", "coin": "BTC"}}',
        '{"method":"subscribe","subscription":{"type":"trades"}}',
        '{"method":"subscribe","subscription":{"type":"userFills","user":"0x12"}}',
        '{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC","nSigFigs":7}}',
    ],
)
async def test_what_cannot_be_parsed_is_quoted_and_the_connection_lives(message: str) -> None:
    async with played(1) as sandbox, connected(sandbox) as client:
        await client.send(message)
        assert await client.next() == {"channel": "error", "data": PARSING + message}
        await client.send({"method": "ping"})
        assert await client.next() == {"channel": "pong"}


async def test_subscribing_twice_is_an_error_however_it_is_spelt() -> None:
    async with played(0.1) as sandbox, connected(sandbox) as client:
        await client.subscribe(type="userFills", user=user(0xAB))
        error = await client.subscribe(
            aggregateByTime=False, user=user(0xAB).upper().replace("X", "x"), type="userFills"
        )
        again = f'{{"type":"userFills","user":"{user(0xAB)}","aggregateByTime":false}}'
        assert error == {"channel": "error", "data": f"Already subscribed: {again}"}


async def test_unsubscribing_from_nothing_is_an_error() -> None:
    async with played(0.1) as sandbox, connected(sandbox) as client:
        await client.send({"method": "unsubscribe", "subscription": {"type": "bbo", "coin": "BTC"}})
        error = await client.next()
        assert error == {"channel": "error", "data": 'Invalid subscription {"type":"bbo","coin":"BTC"}'}


async def test_an_unknown_coin_ends_the_connection_without_a_frame() -> None:
    async with played(0.1) as sandbox, connected(sandbox) as client:
        await client.send({"method": "subscribe", "subscription": {"type": "trades", "coin": "NOPE"}})
        with pytest.raises(websockets.ConnectionClosedError):
            await client.raw()
        assert await client.close_code() == 1006


async def test_users_are_counted_over_all_connections_and_freed() -> None:
    async with played(0.1) as sandbox, connected(sandbox) as other:
        async with connected(sandbox) as client:
            for number in range(15):
                ack = await (client if number % 2 else other).subscribe(type="userFills", user=user(number))
                assert ack["channel"] == "subscriptionResponse"
            same = await client.subscribe(type="userFills", user=user(0))
            assert same["channel"] == "subscriptionResponse", "an address counts once"
            refused = await client.subscribe(type="userFills", user=user(15))
            assert refused == {"channel": "error", "data": "Cannot track more than 15 total users."}
        await asyncio.sleep(0.05)
        freed = await other.subscribe(type="userFills", user=user(15))
        assert freed["channel"] == "subscriptionResponse"


def test_the_limits_are_the_venues() -> None:
    limits = Limits()
    assert (limits.idle_s, limits.users, limits.subscriptions) == (60.0, 15, 1_000)
    assert (limits.connections, limits.connections_per_minute) == (10, 30)
    assert (limits.messages_per_minute, limits.weight_per_minute) == (2_000, 1_200)


async def ask(sandbox: Sandbox, body: dict[str, object]) -> int:
    async with aiohttp.ClientSession() as http, http.post(f"{sandbox.url}/info", json=body) as response:
        return response.status


async def test_requests_above_the_weight_of_a_minute_are_answered_429() -> None:
    limited = serving(FlowSource(1, origin_ns=ORIGIN_NS), limits=Limits(weight_per_minute=27))
    async with limited as sandbox:
        book: dict[str, object] = {"type": "l2Book", "coin": "BTC"}
        bodies: list[dict[str, object]] = [{"type": "meta"}, book, book, book, book]
        assert [await ask(sandbox, body) for body in bodies] == [200, 200, 200, 200, 429]
        assert (sandbox.usage.weight, sandbox.usage.requests_refused) == (26, 1)
        assert sandbox.usage.requests == {"meta": 1, "l2Book": 3}


async def test_rows_of_fills_weigh_on_what_comes_after_them() -> None:
    limited = serving(FlowSource(7, origin_ns=ORIGIN_NS, horizon_s=90), Clock(90), Limits(weight_per_minute=60))
    async with limited as sandbox:
        await asyncio.wait_for(sandbox.done.wait(), 2)
        accounts = sandbox.market.accounts
        busiest = max(accounts, key=lambda address: len(accounts[address].newest_fills()))
        rows = len(accounts[busiest].newest_fills())
        assert await ask(sandbox, {"type": "userFills", "user": user(0)}) == 200, "nothing on top for no fills"
        assert await ask(sandbox, {"type": "userFills", "user": busiest}) == 200
        assert sandbox.usage.weight == 40 + -(-rows // 20) > 40
        assert await ask(sandbox, {"type": "meta"}) == 429, "20 would have been left without the rows"


async def test_more_connections_than_allowed_are_refused_until_one_ends() -> None:
    limited = serving(FlowSource(1, origin_ns=ORIGIN_NS), limits=Limits(connections=2))
    async with limited as sandbox, connected(sandbox):
        async with connected(sandbox):
            with pytest.raises(websockets.InvalidStatus, match="429"):
                await websockets.connect(sandbox.ws_url)
        await asyncio.sleep(0.05)
        async with connected(sandbox) as again:
            await again.send({"method": "ping"})
            assert await again.next() == {"channel": "pong"}
        assert (sandbox.usage.connections, sandbox.usage.connections_refused) == (3, 1)


async def test_connections_made_within_a_minute_are_counted() -> None:
    limited = serving(FlowSource(1, origin_ns=ORIGIN_NS), limits=Limits(connections_per_minute=2))
    async with limited as sandbox:
        for _ in range(2):
            async with connected(sandbox):
                pass
        with pytest.raises(websockets.InvalidStatus, match="429"):
            await websockets.connect(sandbox.ws_url)


async def test_a_client_that_sends_too_many_messages_is_disconnected() -> None:
    limited = serving(FlowSource(1, origin_ns=ORIGIN_NS), limits=Limits(messages_per_minute=3))
    async with limited as sandbox, connected(sandbox) as client:
        for _ in range(4):
            await client.send({"method": "ping"})
        assert await client.close_code() == 1006


async def test_who_leaves_is_listened_for_no_longer() -> None:
    limits, topic = Limits(), Topic("trades", "BTC")
    hub = WebsocketHub(limits, Faults())
    connection = Connection(web.WebSocketResponse(), asyncio.Transport(), "127.0.0.1", limits)
    hub.admit(connection)
    hub.subscribe(connection, Subscription(topic, {}))
    assert hub.topics("trades") == [topic]
    hub.remove(connection)
    assert hub.topics("trades") == []
    assert not hub.connections


async def test_subscriptions_are_counted_over_all_connections() -> None:
    limited = serving(FlowSource(1, origin_ns=ORIGIN_NS), limits=Limits(subscriptions=3))
    async with limited as sandbox, connected(sandbox) as other, connected(sandbox) as client:
        await other.subscribe(type="trades", coin="BTC")
        await client.subscribe(type="trades", coin="BTC")
        await client.subscribe(type="trades", coin="ETH")
        refused = await client.subscribe(type="trades", coin="SOL")
        assert refused == {"channel": "error", "data": "Cannot subscribe to more than 3 channels."}
        await client.send({"method": "unsubscribe", "subscription": {"type": "trades", "coin": "ETH"}})
        await client.next("subscriptionResponse")
        assert (await client.subscribe(type="trades", coin="SOL"))["channel"] == "subscriptionResponse"


async def test_an_idle_connection_is_closed() -> None:
    source = FlowSource(1, origin_ns=ORIGIN_NS)
    closing_early = serving(source, limits=Limits(idle_s=0.3))
    async with closing_early as sandbox, connected(sandbox) as idle, connected(sandbox) as pinging:
        for _ in range(6):
            await pinging.send({"method": "ping"})
            await pinging.next("pong")
            await asyncio.sleep(0.1)
        assert await idle.close_code() == 1006
        await pinging.send({"method": "ping"})
        assert await pinging.next() == {"channel": "pong"}


async def test_a_client_that_does_not_read_is_closed_and_delays_no_other() -> None:
    megabyte = "x" * 1_000_000
    limits = Limits(queued_frames=16)
    async with serving(FlowSource(1, origin_ns=ORIGIN_NS), Clock(), limits) as sandbox, connected(sandbox) as healthy:
        await healthy.subscribe(type="allMids")
        stalled = await websockets.connect(sandbox.ws_url, max_queue=1)
        await stalled.send('{"method":"subscribe","subscription":{"type":"trades","coin":"BTC"}}')
        async with aiohttp.ClientSession() as http:
            for _ in range(6):
                async with http.post(
                    f"{sandbox.url}/sandbox/faults", json={"inject_frames": [megabyte] * 8}
                ) as response:
                    assert response.status == 200
                got = 0
                while got < 8:
                    got += await healthy.raw() == megabyte
        with contextlib.suppress(websockets.ConnectionClosedError):
            async with asyncio.timeout(2):
                async for _ in stalled:
                    pass
        assert stalled.close_code == 1006
        await healthy.send({"method": "ping"})
        assert await healthy.next("pong")
