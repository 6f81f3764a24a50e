"""`kill -9` of workers and of the server, at chosen and at random times; then everything is counted."""

import asyncio
import random
import signal
import time
from pathlib import Path

from gateways.embedded import Addresses
from streams.connection import Connection, connect
from streams.errors import LogError
from tests.streams.counting import (
    BURST,
    Counting,
    Fetched,
    Given,
    Ticked,
    Ticking,
    Workers,
    checkpoints,
    dead_lettered,
    each_once_in_order,
    feed_in,
    plain,
    positions_are_right,
    written,
)
from tests.streams.deadlines import settled
from tests.streams.own_server import own_server
from tests.streams.subprocesses import heard, process

WORKER = "tests.streams.worker"


async def died(url: str, log: Path, *args: str) -> None:
    """A worker ran until it ended itself at the chosen point."""
    async with process(WORKER, url, *args, log=log) as worker, asyncio.timeout(30):
        assert await worker.wait() == 9, log.read_text()[-2_000:]


async def finished(connection: Connection, outputs: int, *, lane_count: int = 1) -> None:
    """A worker of this process has stored so many outputs in all, and has stopped."""
    async with Workers(connection, Counting(), time.time_ns, lane_count=lane_count):
        await settled(lambda: written(connection), lambda events: len(events) >= outputs, 30, every=0.05)


async def test_killed_between_read_and_commit(log: Connection, running: Addresses, tmp_path: Path) -> None:
    inputs = plain(300)
    await feed_in(log, inputs)
    for call in (1, 150, 299):
        before = len(await written(log))
        await died(running.nats_url, tmp_path / "log", "1", f"exit-at-handle={call}")
        assert len(await written(log)) in range(before, before + call), "what was being handled is not stored"
    await finished(log, 300)
    each_once_in_order(await written(log), inputs)
    await positions_are_right(log, inputs, 1, 1)


async def test_killed_at_ten_random_times_while_input_flows(
    log: Connection, running: Addresses, tmp_path: Path
) -> None:
    chance = random.Random(4)
    inputs: list[Given] = []
    stop = asyncio.Event()

    async def flow() -> None:
        while not stop.is_set():
            more = plain(20, keys=11, first=len(inputs) + 1)
            await feed_in(log, more)
            inputs.extend(more)
            await asyncio.sleep(0.01)

    flowing = asyncio.create_task(flow())
    progressed = 0
    try:
        for _ in range(10):
            before = len(await written(log))
            async with process(WORKER, running.nats_url, "2", log=tmp_path / "log") as worker:
                await heard(worker, "loaded")
                await asyncio.sleep(chance.uniform(0.0, 0.15))
                worker.kill()
                assert await worker.wait() == -signal.SIGKILL
            progressed += len(await written(log)) > before
    finally:
        stop.set()
        await flowing
    assert progressed >= 3, "the kills hit workers that were working"
    await finished(log, len(inputs), lane_count=2)
    each_once_in_order(await written(log), inputs)
    await positions_are_right(log, inputs, 1, 2)
    assert await dead_lettered(log) == []


async def test_killed_between_the_parts_of_one_event(log: Connection, running: Addresses, tmp_path: Path) -> None:
    inputs = [Given("a", 1), Given("a", 2, "burst"), Given("b", 3), Given("a", 4)]
    await feed_in(log, inputs)
    await died(running.nats_url, tmp_path / "log", "1", "exit-after-part=2")
    reached = (await checkpoints(log, 1))["00-63"]
    assert (reached.position, reached.part_of, reached.parts_done) == (1, 2, 999)
    await died(running.nats_url, tmp_path / "log", "1", "exit-after-part=1")
    reached = (await checkpoints(log, 1))["00-63"]
    assert (reached.position, reached.part_of, reached.parts_done) == (1, 2, 1_998)
    await finished(log, BURST + 3)
    each_once_in_order(await written(log), inputs)
    await positions_are_right(log, inputs, 1, 1)
    assert (await checkpoints(log, 1))["00-63"].part_of == 0


class Unasked(Connection):
    """A connection on which inputs are asked for only when `go` is set."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.client)
        self.go = asyncio.Event()
        self._late: list[asyncio.Task[None]] = []

    async def publish(
        self, subject: str, payload: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        if "CONSUMER.MSG.NEXT.SIGNALS" in subject and not self.go.is_set():
            self._late.append(asyncio.create_task(self._publish_late(subject, payload, reply)))
            return
        await super().publish(subject, payload, reply=reply, headers=headers)

    async def _publish_late(self, subject: str, payload: bytes, reply: str) -> None:
        await self.go.wait()
        await super().publish(subject, payload, reply=reply)


async def test_a_tick_between_the_parts_does_not_forget_them(
    log: Connection, running: Addresses, tmp_path: Path
) -> None:
    inputs = [Given("a", 1), Given("a", 2, "burst")]
    await feed_in(log, inputs)
    await died(running.nats_url, tmp_path / "log", "1", "exit-after-part=2")
    slow = Unasked(log)
    async with Workers(slow, Ticking(1), time.time_ns):
        await settled(lambda: written(log), lambda events: isinstance(events[-1].data, Ticked))
        slow.go.set()
        await settled(lambda: written(log), lambda events: len(events) >= BURST + 2, 30, every=0.05)
    each_once_in_order(await written(log), inputs)
    await positions_are_right(log, inputs, 1, 1)


async def test_killed_between_intent_and_outcome(log: Connection, running: Addresses, tmp_path: Path) -> None:
    inputs = [Given("a", 1, "intent"), Given("a", 2), Given("b", 3, "intent")]
    await feed_in(log, inputs)
    for _ in range(2):
        await died(running.nats_url, tmp_path / "log", "1", "exit-at-effect")
        assert not [event for event in await written(log) if isinstance(event.data, Fetched)]
    async with process(WORKER, running.nats_url, "1", log=tmp_path / "log"):
        events = await settled(lambda: written(log), lambda events: len(events) >= 5, 30, every=0.05)
    assert sorted(event.id for event in events) == ["counted.2", "fetched.1", "fetched.3", "wanted.1", "wanted.3"]
    each_once_in_order(events, inputs)


async def test_the_server_is_killed_under_running_workers(tmp_path: Path) -> None:
    inputs = plain(2_000, keys=6)
    async with own_server(tmp_path) as server:
        connection = await connect(server.url, "feeds in")
        workers = await connect(server.url, "workers")
        try:
            async with Workers(workers, Counting(), time.time_ns, lane_count=2):
                for kill, start in enumerate(range(0, len(inputs), 500)):
                    await feed_in(connection, inputs[start : start + 500])
                    await asyncio.sleep(0.02 * kill)
                    await server.kill()
                    await server.start()
                    await settled(lambda: reconnected(connection), bool)
                await settled(lambda: written(connection), lambda events: len(events) >= len(inputs), 30, every=0.1)
                each_once_in_order(await written(connection), inputs)
                await positions_are_right(connection, inputs, 1, 2)
        finally:
            await workers.close()
            await connection.close()


async def reconnected(connection: Connection) -> bool:
    try:
        await connection.api("INFO", timeout=0.5)
    except LogError:
        return False
    return True
