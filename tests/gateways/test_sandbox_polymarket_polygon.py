"""The sandbox's Polygon node: logs encoded exactly, filters, ranges, subscriptions, balances, reorganisations."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from gateways.sandbox.polymarket import INFLUENCERS, FlowSource, abi
from gateways.sandbox.polymarket.traders import MAKER, TAKER
from tests.gateways.test_sandbox_polymarket_data import (
    ORIGIN_NS,
    ORIGIN_S,
    SEED,
    Client,
    Clock,
    played,
    serving,
    venue,
)

EXCHANGES = [abi.EXCHANGE, "0xe2222d279d744050d28e00520010520000310F59"]


class Node:
    """A JSON-RPC client over one WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.pushed: list[dict[str, Any]] = []

    async def raw(self, timeout_s: float = 2.0) -> Any:
        return json.loads(await asyncio.wait_for(self.connection.recv(), timeout_s))

    async def call(self, method: str, *params: object) -> Any:
        await self.connection.send(json.dumps({"jsonrpc": "2.0", "id": 5, "method": method, "params": params}))
        while True:
            message = await self.raw()
            if message.get("id") == 5:
                return message
            self.pushed.append(message)

    async def next(self, key: str, timeout_s: float = 2.0) -> Any:
        """The next push of a subscription; pushes of others in between are dropped."""
        while True:
            message = self.pushed.pop(0) if self.pushed else await self.raw(timeout_s)
            if message["params"]["subscription"] == key:
                return message["params"]["result"]

    async def drained(self, key: str) -> list[Any]:
        found = []
        while True:
            try:
                found.append(await self.next(key, 0.15))
            except TimeoutError:
                return found


@asynccontextmanager
async def connected(client: Client) -> AsyncIterator[Node]:
    async with websockets.connect(client.sandbox.polygon_ws_url) as connection:
        yield Node(connection)


