"""The feed of fills against a local node: subscriptions, lost connections, silence, reorganisations."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateways.polymarket.log_parsing import EXCHANGES, EXCHANGES_V1, FILLED, FILLED_V1, Log, log_id, parse_log
from gateways.polymarket.log_socket import fills
from gateways.reconnecting_websocket import Backoff, Connected
from gateways.venue_errors import WireError
from tests.gateways.polygon_node import TIME, LocalNode, fill, node, raw
from tests.gateways.test_polymarket_log_parsing import OWNER, topic

SOON = Backoff(0.01, 0.1)


class Listener:
    """Reads the feed in the background, so that a test may do something meanwhile."""

    def __init__(self, url: str, wallets: list[str], **options: Any) -> None:
        self.stop = asyncio.Event()
        self._received: asyncio.Queue[Connected | Log] = asyncio.Queue()
        self.task = asyncio.create_task(self._listen(fills(url, wallets, stop=self.stop, **options)))

    async def _listen(self, feed: AsyncIterator[Connected | Log]) -> None:
        async for one in feed:
            self._received.put_nowait(one)

    async def connected(self) -> int:
        received = await asyncio.wait_for(self._received.get(), 3)
        assert isinstance(received, Connected)
        return received.attempt

    async def log(self) -> Log:
        received = await asyncio.wait_for(self._received.get(), 3)
        assert isinstance(received, Log)
        return received


@asynccontextmanager
async def listening(local: LocalNode, *wallets: str, **options: Any) -> AsyncIterator[Listener]:
    listener = Listener(local.ws_url, list(wallets) or [OWNER], **({"backoff": SOON} | options))
    try:
        yield listener
    finally:
        listener.stop.set()
        await asyncio.wait_for(listener.task, 3)


async def test_the_feed_asks_for_all_exchanges_and_both_events_of_its_wallets_only() -> None:
    async with node() as local, listening(local, OWNER.upper().replace("X", "x"), OWNER) as listener:
        assert await listener.connected() == 1
        assert local.subscriptions[0] == ["newHeads"]
        kind, asked = local.subscriptions[1]
        assert (kind, set(asked["address"])) == ("logs", {*EXCHANGES, *EXCHANGES_V1})
        assert asked["topics"][:2] == [[FILLED, FILLED_V1], None]
        assert set(asked["topics"][2]) == {topic(OWNER)}


async def test_many_wallets_are_several_subscriptions() -> None:
    wallets = [f"0x{number:040x}" for number in range(1201)]
    async with node() as local, listening(local, *wallets) as listener:
        assert await listener.connected() == 1
        parts = [asked[1]["topics"][2] for asked in local.subscriptions[1:]]
        assert [len(part) for part in parts] == [500, 500, 201]
        assert [one for part in parts for one in part] == [topic(wallet) for wallet in wallets]
        await local.send(fill(7), "0xlogs4")
        assert parse_log((await listener.log()).payload).block_number == 7


async def test_a_log_comes_unmodified_with_the_time_of_its_block() -> None:
    async with node() as local, listening(local) as listener:
        await listener.connected()
        await local.head(7)
        await local.send(fill(7))
        await local.send(fill(7, 1, blockTimestamp=hex(TIME + 5)))
        await local.send(fill(8, 2))
        assert await listener.log() == Log(raw(fill(7)), TIME * 10**9)
        assert (await listener.log()).venue_time == (TIME + 5) * 10**9
        assert (await listener.log()).venue_time is None


async def test_a_removed_log_comes_again_as_removed() -> None:
    async with node() as local, listening(local) as listener:
        await listener.connected()
        await local.send(fill(7))
        await local.send(fill(7, removed=True))
        await local.send(fill(8, 3))
        first, removed, again = [await listener.log() for _ in range(3)]
        assert log_id(removed.payload) == f"{log_id(first.payload)}:removed"
        assert parse_log(removed.payload).removed
        assert log_id(again.payload) not in (log_id(first.payload), log_id(removed.payload))


async def test_logs_that_come_while_subscribing_are_not_lost() -> None:
    async with node() as local:
        local.early = [fill(7), fill(8)]
        wallets = [f"0x{number:040x}" for number in range(501)]
        async with listening(local, *wallets) as listener:
            assert await listener.connected() == 1
            assert [parse_log((await listener.log()).payload).block_number for _ in range(2)] == [7, 8]


async def test_a_lost_connection_is_replaced_and_announced() -> None:
    async with node() as local, listening(local) as listener:
        for attempt in (1, 2, 3):
            assert await listener.connected() == attempt
            await local.send(fill(attempt))
            assert parse_log((await listener.log()).payload).block_number == attempt
            await local.sockets[-1].close()
        assert len(local.subscriptions) >= 6


async def test_a_node_without_a_new_block_is_left() -> None:
    async with node() as local, listening(local, stale_seconds=0.3) as listener:
        assert await listener.connected() == 1
        for number in range(4):
            await asyncio.sleep(0.15)
            await local.head(number)
        assert len(local.sockets) == 1
        # Logs alone do not prove that the node follows the chain.
        for number in range(2):
            await local.send(fill(number))
            await listener.log()
            await asyncio.sleep(0.1)
        assert await listener.connected() == 2


async def test_a_node_that_does_not_answer_a_subscription_is_left() -> None:
    async with node() as local:
        local.silent = True
        async with listening(local, answer_seconds=0.1) as listener:
            while len(local.sockets) < 2:
                await asyncio.sleep(0.01)
            local.silent = False
            assert await listener.connected() > 1


async def test_a_node_that_refuses_a_subscription_is_tried_again() -> None:
    async with node() as local:
        local.refuse = "exceed max topics"
        async with listening(local) as listener:
            while len(local.sockets) < 2:
                await asyncio.sleep(0.01)
            local.refuse = None
            assert await listener.connected() > 1


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "not json",
        "[]",
        "null",
        '{"method":"eth_subscription","params":5}',
        '{"method":"eth_subscription","params":{"subscription":"0xnewHeads1","result":{"hash":5}}}',
        '{"method":"eth_subscription","params":{"subscription":"0xnewHeads1","result":{"hash":"0x1","timestamp":"x"}}}',
        '{"method":"eth_subscription","params":{"subscription":"0xlogs2","result":null}}',
        '{"method":"eth_subscription","params":{"subscription":"0xlogs2","result":{"blockHash":"0x1"}}}',
        '{"jsonrpc":"2.0","id":99,"result":"0x0"}',
    ],
)
async def test_malformed_frames_do_not_end_the_connection(junk: str) -> None:
    async with node() as local, listening(local) as listener:
        await listener.connected()
        await local.text(junk)
        await local.sockets[-1].send_bytes(b"\xff\xfe")
        await local.send(fill(7))
        assert parse_log((await listener.log()).payload).block_number == 7
        assert len(local.sockets) == 1


async def test_the_feed_ends_at_stop_also_while_no_node_answers() -> None:
    async with node() as local:
        url = local.ws_url
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, stop.set)
    async with asyncio.timeout(3):
        assert [one async for one in fills(url, [OWNER], stop=stop)] == []


async def test_a_wallet_that_is_no_address_is_refused_at_once() -> None:
    with pytest.raises(WireError, match="not an address"):
        async for _ in fills("ws://127.0.0.1:1/", ["me"], stop=asyncio.Event()):
            pass
