"""Processes killed at every step of the loop, and at random chance while two share the lanes."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from gateways.embedded import Addresses
from streams.connection import Connection, connect
from streams.errors import UnavailableError, UnknownOutcomeError
from streams.processing.stage_runner import StageRunner
from streams.subjects import lanes
from tests.streams import own_server as own_server_module
from tests.streams.counting import CODEC, Counting, Given, Workers, checkpoints, feed_in, plain, positions_are_right
from tests.streams.deadlines import eventually, settled
from tests.streams.own_server import own_server
from tests.streams.stage_instances import (
    KEYS,
    all_counted,
    all_counted_so_far,
    flowing,
    instances,
    reachable,
    shared,
    stored,
)
from tests.streams.subprocesses import process

INSTANCE = "tests.streams.instance"


@pytest.mark.parametrize("step", ["loaded", "read", "folded", "committed", "acknowledged"])
async def test_killed_at_a_step(log: Connection, running: Addresses, tmp_path: Path, step: str) -> None:
    inputs: list[Given] = []
    for count in (1, 2, 5):
        # Enough for several passes of the loop, one of them with outputs for several batches.
        more = plain(700, first=len(inputs) + 1)
        inputs += [*more, Given("key-2", len(inputs) + 701, "burst"), *plain(99, first=len(inputs) + 702)]
        await feed_in(log, inputs[-800:])
        arguments = (running.nats_url, "1", "dying", f"die={step}:{count}")
        async with process(INSTANCE, *arguments, log=tmp_path / "log") as dying, asyncio.timeout(30):
            if step == "loaded" and count > 1:
                continue  # a worker loads once
            # A loop that has nothing left to do is kept going.
            number = len(inputs)
            while dying.returncode is None:
                number += 1
                inputs.append(Given("key-3", number))
                await feed_in(log, inputs[-1:])
                await asyncio.wait({asyncio.create_task(dying.wait())}, timeout=0.02)
            assert dying.returncode == 9, (tmp_path / "log").read_text()[-2_000:]
        left = await checkpoints(log, 1)
        if step in ("committed", "acknowledged"):
            assert left, "what was committed is stored"
    async with Workers(log, Counting(), time.time_ns):
        await all_counted(log, inputs)
    await positions_are_right(log, inputs, 1, 1)


async def test_instances_that_share_lanes_are_killed_at_random(
    log: Connection, running: Addresses, tmp_path: Path
) -> None:
    chance = random.Random(7)
    async with instances(running.nats_url, tmp_path) as group:
        async with flowing(log) as flow:
            await group.start("0")
            await group.start("1")
            for number in range(2, 12):
                before = await stored(log)
                await asyncio.sleep(chance.uniform(0.0, 0.8))
                victim = chance.choice([name for name, each in group.by_name.items() if each.returncode is None])
                os.kill(group.pid(victim), signal.SIGKILL)
                await group.by_name[victim].wait()
                await group.start(str(number))
                await settled(lambda: stored(log), lambda found, before=before: found > before + KEYS)  # type: ignore[misc]
            await all_counted_so_far(log, flow)
        await positions_are_right(log, flow.inputs, 1, 4)


async def test_a_full_disk_is_retried_until_there_is_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf, text = tmp_path / "nats.conf", own_server_module.CONF.read_text()

    def quota(size: str) -> None:
        conf.write_text(text.replace("jetstream {", f"jetstream {{\n  max_file_store: {size}\n"))

    quota("300KB")
    monkeypatch.setattr(own_server_module, "CONF", conf)
    async with own_server(tmp_path) as server:
        connection, working = await connect(server.url, "feeds in"), await connect(server.url, "works")
        stops = {name: asyncio.Event() for name in "ab"}
        runners = {
            name: StageRunner(working, CODEC, Counting(), lanes(2), time.time_ns, instance=name) for name in stops
        }
        with capture_logs() as logs:
            running = {name: asyncio.create_task(runners[name].run(stops[name])) for name in stops}
            try:
                await shared(connection, {"a": 1, "b": 1})
                inputs = await fed_until_refused(connection)
                await eventually(lambda: waits(logs) == {"00-31", "32-63"}, what="both lanes have a commit that waits")
                # An instance that is stopped does not wait for ever.
                stops["b"].set()
                async with asyncio.timeout(15):
                    await running["b"]
                assert not running["a"].done()
                await server.kill()
                quota("100MB")
                await server.start()
                await reachable(connection)
                stored_inputs = (await connection.api("STREAM.INFO.SIGNALS"))["state"]["messages"]
                inputs = inputs[:stored_inputs]
                await all_counted(connection, inputs)
                more = plain(40, keys=KEYS, first=len(inputs) + 1)
                await feed_in(connection, more)
                await all_counted(connection, [*inputs, *more])
                assert runners["a"].leases.owned == {"00-31", "32-63"}
            finally:
                for stop in stops.values():
                    stop.set()
                await asyncio.wait(running.values(), timeout=20)
                await working.close()
                await connection.close()
        await running["a"]


async def fed_until_refused(connection: Connection) -> list[Given]:
    """What was tried; of the last batch it is not known whether it is stored."""
    inputs: list[Given] = []
    while len(inputs) < 10_000:
        inputs += plain(40, keys=KEYS, first=len(inputs) + 1)
        try:
            await feed_in(connection, inputs[-40:])
        except (UnavailableError, UnknownOutcomeError):
            return inputs
    raise AssertionError("the quota is too large")


def waits(logs: Sequence[EventDict]) -> set[str]:
    """Lanes that had a commit refused for want of space."""
    return {each["lane"] for each in logs if each["event"] == "commit.unknown" and "insufficient" in each["error"]}
