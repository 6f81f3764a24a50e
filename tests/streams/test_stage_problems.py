"""What keeps a stage from its work, a refusal of the log or a backlog, is named while it does, here and to others."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from streams import topology
from streams.connection import Connection
from streams.envelope import Recorded
from streams.lag_watch import Backlogs, LagLimit
from streams.processing.lane_leases import stage_problems
from streams.processing.stage import Output
from streams.processing.stage_runner import StageRunner
from streams.subjects import lanes
from tests.streams.counting import CODEC, Counted, Counting, Counts, feed_in, plain
from tests.streams.deadlines import eventually, settled


def test_a_reader_is_behind_once_its_backlog_was_above_the_limit_for_some_time() -> None:
    backlogs = Backlogs(LagLimit(events=100, seconds=10))
    backlogs.count({"plan-00-15": 101, "match-00-15": 100}, 50.0)
    assert backlogs.problems(59.9) == []
    backlogs.count({"plan-00-15": 250, "match-00-15": 100}, 60.0)
    assert backlogs.problems(60.0) == ["plan-00-15: 250 events behind, and more than 100 for 10 s"]
    backlogs.count({"plan-00-15": 100}, 61.0)
    assert backlogs.problems(61.0) == []
    backlogs.count({"plan-00-15": 101}, 62.0)
    assert backlogs.problems(71.0) == [], "counted anew"


class Held(Counting):
    """Handles nothing until `go`; while `oversized`, its output is larger than the server accepts."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.oversized = False

    async def ready(self, events: list[Recorded]) -> None:
        await self.go.wait()

    def handle(self, state: Counts, event: Recorded, now: int) -> Iterator[Output]:
        if self.oversized:
            yield Output("groups.1.test.x", Counted("x" * 9_000_000, 1, 1), "too large", "x")
        else:
            yield from super().handle(state, event, now)


@asynccontextmanager
async def run(log: Connection, stage: Held, limit: LagLimit) -> AsyncIterator[StageRunner[Counts]]:
    stop = asyncio.Event()
    runner = StageRunner(log, CODEC, stage, lanes(1), time.time_ns, lag_limit=limit)
    running = asyncio.create_task(runner.run(stop))
    try:
        async with asyncio.timeout(20):
            await runner.ready()
        yield runner
    finally:
        stage.go.set()
        stop.set()
        await asyncio.wait_for(running, 20)


async def test_a_lane_that_is_behind_is_named_here_and_to_others_until_it_has_caught_up(log: Connection) -> None:
    stage = Held()
    await feed_in(log, plain(30))
    async with run(log, stage, LagLimit(events=10, seconds=0.2)) as runner:
        await eventually(lambda: any("counting-00-63: 30 events behind" in each for each in runner.problems))
        await settled(
            lambda: stage_problems(log, "counting", time.time()), lambda found: "30 events" in " ".join(found)
        )
        stage.go.set()
        await eventually(lambda: runner.problems == [])
        await settled(lambda: stage_problems(log, "counting", time.time()), lambda found: found == [])


async def test_a_lane_whose_appends_are_refused_is_named_until_one_is_accepted(log: Connection) -> None:
    stage = Held()
    stage.oversized = True
    stage.go.set()
    await feed_in(log, plain(1))
    async with run(log, stage, LagLimit()) as runner:
        await eventually(lambda: any("counting 00-63: the log refuses it: " in each for each in runner.problems))
        stage.oversized = False
        await eventually(lambda: runner.problems == [])


async def test_a_stage_whose_lease_is_refused_is_named_until_it_is_accepted(log: Connection) -> None:
    async with run(log, Held(), LagLimit()) as runner:
        assert runner.problems == []
        await log.api("STREAM.DELETE.LEASES")
        await eventually(lambda: any("counting: the log refuses its lease: " in each for each in runner.problems))
        await topology.apply(log)
        await eventually(lambda: runner.problems == [])


async def test_a_stage_that_was_stopped_has_no_problem_and_one_that_vanished_has(log: Connection) -> None:
    async with run(log, Held(), LagLimit()):
        assert await stage_problems(log, "counting", time.time()) == []
        (silent,) = await stage_problems(log, "counting", time.time() + 60)
        assert silent.startswith("counting: no instance has shown a heartbeat for ")
    assert await stage_problems(log, "counting", time.time() + 60) == []
