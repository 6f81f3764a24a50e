"""A small Polymarket whose every answer a test can set: for what the sandbox never answers."""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

from gateways.polymarket.log_parsing import EXCHANGES, FILLED

Rows = list[Any]

WALLET, OTHER, SIGNER, STRANGER = ("0x" + two * 20 for two in ("a1", "b2", "c3", "d4"))
MARKET = "0x" + "cb" * 32
TOKENS = ("1111", "2222")


class Venue:
    """Data API under /data, Gamma under /gamma, a Polygon node at /polygon. `activity` may be a list or a function."""

    def __init__(self) -> None:
        self.url = ""
        self.activity: dict[str, Rows | Callable[[], Rows]] = {}
        self.positions: dict[str, Rows | Callable[[], Rows]] = {}
        self.profiles: dict[str, dict[str, Any]] = {}
        self.markets: dict[str, dict[str, Any]] = {}
        self.failing: set[str] = set()
        """Paths, or beginnings of them, that answer 503."""
        self.cash = 5_000_000
        self.block = 1_000
        self.logs: list[dict[str, Any]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.sockets: list[web.WebSocketResponse] = []

    def asked_for(self, path: str) -> list[dict[str, str]]:
        return [query for of, query in self.asked if of == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.asked.append((request.path, query))
        if any(request.path.startswith(path) for path in self.failing):
            return web.json_response({"error": "down", "retryable": True}, status=503)
        match request.path:
            case "/data/v2/activity":
                rows = [each for each in _now(self.activity, query["user"]) if _shown(each, int(query["start"]))]
                return web.json_response({"data": rows, "pagination": {"has_more": False, "next_cursor": None}})
            case "/data/positions":
                return web.json_response(_now(self.positions, query["user"]))
            case "/data/value":
                return web.json_response([{"user": query["user"], "value": 12.5}])
            case "/data/v2/status":
                data = {"ingestion": {"min_synced_block": self.block}, "serving": {"lag_seconds": 2}}
                return web.json_response({"data": data})
            case "/gamma/public-profile" if query["address"] in self.profiles:
                return web.json_response(self.profiles[query["address"]])
            case "/gamma/markets":
                wanted = set(request.query.getall("condition_ids"))
                return web.json_response([self.markets[each] for each in self.markets if each in wanted])
            case "/polygon" if request.method == "POST":
                return web.json_response(self._call(await request.json()))
            case "/polygon":
                return await self._socket(request)
        return web.json_response({"error": "not found"}, status=404)

    async def push(self, log: dict[str, Any]) -> None:
        """Send a log to every subscriber."""
        for socket in self.sockets:
            await socket.send_json({"method": "eth_subscription", "params": {"subscription": "0x2", "result": log}})

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        answers: dict[str, Any] = {
            "eth_blockNumber": hex(self.block),
            "eth_getLogs": self.logs,
            "eth_call": "0x" + f"{self.cash:064x}",
        }
        return {"id": call["id"], "result": answers[call["method"]]}

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                call = json.loads(message.data)
                await socket.send_json({"id": call["id"], "result": hex(call["id"])})
                if call["params"][0] == "logs":
                    self.sockets.append(socket)
        return socket


def _now(answers: dict[str, Rows | Callable[[], Rows]], user: str) -> Rows:
    found = answers.get(user, [])
    return found() if callable(found) else found


def _shown(row: Any, start: int) -> bool:
    second = row.get("timestamp") if isinstance(row, dict) else None
    return not isinstance(second, int) or second >= start


@asynccontextmanager
async def venue() -> AsyncIterator[Venue]:
    """A venue on a port of its own."""
    made = Venue()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    made.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    try:
        yield made
    finally:
        for socket in made.sockets:
            await socket.close()
        await runner.cleanup()


def now_s() -> int:
    return int(time.time())


def row(number: int, age: int, *, wallet: str = WALLET, **fields: Any) -> dict[str, Any]:
    """A trade of so many seconds ago."""
    return {
        "proxy_wallet": wallet, "timestamp": now_s() - age, "condition_id": MARKET, "type": "TRADE", "size": 20,
        "usdc_size": 9.4, "transaction_hash": f"0x{number:064x}", "price": 0.47, "token_id": TOKENS[0], "side": "BUY",
        "outcome_index": 0,
    } | fields  # fmt: skip


def merge(number: int, age: int) -> dict[str, Any]:
    return row(number, age, type="MERGE", token_id="", side="", price=0, usdc_size=20, outcome_index=999)


def position(size: float = 100, token: str = TOKENS[0]) -> dict[str, Any]:
    return {"proxyWallet": WALLET, "asset": token, "conditionId": MARKET, "size": size, "avgPrice": 0.5}


def market() -> dict[str, Any]:
    names, tokens = json.dumps(["Yes", "No"]), json.dumps(TOKENS)
    return {"conditionId": MARKET, "question": "?", "outcomes": names, "clobTokenIds": tokens}


def log_of(number: int, *, wallet: str = WALLET, block: int = 1_000, **fields: Any) -> dict[str, Any]:
    """The OrderFilled log of `row(number)`: BUY 20 shares of the first token for 9.4 dollars."""
    words = (0, int(TOKENS[0]), 9_400_000, 20_000_000, 0, 0, 0)
    return {
        "address": EXCHANGES[0], "blockHash": f"0x{block:064x}", "blockNumber": hex(block), "removed": False,
        "transactionHash": f"0x{number:064x}", "logIndex": hex(number), "blockTimestamp": hex(now_s() - 2),
        "topics": [FILLED, "0x" + "1e" * 32, "0x" + "0" * 24 + wallet[2:], "0x" + "0" * 24 + EXCHANGES[0][2:]],
        "data": "0x" + "".join(f"{word:064x}" for word in words),
    } | fields  # fmt: skip
