"""`vibe dead` on a data folder whose normalize stage received raw events that it cannot parse."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.events import RawReceived, Venue
from gateways.sandbox.hyperliquid import INFLUENCERS
from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from handlers.normalize import Normalize
from streams import subjects, topology
from streams.append import Record, append
from streams.connection import Connection
from streams.dead_letters import dead_letter, dead_letters
from streams.processing.stage_runner import StageRunner
from streams.subjects import lanes
from tests.system.command import Ended, Ends, ends, until, vibe

WHALE = INFLUENCERS[0]
MALFORMED = b'{"coin":"BTC","side":"?","px":"not a price"}'


def raw(payload: bytes, number: int) -> Record:
    """A trade of the followed address as ingest would record it."""
    event = RawReceived(
        raw_id=f"hl:trades:{number}",
        venue=Venue.HYPERLIQUID,
        channel="trades",
        influencer_id=WHALE.id,
        address=WHALE.address,
        payload=msgspec.Raw(payload),
        detect_time=time.time_ns(),
    )
    stored = codec().encode(event, id=event.raw_id, source="vibe/ingest", time_ns=time.time_ns())
    return Record(subjects.raw(WHALE.id, "hyperliquid", "trades", WHALE.address), stored)


@asynccontextmanager
async def normalizing(connection: Connection) -> AsyncIterator[None]:
    stop = asyncio.Event()
    runner = StageRunner(connection, codec(), Normalize(LiveConfiguration(connection, codec())), lanes(4), time.time_ns)
    running = asyncio.create_task(runner.run(stop))
    await runner.ready()
    try:
        yield
    finally:
        stop.set()
        await running


@pytest.fixture(scope="module")
async def broken(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Path, Ends]]:
    """A data folder, its servers running, with two dead letters of normalize and one of ingest."""
    folder = tmp_path_factory.mktemp("dead") / "data"
    async with ends(folder) as at:
        await topology.apply(at.connection)
        await append(at.connection, [raw(MALFORMED, 1), raw(b'"<b>[/b]"', 2)])
        await dead_letter(
            at.connection,
            stage="ingest",
            stream="RAW",
            sequence=0,
            subject="raw.frame",
            payload=b"\xff{",
            error="not a frame [/b]",
            now=time.time_ns(),
        )
        async with normalizing(at.connection):
            await until(lambda: in_state(at, "open", 3), 20, "three dead letters")
        yield folder, at


async def in_state(at: Ends, state: str, count: int) -> bool:
    found = await dead_letters(at.connection, codec())
    return sum(one.state == state for one in found) >= count


async def run(folder: Path, *arguments: str) -> Ended:
    return await vibe(folder, "dead", *arguments, timeout=30)


async def listed(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    ended = await run(folder, "list", *arguments, "--json")
    assert ended.code == 0, ended.err
    found: list[dict[str, Any]] = json.loads(ended.out)
    return found


async def test_an_operator_lists_retries_and_drops(broken: tuple[Path, Ends]) -> None:
    folder, at = broken

    shown = await listed(folder)
    by_event = {row["event"]: row for row in shown}
    assert set(by_event) == {"RAW:0", "RAW:1.0", "RAW:2.0"}
    assert {row["stage"] for row in await listed(folder, "--stage", "ingest")} == {"ingest"}
    first = by_event["RAW:1.0"]
    assert (first["id"], first["state"], first["stage"]) == ("normalize:RAW:1.0", "open", "normalize")
    assert first["subject"].endswith(f".hyperliquid.trades.{WHALE.address}")
    number, second, frame = (str(by_event[event]["number"]) for event in ("RAW:1.0", "RAW:2.0", "RAW:0"))

    table, whole, as_text, unknown = await asyncio.gather(
        run(folder, "list"),
        run(folder, "show", number, "--json"),
        run(folder, "show", second),
        run(folder, "show", "999"),
    )
    assert table.code == 0, table.err
    assert "normalize" in table.out
    assert "RAW:1" in table.out
    assert "not a frame [/b]" in table.out
    assert MALFORMED.decode() in whole.json["payload"]
    assert whole.json["error"] == first["error"]
    assert '"<b>[/b]"' in as_text.out, "markup in an event is shown as it is"
    assert unknown.code == 1
    assert "there is no dead letter 999" in unknown.err

    # What has no input to run again is refused with advice; the rest of the request is done.
    retried = await run(folder, "retry", number, frame, "--json")
    assert retried.code == 1
    by_number = {str(row["number"]): row for row in retried.json}
    assert by_number[number]["error"] is None
    assert by_number[number]["retry"] > 0
    assert "fix the cause, then drop the dead letter" in by_number[frame]["error"]
    again, nothing, both = await asyncio.gather(
        run(folder, "retry", number), run(folder, "retry"), run(folder, "retry", number, "--all")
    )
    assert again.code == 1
    assert f"{number} is retried already" in again.err
    for refused in (nothing, both):
        assert refused.code == 2
        assert "give --all" in refused.err

    # The cause is still there, so the stage dead-letters the event again, under a new number.
    async with normalizing(at.connection):
        await until(lambda: in_state(at, "retried", 1), 10)
        await until(lambda: in_state(at, "open", 3), 10, "the new dead letter")
    fresh = {row["id"]: row for row in await listed(folder)}
    assert set(fresh) == {f"normalize:RAW:1.0~{by_number[number]['retry']}", "normalize:RAW:2.0", "ingest:RAW:0"}

    dropped = await run(folder, "drop", frame, second, "--why", "a test [frame]", "--json")
    assert dropped.code == 0, dropped.err
    assert [row["error"] for row in dropped.json] == [None, None]
    nothing_waits = {"appends": [], "text": "nothing waits for it, and nothing is appended"}
    assert [row["completes"] for row in dropped.json] == [nothing_waits, nothing_waits]
    everything = await listed(folder, "--all")
    assert sorted(row["state"] for row in everything) == ["dropped", "dropped", "open", "retried"]
    rest = await run(folder, "retry", "--all", "--stage", "normalize")
    assert rest.code == 0, rest.err
    assert "1 dead letter retried" in rest.out
    assert "no open dead letters" in (await run(folder, "list")).out