async def rpc(client: Client, method: str, *params: object) -> Any:
    return await client.post("/polygon", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


async def logs_of(client: Client, *wallets: str) -> list[dict[str, Any]]:
    """The fills of these wallets since the origin."""
    wanted = {
        "fromBlock": hex(client.sandbox.venue.chain.first),
        "toBlock": "latest",
        "address": EXCHANGES,
        "topics": [[abi.ORDER_FILLED], None, [abi.topic(wallet) for wallet in wallets]],
    }
    return list((await rpc(client, "eth_getLogs", wanted))["result"])


async def test_blocks_are_two_seconds_apart_and_linked() -> None:
    async with played(9) as client:
        head = int((await rpc(client, "eth_blockNumber"))["result"], 16)
        assert head == client.sandbox.venue.chain.first + 4
        blocks = [(await rpc(client, "eth_getBlockByNumber", hex(head - n), False))["result"] for n in (0, 1, 2)]
        assert [int(block["timestamp"], 16) for block in blocks] == [ORIGIN_S + 8, ORIGIN_S + 6, ORIGIN_S + 4]
        assert blocks[0]["parentHash"] == blocks[1]["hash"]
        assert blocks[1]["parentHash"] == blocks[2]["hash"]
        latest = (await rpc(client, "eth_getBlockByNumber", "latest", False))["result"]
        assert latest == blocks[0]
        final = (await rpc(client, "eth_getBlockByNumber", "finalized", False))["result"]
        assert int(final["number"], 16) == head - 3
        assert (await rpc(client, "eth_getBlockByNumber", hex(head + 1), False))["result"] is None
        assert (await rpc(client, "eth_chainId"))["result"] == "0x89"


async def test_cash_and_shares_are_what_the_blocks_add_up_to() -> None:
    async with played() as client:
        for who in INFLUENCERS:
            call = {"to": "0xC011a7E12a19f7B1f670d46F03B03f3342E82DFB", "data": abi.BALANCE_OF + abi.word(who.address)}
            cash = int((await rpc(client, "eth_call", call, "latest"))["result"], 16)
            assert cash == client.sandbox.venue.feed.ledger.account(who.address).cash_micros > 0
        rows = await client.get("/data/positions", user=MAKER.address, sizeThreshold=0)
        for row in rows:
            data = abi.BALANCE_OF_TOKEN + abi.word(MAKER.address) + abi.word(int(row["asset"]))
            answer = await rpc(client, "eth_call", {"to": abi.CONDITIONAL_TOKENS, "input": data}, "latest")
            assert int(answer["result"], 16) == round(row["size"] * 1_000_000)
        assert "error" in await rpc(client, "eth_call", {"to": abi.EXCHANGE, "data": abi.BALANCE_OF + abi.word(1)})


async def test_ranges_and_filters_are_those_of_a_node() -> None:
    async with played(log_blocks=5) as client:
        head = client.sandbox.venue.chain.head
        refused = await rpc(client, "eth_getLogs", {"fromBlock": hex(head - 5), "toBlock": hex(head)})
        assert refused["error"] == {"code": -32701, "message": "exceed maximum block range: 5"}
        for wanted in ({"fromBlock": hex(head + 1)}, {"fromBlock": hex(head), "toBlock": hex(head - 1)}):
            refused = await rpc(client, "eth_getLogs", wanted)
            assert refused["error"]["message"] == "invalid block range params"
        got = await rpc(client, "eth_getLogs", {"fromBlock": hex(head - 4), "toBlock": "latest"})
        assert "result" in got
        wrong: list[dict[str, Any]] = [
            {"topics": "0x1"},
            {"topics": [5]},
            {"address": 4},
            {"fromBlock": "yesterday"},
        ]
        for bad in wrong:
            assert (await rpc(client, "eth_getLogs", bad))["error"]["code"] == -32602
        assert (await rpc(client, "eth_mine"))["error"]["code"] == -32601
        assert (await rpc(client, "eth_subscribe", "newHeads"))["error"]["message"] == "notifications not supported"
        batch = [{"jsonrpc": "2.0", "id": n, "method": "eth_blockNumber"} for n in (1, 2)]
        assert [answer["id"] for answer in await client.post("/polygon", batch)] == [1, 2]


async def test_subscribers_get_the_logs_of_their_wallets_and_the_heads_in_time() -> None:
    clock = Clock(0.5)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as client, connected(client) as node:
        wanted = {
            "address": EXCHANGES,
            "topics": [[abi.ORDER_FILLED], None, [abi.topic(TAKER.address).upper().replace("X", "x")]],
        }
        logs = (await node.call("eth_subscribe", "logs", wanted))["result"]
        heads = (await node.call("eth_subscribe", "newHeads"))["result"]
        everything = (await node.call("eth_subscribe", "logs", {}))["result"]
        for _ in range(24):
            clock.advance(0.5)
            await asyncio.sleep(0.03)
        mine, seen = [], []
        while True:
            try:
                message = node.pushed.pop(0) if node.pushed else await node.raw(0.15)
            except TimeoutError:
                break
            params = message["params"]
            assert message["method"] == "eth_subscription"
            if params["subscription"] == logs:
                mine.append(params["result"])
            elif params["subscription"] == heads:
                seen.append(params["result"])
            else:
                assert params["subscription"] == everything
        assert [int(head["timestamp"], 16) for head in seen] == [ORIGIN_S + 2 * n for n in range(1, 7)]
        assert mine == await logs_of(client, TAKER.address)
        assert all(log["removed"] is False for log in mine)
        assert (await node.call("eth_unsubscribe", logs))["result"] is True
        assert (await node.call("eth_unsubscribe", logs))["result"] is False
        assert (await node.call("eth_subscribe", "syncing"))["error"]["code"] == -32602


async def test_two_wallets_in_one_filter() -> None:
    async with played() as client:
        both = await logs_of(client, TAKER.address, MAKER.address)
        assert len(both) == len(await logs_of(client, TAKER.address)) + len(await logs_of(client, MAKER.address))


async def test_a_reorganisation_takes_logs_back_and_brings_them_again_in_new_blocks() -> None:
    async with played(13.9) as client, connected(client) as node:
        key = (await node.call("eth_subscribe", "logs", {"topics": [abi.ORDER_FILLED]}))["result"]
        heads = (await node.call("eth_subscribe", "newHeads"))["result"]
        head = client.sandbox.venue.chain.head
        wanted = {"fromBlock": hex(head - 2), "toBlock": hex(head), "topics": [abi.ORDER_FILLED]}
        before = (await rpc(client, "eth_getLogs", wanted))["result"]
        rows = await client.walk("/data/v2/trades", limit=1000)
        await client.fault(reorg=3)
        pushed: list[dict[str, Any]] = []
        new_heads: list[dict[str, Any]] = []
        while True:
            try:
                message = await node.raw(0.15)
            except TimeoutError:
                break
            target = pushed if message["params"]["subscription"] == key else new_heads
            assert message["params"]["subscription"] in (key, heads)
            target.append(message["params"]["result"])
        gone, again = pushed[: len(before)], pushed[len(before) :]
        assert [log | {"removed": False} for log in gone] == before[::-1]
        assert {log["removed"] for log in gone} == {True}
        assert again == (await rpc(client, "eth_getLogs", wanted))["result"]
        assert {log["removed"] for log in again} == {False}
        same = ("transactionHash", "topics", "data")
        assert [[log[k] for k in same] for log in again] == [[log[k] for k in same] for log in before]
        assert not {log["blockHash"] for log in again} & {log["blockHash"] for log in before}
        assert [int(one["number"], 16) for one in new_heads] == [head - 2, head - 1, head]
        assert new_heads[1]["parentHash"] == new_heads[0]["hash"]
        assert await client.walk("/data/v2/trades", limit=1000) == rows


async def test_a_second_reorganisation_makes_yet_other_blocks() -> None:
    at = venue(SEED, 13.9)
    hashes = set()
    for _ in range(3):
        hashes.add(at.chain.hash_of(at.chain.head))
        at.reorganise(2)
    assert len(hashes) == 3
