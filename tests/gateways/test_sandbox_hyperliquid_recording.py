"""Recording mode: a short made-up recording, and the real one where it is at hand.

Set VIBE_TEST_RECORDINGS to a folder with `hyperliquid/ws_frames_90s.jsonl` and `hyperliquid/samples` for the latter.
"""

import asyncio
import json
import os
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateways.sandbox.hyperliquid import FlowSource, RecordingSource
from gateways.sandbox.hyperliquid.market_data import Trade
from tests.gateways.test_sandbox_hyperliquid_info import ask
from tests.gateways.test_sandbox_hyperliquid_ws import ORIGIN_NS, SEED, Client, Clock, connected, serving

ANN, BOB = "0x" + "a" * 40, "0x" + "b" * 40
T = 1_784_683_652_000
HASH = "0xe586c7fad5eab78fe700044075989e02015000e070edd661894f734d94ee917a"


def trade(coin: str, tid: int, time: int, sz: str = "0.5", side: str = "B") -> dict[str, Any]:
    users = [ANN, BOB] if side == "B" else [BOB, ANN]
    return {
        "coin": coin,
        "side": side,
        "px": "66405.0",
        "sz": sz,
        "time": time,
        "hash": HASH,
        "tid": tid,
        "users": users,
    }


def book(coin: str, time: int, bid: str, ask_px: str) -> dict[str, Any]:
    sides = [[{"px": px, "sz": "2.0", "n": 3}] for px in (bid, ask_px)]
    return {"coin": coin, "time": time, "levels": sides}


def bbo(coin: str, time: int, bid: str, ask_px: str) -> dict[str, Any]:
    sides = [{"px": px, "sz": "1.25", "n": 1} for px in (bid, ask_px)]
    return {"coin": coin, "time": time, "bbo": sides}


RECORDED: list[tuple[int, str, Any]] = [
    (0, "l2Book", book("BTC", T + 900, "66404.0", "66406.0")),
    (10, "trades", [trade("BTC", 1, T), trade("BTC", 2, T + 100)]),
    (20, "trades", [trade("abc:NEW", 3, T + 200, sz="12.25")]),
    (30, "bbo", bbo("BTC", T + 1_000, "66406.0", "66408.0")),
    (40, "trades", [trade("BTC", 2, T + 100)]),
    (50, "trades", [trade("BTC", 4, T + 1_100, sz="3.0", side="A")]),
]


def lines() -> list[str]:
    base = 1_784_684_123_644_026_200
    rows = [{"received_wall_ns": base + ms * 1_000_000, "channel": c, "data": d} for ms, c, d in RECORDED]
    # Spaces as no encoder here writes them: what goes out must be the recorded bytes, not a re-encoding.
    return [json.dumps(row, separators=(" , ", ": ")) for row in rows]


def recorded_frames(*channels: str) -> list[str]:
    datas = [(row[1], line.partition('"data": ')[2][:-1]) for line, row in zip(lines(), RECORDED, strict=True)]
    return [f'{{"channel":"{channel}","data":{data}}}' for channel, data in datas if channel in channels]


def recording(folder: Path) -> Path:
    path = folder / "frames.jsonl"
    path.write_text("\n".join(lines()) + "\n")
    return path


async def rest(client: Client) -> list[str]:
    """Every frame until nothing comes for a while."""
    frames: list[str] = []
    while True:
        try:
            frames.append(await client.raw(0.2))
        except TimeoutError:
            return frames


async def test_frames_keep_their_bytes_and_go_to_their_subscribers(tmp_path: Path) -> None:
    server = serving(RecordingSource(recording(tmp_path), lead_s=0.15))
    async with server as sandbox, connected(sandbox) as trades, connected(sandbox) as quotes:
        await quotes.subscribe(type="bbo", coin="BTC")
        await quotes.subscribe(type="l2Book", coin="BTC")
        for coin in ("BTC", "abc:NEW"):
            await trades.subscribe(type="trades", coin=coin)
        assert await quotes.quiet(), "nothing is played before its time"
        await asyncio.wait_for(sandbox.done.wait(), 3)
        assert await rest(trades) == recorded_frames("trades")
        assert await rest(quotes) == recorded_frames("l2Book", "bbo")


async def test_a_late_subscriber_gets_what_was_played(tmp_path: Path) -> None:
    async with (
        serving(RecordingSource(recording(tmp_path), speed=10, lead_s=0.15)) as sandbox,
        connected(sandbox) as client,
    ):
        await client.subscribe(type="trades", coin="abc:NEW")
        await asyncio.wait_for(sandbox.done.wait(), 3)
        await client.subscribe(type="trades", coin="BTC")
        replay = await client.next("trades")
        assert [row["tid"] for row in replay["data"]] == [1, 2, 4]
        assert replay["data"][0] == trade("BTC", 1, T)
        await client.subscribe(type="l2Book", coin="BTC")
        top = [side[0]["px"] for side in (await client.next("l2Book"))["data"]["levels"]]
        assert top == ["66406.0", "66408.0"]


