"""A Polygon node on this machine for tests: WebSocket and HTTP at one address, every answer set by the test."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web
from msgspec import Raw

from tests.gateways.test_polymarket_log_parsing import BUY, log

TIME = 1_785_423_173


def block(number: int) -> str:
    return f"0x{number:064x}"


def fill(number: int, index: int = 0, **changes: Any) -> dict[str, Any]:
    where = {"blockHash": block(number), "blockNumber": hex(number), "logIndex": hex(index)}
    parsed: dict[str, Any] = json.loads(log(BUY, **where | changes))
    return parsed


def raw(result: dict[str, Any]) -> Raw:
    return Raw(json.dumps(result).encode())


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
