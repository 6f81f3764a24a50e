"""A real recording through the sandbox and all stages: every followed side of every trade, each exactly once."""

import asyncio
import json
import os
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.system.command import ends, start, until, vibe

FOLDER = os.environ.get("VIBE_TEST_RECORDINGS")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="VIBE_TEST_RECORDINGS is not set; it names the folder that holds recorded venue payloads"
)


def trades_of(path: Path) -> list[dict[str, Any]]:
    frames = [json.loads(line) for line in path.read_text().splitlines()]
    return [trade for frame in frames if frame["channel"] == "trades" for trade in frame["data"]]


async def test_each_followed_side_of_each_recorded_trade_once(tmp_path: Path) -> None:
    recording = Path(FOLDER or "") / "hyperliquid" / "ws_frames_90s.jsonl"
    trades = trades_of(recording)
    busiest = [user for user, _ in Counter(user for trade in trades for user in trade["users"]).most_common(4)]
    pairs = {
        f"hl:{trade['coin']}:{trade['time']}:{trade['tid']}:{user}:{'BA'[place]}"
        for trade in trades
        for place, user in enumerate(trade["users"])
        if user in busiest
    }
    lines = [
        {"kind": "influencer", "id": f"busy-{number}", "venue": "hyperliquid", "addresses": [address]}
        for number, address in enumerate(busiest)
    ]
    config = tmp_path / "config.jsonl"
    config.write_text("\n".join(json.dumps(line) for line in lines))

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    venue = {
        "VIBE_HYPERLIQUID_WS_URL": f"ws://127.0.0.1:{port}/ws",
        "VIBE_HYPERLIQUID_API_URL": f"http://127.0.0.1:{port}",
    }
    sandbox = await start(
        tmp_path / "venue", "sandbox", "--port", str(port), "--frames", str(recording), "--speed", "10"
    )
    try:
        run = asyncio.create_task(
            vibe(tmp_path / "data", "up", "--config", str(config), "--seconds", "17", "--json", settings=venue)
        )
        # In the middle of the recording every connection is dropped, twice: the venue replays 30 trades of each coin.
        for times in (1, 2):
            await until(lambda times=times: has_connected(tmp_path, times), 40, "the feed is connected")
            await asyncio.sleep(2.0)
            async with aiohttp.ClientSession() as session:
                await session.post(
                    f"http://127.0.0.1:{port}/sandbox/faults", data=json.dumps({"drop_connections": True})
                )
        ended = await run
    finally:
        sandbox.terminate()
        await sandbox.wait()
    assert ended.code == 0, ended.err
    assert ended.json["dead_letters"] == 0

    async with ends(tmp_path / "data") as at:
        events = await at.events()
        rows = await at.database.fetch("SELECT source_event_id FROM trade_event")
    raw = [event.data.raw_id for event in events["raw.received"] if event.data.channel == "trades"]
    assert len(raw) == len(set(raw)) == len(pairs)
    assert set(raw) == pairs
    assert sorted(row["source_event_id"] for row in rows) == sorted(pairs)
    assert await connected(tmp_path) == 3


async def connected(folder: Path) -> int:
    path = folder / "data" / "logs" / "ingest.log"
    return path.read_text().count("ingest.connected") if path.exists() else 0


async def has_connected(folder: Path, times: int) -> bool:
    return await connected(folder) >= times