async def test_positions_are_flat_first_and_folded_once_a_trade_afterwards(tmp_path: Path) -> None:
    async with (
        serving(RecordingSource(recording(tmp_path), speed=10, lead_s=0.15)) as sandbox,
        connected(sandbox) as client,
    ):
        state = await ask(sandbox, type="clearinghouseState", user=ANN)
        assert state["assetPositions"] == []
        assert state["time"] == T - 1
        assert await ask(sandbox, type="l2Book", coin="BTC") is None
        assert [row["name"] for row in (await ask(sandbox, type="meta", dex="abc"))["universe"]] == ["abc:NEW"]
        assert (await ask(sandbox, type="meta", dex="abc"))["universe"][0]["szDecimals"] == 2
        await client.subscribe(type="userFills", user=ANN)
        await client.next("userFills")
        await client.subscribe(type="trades", coin="BTC")
        await asyncio.wait_for(sandbox.done.wait(), 3)
        state = await ask(sandbox, type="clearinghouseState", user=ANN)
        held = {row["position"]["coin"]: row["position"]["szi"] for row in state["assetPositions"]}
        assert held == {"BTC": "-2.0"}, "two buys of 0.5, one of them recorded twice, and a sale of 3"
        assert state["time"] == T + 1_100
        pushed = [json.loads(frame) for frame in await rest(client)]
        fills = [fill for frame in pushed if frame["channel"] == "userFills" for fill in frame["data"]["fills"]]
        assert [(fill["tid"], fill["startPosition"], fill["dir"]) for fill in fills] == [
            (1, "0.0", "Open Long"),
            (2, "0.5", "Open Long"),
            (3, "0.0", "Open Long"),
            (4, "1.0", "Long > Short"),
        ]


def test_a_broken_recording_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(lines()[0] + "\n" + '{"received_wall_ns":1,"channel":"candle","data":{}}' + "\n")
    with pytest.raises(ValueError, match="line 2: channel 'candle' cannot be played"):
        RecordingSource(path)
    path.write_text("")
    with pytest.raises(ValueError, match="holds no frame"):
        RecordingSource(path)


def real(name: str) -> Path:
    folder = os.environ.get("VIBE_TEST_RECORDINGS")
    if not folder:
        pytest.skip("VIBE_TEST_RECORDINGS is not set: no recordings to compare with")
    return Path(folder) / "hyperliquid" / name


async def test_every_trade_of_the_real_recording_arrives() -> None:
    path = real("ws_frames_90s.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    recorded = [row["data"] for row in rows if row["channel"] == "trades"]
    everyone = {user for data in recorded for trade in data for user in trade["users"]}
    async with serving(RecordingSource(path, speed=50)) as sandbox, connected(sandbox) as client:
        for coin in sorted({data[0]["coin"] for data in recorded}):
            await client.subscribe(type="trades", coin=coin)
        assert await client.quiet(0.8), "the first frame comes a second after the first subscription"
        seen = [(await client.next("trades", timeout_s=3))["data"] for _ in recorded]
        await asyncio.wait_for(sandbox.done.wait(), 3)
        assert await client.quiet()
        assert seen == recorded
        assert sum(map(len, seen)) == 429
        busiest = max(everyone, key=lambda user: sum(user in t["users"] for data in recorded for t in data))
        state = await ask(sandbox, type="clearinghouseState", user=busiest)
        held = {row["position"]["coin"]: Decimal(row["position"]["szi"]) for row in state["assetPositions"]}
    unique = {(t["coin"], t["time"], t["tid"]): t for data in recorded for t in data}
    assert len(unique) == 428
    sizes: defaultdict[str, Decimal] = defaultdict(Decimal)
    for t in unique.values():
        if ":" not in t["coin"]:
            sizes[t["coin"]] += Decimal(t["sz"]) * ((t["users"][0] == busiest) - (t["users"][1] == busiest))
    assert held == {coin: size for coin, size in sizes.items() if size}


def test_real_trades_survive_a_round_trip() -> None:
    rows = [json.loads(line) for line in real("ws_frames_90s.jsonl").read_text().splitlines()]
    for row in rows:
        if row["channel"] == "trades":
            for wire in row["data"]:
                assert json.dumps(Trade.from_wire(wire).wire()) == json.dumps(wire)


async def test_frames_have_the_keys_of_recorded_samples() -> None:
    samples = [json.loads(line) for line in real("samples/ws_frames_recorded.jsonl").read_text().splitlines()]
    recorded = {_kind(sample["frame"]): _keys(sample["frame"]) for sample in samples if "channel" in sample["frame"]}
    compared = set()
    clock = Clock(20)
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as sandbox, connected(sandbox) as client:
        await asyncio.sleep(0.1)
        await client.send({"method": "ping"})
        await client.send({"method": "nothing"})
        for subscription in (
            {"type": "trades", "coin": "BTC"},
            {"type": "bbo", "coin": "BTC"},
            {"type": "l2Book", "coin": "BTC", "fast": True},
            {"type": "userFills", "user": "0x" + "0" * 40},
        ):
            await client.send({"method": "subscribe", "subscription": subscription})
        for frame in map(json.loads, await rest(client)):
            if _kind(frame) in recorded:
                compared.add(_kind(frame))
                assert _keys(frame) == recorded[_kind(frame)]
    assert compared == {
        "pong",
        "error",
        "trades",
        "bbo",
        "l2Book",
        "userFills",
        "subscriptionResponse bbo",
        "subscriptionResponse userFills",
    }


def _kind(frame: dict[str, Any]) -> str:
    if frame["channel"] == "subscriptionResponse":
        return f"subscriptionResponse {frame['data']['subscription']['type']}"
    return str(frame["channel"])


def _keys(value: Any) -> Any:
    """The keys of an object in their order, the shape of a list's first element, the type of anything else."""
    if isinstance(value, dict):
        return [(key, _keys(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [_keys(value[0])] if value else []
    return type(value).__name__
