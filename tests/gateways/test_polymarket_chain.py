"""The feed of fills and the RPC client, against a local node: lost connections, silence, reorganisations."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from msgspec import Raw

from gateways.polymarket.log_parsing import EXCHANGES, EXCHANGES_V1, FILLED, FILLED_V1, Log, log_id, parse_log
from gateways.polymarket.log_socket import fills
from gateways.polymarket.polygon_rpc import PUSD, PolygonRpc
from gateways.reconnecting_websocket import Backoff, Connected
from gateways.venue_errors import VenueUnavailableError, WireError
from tests.gateways.test_http_client import client
from tests.gateways.test_polymarket_log_parsing import BUY, OWNER, log, topic

TIME = 1_785_423_173
SOON = Backoff(0.01, 0.1)


def block(number: int) -> str:
    return f"0x{number:064x}"


def fill(number: int, index: int = 0, **changes: Any) -> dict[str, Any]:
    where = {"blockHash": block(number), "blockNumber": hex(number), "logIndex": hex(index)}
    parsed: dict[str, Any] = json.loads(log(BUY, **where | changes))
    return parsed


class LocalNode:
    """A Polygon node of one test: WebSocket and HTTP at one address."""

    def __init__(self) -> None:
        self.url = ""
        self.sockets: list[web.WebSocketResponse] = []
        self.subscriptions: list[list[Any]] = []
        self.calls: list[tuple[str, list[Any]]] = []
        self.refuse: str | None = None
        self.silent = False
        self.early: list[dict[str, Any]] = []
        self.answers: Callable[[str, list[Any]], Any] = lambda method, params: None

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            asked = await request.json()
            self.calls.append((asked["method"], asked["params"]))
            answer = self.answers(asked["method"], asked["params"])
            if isinstance(answer, web.Response):
                return answer
            named = (
                {"error": {"code": -32000, "message": answer}} if isinstance(answer, NodeError) else {"result": answer}
            )
            return web.json_response({"jsonrpc": "2.0", "id": asked["id"], **named})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            if message.type == WSMsgType.TEXT and not self.silent:
                await self._subscribe(socket, json.loads(message.data))
        return socket

    async def _subscribe(self, socket: web.WebSocketResponse, asked: dict[str, Any]) -> None:
        assert asked["method"] == "eth_subscribe"
        self.subscriptions.append(asked["params"])
        if self.refuse is not None:
            error = {"code": -32602, "message": self.refuse}
            await socket.send_json({"jsonrpc": "2.0", "id": asked["id"], "error": error})
            return
        kind = asked["params"][0]
        await socket.send_json({"jsonrpc": "2.0", "id": asked["id"], "result": f"0x{kind}{asked['id']}"})
        if kind == "logs":
            while self.early:
                await self.send(self.early.pop(0))

    async def send(self, result: dict[str, Any], subscription: str = "0xlogs2") -> None:
        await self.text(
            json.dumps(
                {
                    "jsonrpc": "2.0",
                    "method": "eth_subscription",
                    "params": {"subscription": subscription, "result": result},
                }
            )
        )

    async def head(self, number: int, time: int = TIME) -> None:
        await self.send({"hash": block(number), "number": hex(number), "timestamp": hex(time)}, "0xnewHeads1")

    async def text(self, text: str) -> None:
        await self.sockets[-1].send_str(text)


class NodeError(str):
    """An error that the node answers with."""


@asynccontextmanager
async def node() -> AsyncIterator[LocalNode]:
    local, app = LocalNode(), web.Application()
    app.router.add_route("*", "/polygon", local.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        local.url = f"http://{host}:{port}/polygon"
        yield local
    finally:
        await runner.cleanup()


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


# --- the feed ------------------------------------------------------------------------------------------------


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


def raw(result: dict[str, Any]) -> Raw:
    return Raw(json.dumps(result).encode())


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


# --- the node ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def chain(local: LocalNode, **options: Any) -> AsyncIterator[PolygonRpc]:
    async with client() as ask:
        one = PolygonRpc(ask, local.url, **options)
        one._first_delay = 0.005
        yield one


def logs_of(held: list[dict[str, Any]]) -> Callable[[str, list[Any]], Any]:
    def answer(method: str, params: list[Any]) -> Any:
        assert method == "eth_getLogs"
        low, high = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        return [one for one in held if low <= int(one["blockNumber"], 16) <= high][::-1]

    return answer


def timed(number: int, index: int = 0) -> dict[str, Any]:
    return fill(number, index, blockTimestamp=hex(TIME + number))


async def test_the_head_and_a_wallets_cash() -> None:
    async with node() as local, chain(local) as questions:
        local.answers = lambda method, params: {"eth_blockNumber": "0x56ec4db", "eth_call": f"0x{1_234_567:064x}"}[
            method
        ]
        assert await questions.head() == 91_145_435
        assert await questions.cash(OWNER) == 1_234_567
        assert local.calls[1] == ("eth_call", [{"to": PUSD, "data": "0x70a08231" + "0" * 24 + OWNER[2:]}, "latest"])


async def test_logs_of_the_past_come_in_the_order_of_the_chain() -> None:
    held = [timed(number, index) for number in (100, 105, 109, 110, 119) for index in (2, 11)]
    async with node() as local, chain(local, blocks_per_request=10) as questions:
        local.answers = logs_of(held)
        found = await questions.logs(100, 119, [OWNER])
        assert [log_id(one.payload) for one in found] == [log_id(raw(one)) for one in held]
        assert [one.venue_time for one in found][::2] == [(TIME + n) * 10**9 for n in (100, 105, 109, 110, 119)]
        ranges = [(int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)) for _, params in local.calls]
        assert ranges == [(100, 109), (110, 119)]
        assert await questions.logs(5, 4, [OWNER]) == []
        assert await questions.logs(1, 2, []) == []


async def test_many_wallets_are_several_requests_and_each_log_comes_once() -> None:
    async with node() as local, chain(local) as questions:
        local.answers = logs_of([timed(100)])
        found = await questions.logs(100, 100, [f"0x{number:040x}" for number in range(501)])
        assert len(found) == 1
        assert [len(params[0]["topics"][2]) for _, params in local.calls] == [500, 1]


@pytest.mark.parametrize(
    "message",
    [
        NodeError("Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range"),
        NodeError("query returned more than 10000 results"),
        NodeError("exceed maximum block range: 10"),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
async def test_the_span_shrinks_until_the_node_accepts_it(message: NodeError, status: int) -> None:
    held = [timed(number) for number in range(100, 200, 9)]

    def answer(method: str, params: list[Any]) -> Any:
        if int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) < 10:
            return logs_of(held)(method, params)
        return (
            message if status == 200 else web.json_response({"error": {"code": 1, "message": message}}, status=status)
        )

    async with node() as local, chain(local) as questions:
        local.answers = answer
        assert len(await questions.logs(100, 199, [OWNER])) == len(held)


async def test_a_request_to_a_lagging_node_is_retried() -> None:
    answers: list[Any] = [NodeError("invalid block range params")] * 3
    async with node() as local, chain(local) as questions:
        local.answers = lambda method, params: answers.pop(0) if answers else [timed(100)]
        assert len(await questions.logs(100, 199, [OWNER])) == 1
        assert len({json.dumps(params) for _, params in local.calls}) == 1
        local.answers = lambda method, params: NodeError("invalid block range params")
        with pytest.raises(VenueUnavailableError, match="invalid block range params"):
            await questions.logs(100, 199, [OWNER])


async def test_a_log_without_its_blocks_time_gets_it_from_the_block() -> None:
    def answer(method: str, params: list[Any]) -> Any:
        if method == "eth_getLogs":
            return [fill(100), fill(100, 1), fill(101)]
        return {"timestamp": hex(TIME)} if params == [block(100), False] else None

    async with node() as local, chain(local) as questions:
        local.answers = answer
        found = await questions.logs(100, 101, [OWNER])
        assert [one.venue_time for one in found] == [TIME * 10**9, TIME * 10**9, None]
        assert [method for method, _ in local.calls] == ["eth_getLogs", *["eth_getBlockByHash"] * 2]


Question = Callable[[PolygonRpc], Awaitable[Any]]


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        (NodeError("method not found"), lambda chain: chain.head()),
        (5, lambda chain: chain.head()),
        (None, lambda chain: chain.head()),
        ("91145435", lambda chain: chain.head()),
        ("0x", lambda chain: chain.cash(OWNER)),
        ("0x" + "f" * 64, lambda chain: chain.cash(OWNER)),
        ("0x1", lambda chain: chain.cash("me")),
        ({}, lambda chain: chain.logs(1, 2, [OWNER])),
        ([5], lambda chain: chain.logs(1, 2, [OWNER])),
        ([{}], lambda chain: chain.logs(1, 2, [OWNER])),
        (web.json_response({}), lambda chain: chain.head()),
        (web.Response(body=b"<html>"), lambda chain: chain.head()),
        (web.Response(status=404), lambda chain: chain.head()),
        (NodeError("block range is too wide"), lambda chain: chain.logs(1, 1, [OWNER])),
    ],
)
async def test_malformed_answers_are_refused(answer: Any, question: Question) -> None:
    async with node() as local, chain(local) as questions:
        local.answers = lambda method, params: answer
        with pytest.raises(WireError):
            await question(questions)
