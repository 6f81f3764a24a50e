"""The RPC client of a Polygon node, against a local node: ranges, retries, block times, malformed answers."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gateways.polymarket.log_parsing import log_id
from gateways.polymarket.polygon_rpc import PUSD, PolygonRpc
from gateways.venue_errors import VenueUnavailableError, WireError
from tests.gateways.polygon_node import TIME, LocalNode, NodeError, block, fill, node, raw
from tests.gateways.test_http_client import client
from tests.gateways.test_polymarket_log_parsing import OWNER


@asynccontextmanager
async def chain(local: LocalNode, **options: Any) -> AsyncIterator[PolygonRpc]:
    async with client() as ask:
        yield PolygonRpc(ask, local.url, first_wait_seconds=0.005, **options)


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
