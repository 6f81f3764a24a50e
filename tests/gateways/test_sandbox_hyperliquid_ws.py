"""The WebSocket of the sandbox: acknowledgements, replays and frames in the venue's shapes."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from gateways.sandbox.hyperliquid import FlowSource, Limits, Sandbox, serve
from gateways.sandbox.hyperliquid.coins import COINS
from gateways.sandbox.hyperliquid.flow import Action, flow
from gateways.sandbox.hyperliquid.market_data import text
from gateways.sandbox.hyperliquid.venue import Source

ORIGIN_NS = 1_784_683_600_000_000_000
ORIGIN_MS = ORIGIN_NS // 1_000_000
SEED = 7

TRADE_KEYS = ["coin", "side", "px", "sz", "time", "hash", "tid", "users"]
FILL_KEYS = (
    "coin px sz side time startPosition dir closedPnl hash oid crossed fee tid feeToken twapId".split()  # noqa: SIM905
)


class Clock:
    """A clock that moves when a test advances it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.ns = ORIGIN_NS + round(seconds * 1e9)

    def __call__(self) -> int:
        return self.ns

    def advance(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


class Client:
    """A WebSocket client that reads frames in order."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: object) -> None:
        await self.connection.send(message if isinstance(message, str) else json.dumps(message))

    async def raw(self, timeout_s: float = 2.0) -> str:
        frame = await asyncio.wait_for(self.connection.recv(), timeout_s)
        assert isinstance(frame, str)
        return frame

    async def next(self, channel: str | None = None, timeout_s: float = 2.0) -> dict[str, Any]:
        """The next frame (of `channel`); others in between are dropped."""
        while True:
            frame: dict[str, Any] = json.loads(await self.raw(timeout_s))
            if channel in (None, frame["channel"]):
                return frame

    async def subscribe(self, **subscription: object) -> dict[str, Any]:
        """Subscribe and answer the acknowledgement's (or the error's) data."""
        await self.send({"method": "subscribe", "subscription": subscription})
        frame = await self.next()
        while frame["channel"] not in ("subscriptionResponse", "error"):
            frame = await self.next()
        return frame

    async def quiet(self, seconds: float = 0.06) -> bool:
        """True when nothing arrives for `seconds`."""
        try:
            await self.raw(seconds)
        except TimeoutError:
            return True
        return False

    async def close_code(self, timeout_s: float = 2.0) -> int:
        """The close code once the server ends the connection, whatever it sent before."""
        await asyncio.wait_for(self.connection.wait_closed(), timeout_s)
        code = self.connection.close_code
        assert code is not None
        return code


@asynccontextmanager
async def serving(source: Source, clock: Clock | None = None, limits: Limits | None = None) -> AsyncIterator[Sandbox]:
    sandbox = await serve(source, clock=clock or Clock(), limits=limits)
    try:
        yield sandbox
    finally:
        await sandbox.close()


@asynccontextmanager
async def connected(sandbox: Sandbox) -> AsyncIterator[Client]:
    async with websockets.connect(sandbox.ws_url) as connection:
        yield Client(connection)


@asynccontextmanager
async def played(seconds: float) -> AsyncIterator[Sandbox]:
    """A venue at rest after the first `seconds` of its flow."""
    source = FlowSource(SEED, origin_ns=ORIGIN_NS, horizon_s=seconds)
    async with serving(source, Clock(seconds)) as sandbox:
        await asyncio.wait_for(sandbox.done.wait(), 2)
        yield sandbox


def until(seconds: float) -> list[Action]:
    return list(itertools.takewhile(lambda action: action.offset_ms < seconds * 1_000, flow(SEED)))


def wire_trades(actions: list[Action], coin: str | None = None) -> list[dict[str, Any]]:
    return [
        {
            "coin": action.coin,
            "side": p.side,
            "px": text(p.px),
            "sz": text(p.sz),
            "time": ORIGIN_MS + action.offset_ms,
            "hash": action.hash,
            "tid": p.tid,
            "users": [p.buyer, p.seller],
        }
        for action in actions
        if coin in (None, action.coin)
        for p in action.prints
    ]


async def test_acknowledgements_are_normalised() -> None:
    mixed = "0xC64CC00B46101BD40AA1C3121195E85C0B0918D8"
    async with played(1) as sandbox, connected(sandbox) as client:
        asked_and_acknowledged: list[tuple[dict[str, object], dict[str, object]]] = [
            ({"coin": "SOL", "type": "trades"}, {"type": "trades", "coin": "SOL"}),
            ({"type": "bbo", "coin": "SOL"}, {"type": "bbo", "coin": "SOL"}),
            ({"type": "allMids"}, {"type": "allMids"}),
            ({"type": "allMids", "dex": "xyz"}, {"type": "allMids", "dex": "xyz"}),
            ({"type": "l2Book", "coin": "SOL"}, {"type": "l2Book", "coin": "SOL", "nSigFigs": None, "mantissa": None}),
            (
                {"type": "l2Book", "coin": "SOL", "fast": True},
                {"type": "l2Book", "coin": "SOL", "nSigFigs": None, "mantissa": None, "fast": True},
            ),
            (
                {"type": "l2Book", "coin": "SOL", "nSigFigs": 5, "mantissa": 2},
                {"type": "l2Book", "coin": "SOL", "nSigFigs": 5, "mantissa": 2},
            ),
            (
                {"type": "userFills", "user": mixed},
                {"type": "userFills", "user": mixed.lower(), "aggregateByTime": False},
            ),
        ]
        for method in ("subscribe", "unsubscribe"):
            for asked, acknowledged in asked_and_acknowledged:
                await client.send({"method": method, "subscription": asked})
                frame = await client.next("subscriptionResponse")
                assert json.dumps(frame["data"]) == json.dumps({"method": method, "subscription": acknowledged})


async def test_ping_is_answered_without_data() -> None:
    async with played(1) as sandbox, connected(sandbox) as client:
        await client.send({"method": "ping"})
        assert await client.raw() == '{"channel":"pong"}'


async def test_live_trades_arrive_as_in_the_flow_one_frame_a_block() -> None:
    clock = Clock()
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as sandbox, connected(sandbox) as client:
        for coin in COINS:
            await client.subscribe(type="trades", coin=coin.name)
        assert await client.quiet()
        clock.advance(8)
        frames = [await client.next("trades") for _ in until(8.001)]
        assert await client.quiet()
    expected = [wire_trades([action]) for action in until(8.001)]
    assert [frame["data"] for frame in frames] == expected
    assert all(list(trade) == TRADE_KEYS for frame in frames for trade in frame["data"])
    assert all(len({(trade["coin"], trade["time"]) for trade in frame["data"]}) == 1 for frame in frames)


async def test_a_new_subscriber_gets_the_last_30_trades_unflagged() -> None:
    async with played(90) as sandbox, connected(sandbox) as client:
        before = wire_trades(until(90), "BTC")
        assert len(before) > 30
        await client.subscribe(type="trades", coin="BTC")
        replay = await client.next()
        assert list(replay) == ["channel", "data"]
        assert replay["channel"] == "trades"
        assert replay["data"] == before[-30:]
        await client.send({"method": "unsubscribe", "subscription": {"type": "trades", "coin": "BTC"}})
        await client.next("subscriptionResponse")
        await client.subscribe(type="trades", coin="BTC")
        assert (await client.next())["data"] == replay["data"]


async def test_a_coin_without_trades_has_no_replay() -> None:
    async with played(0.1) as sandbox, connected(sandbox) as client:
        quiet = next(coin.name for coin in COINS if coin.name not in {action.coin for action in until(0.1)})
        await client.subscribe(type="trades", coin=quiet)
        assert await client.quiet()


async def test_unsubscribing_stops_the_feed() -> None:
    clock = Clock()
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as sandbox, connected(sandbox) as client:
        for coin in COINS:
            await client.subscribe(type="trades", coin=coin.name)
        stopped = until(20)[0].coin
        await client.send({"method": "unsubscribe", "subscription": {"type": "trades", "coin": stopped}})
        await client.next("subscriptionResponse")
        clock.advance(20)
        rest = [action for action in until(20) if action.coin != stopped]
        assert [(await client.next())["data"] for _ in rest] == [wire_trades([action]) for action in rest]


async def test_the_source_starts_at_the_clock_and_ends_at_its_horizon() -> None:
    clock = Clock()
    async with serving(FlowSource(SEED, horizon_s=3), clock) as sandbox, connected(sandbox) as client:
        for coin in COINS:
            await client.subscribe(type="trades", coin=coin.name)
        clock.advance(2.9)
        assert await client.next("trades")
        assert not sandbox.done.is_set()
        clock.advance(60)
        await asyncio.wait_for(sandbox.done.wait(), 2)
        frames = [await client.next("trades") for _ in until(3)[1:]]
        assert frames[-1]["data"] == wire_trades(until(3)[-1:])
        assert await client.quiet()
