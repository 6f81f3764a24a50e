"""A lane is worked on with a configuration that is at least as new as the one that its last owner used."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

import pytest
from structlog.testing import capture_logs

from streams import dead_letters
from streams.connection import Connection
from streams.envelope import Recorded
from streams.processing.processor import LaneWorker
from streams.processing.stage import Output
from streams.subjects import Lane, lanes, partition
from tests.streams.counting import (
    CODEC,
    Counted,
    Counting,
    Counts,
    Fetched,
    Fetching,
    Given,
    Killed,
    Ticked,
    Wanted,
    Workers,
    checkpoints,
    feed_in,
    output,
    written,
)
from tests.streams.deadlines import eventually, settled

LANE = Lane(0, 63)
LOWER, UPPER = (next(key for key in map(str, range(99)) if partition(key) // 32 == half) for half in (0, 1))
"""A key of each of two lanes."""


class Following(Fetching):
    """Follows a configuration that is at `config`, and notes what the processor asks of it. Each key has a tick."""

    def __init__(self, config: int) -> None:
        super().__init__(self._answer)
        self.config = config
        self.asked: list[str] = []
        self.acts = True
        """False: leaves ticks and intents to the next owner."""
        self._moved = asyncio.Event()

    def follow_to(self, config: int) -> None:
        self.config = config
        self._moved.set()

    def config_sequence(self) -> int:
        return self.config

    async def config_reached(self, sequence: int) -> None:
        while self.config < sequence:
            self._moved.clear()
            await self._moved.wait()

    def handle(self, state: Counts, event: Recorded, now: int) -> Iterator[Output]:
        self.asked.append("handle")
        return super().handle(state, event, now)

    def due(self, state: Counts) -> int | None:
        return 1 if self.acts and any(not state.ticks[key] for key in state.counts) else None

    def tick(self, state: Counts, now: int) -> Iterator[Output]:
        self.asked.append("tick")
        for key in list(state.counts):
            if self.acts and not state.ticks[key]:
                yield output(Ticked(key, 1), f"ticked.{key}", "SIGNALS:1.0")

    def intents(self, state: Counts) -> Mapping[str, Callable[[], Awaitable[list[Output]]]]:
        self.asked.append("intents")
        return super().intents(state) if self.acts else {}

    async def _answer(self, wanted: Wanted) -> int:
        return 1


def kinds(events: list[Recorded]) -> list[tuple[type, int]]:
    return [(type(event.data), event.data.number) for event in events]


async def test_a_lane_waits_for_the_configuration_of_its_last_owner(log: Connection) -> None:
    """Input, the retry of a dead letter, a stored intent and a tick are all there; none is begun with an older one."""
    await feed_in(log, [Given("a", 1), Given("a", 2, "refuse"), Given("a", 3, "intent")])
    first = Following(5)
    first.acts = False
    stop = asyncio.Event()

    def stop_when_handled(step: str) -> None:
        if step == "acknowledged" and first.asked.count("handle") == 3:
            stop.set()

    await LaneWorker(log, CODEC, first, LANE, time.time_ns, on_step=stop_when_handled).run(stop)
    before = await written(log)
    assert kinds(before) == [(Counted, 1), (Wanted, 3)]
    assert (await checkpoints(log, 1))["00-63"].config_sequence == 5
    (dead,) = await dead_letters.dead_letters(log, CODEC)
    await dead_letters.retry(log, CODEC, dead, frozenset({"counting"}), actor="ops", now=time.time_ns)
    await feed_in(log, [Given("a", 4)])

    behind, stop = Following(3), asyncio.Event()
    worker = LaneWorker(log, CODEC, behind, LANE, time.time_ns)
    running = asyncio.create_task(worker.run(stop))
    try:
        with capture_logs() as logs:
            await eventually(lambda: any(line["event"] == "lane.config_behind" for line in logs), what="the report")
        (report,) = [line for line in logs if line["event"] == "lane.config_behind"]
        assert (report["stage"], report["lane"], report["config"], report["checkpoint"]) == ("counting", "00-63", 3, 5)
        behind.follow_to(4)
        await asyncio.sleep(0.2)
        assert (behind.asked, worker.loaded.is_set()) == ([], False)
        assert await written(log) == before
        behind.follow_to(5)
        after = await settled(lambda: written(log), lambda events: len(events) >= 5)
        assert sorted(kinds(after), key=str) == sorted(
            [(Counted, 1), (Wanted, 3), (Counted, 4), (Fetched, 3), (Ticked, 1)], key=str
        )
        await eventually(lambda: behind.asked.count("handle") >= 2, what="the input and the retry")
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)


async def test_a_lane_that_waits_can_be_stopped_and_keeps_no_other_from_working(log: Connection) -> None:
    await feed_in(log, [Given(LOWER, 1)])
    async with Workers(log, Following(5), time.time_ns, lane_count=2):
        await settled(lambda: written(log), lambda events: len(events) >= 2)
    assert [found.config_sequence for found in (await checkpoints(log, 2)).values()] == [5]

    behind, stop = Following(3), asyncio.Event()
    workers = [LaneWorker(log, CODEC, behind, lane, time.time_ns) for lane in lanes(2)]
    running = [asyncio.create_task(worker.run(stop)) for worker in workers]
    await feed_in(log, [Given(LOWER, 2), Given(UPPER, 3)])
    events = await settled(lambda: written(log), lambda events: len(events) >= 4)
    assert kinds(events)[2:] == [(Counted, 3), (Ticked, 1)]
    assert [worker.loaded.is_set() for worker in workers] == [False, True]
    stop.set()
    await asyncio.wait_for(asyncio.gather(*running), 5)
    assert len(await written(log)) == 4

    async with Workers(log, Following(6), time.time_ns, lane_count=2):
        events = await settled(lambda: written(log), lambda events: len(events) >= 5)
    assert kinds(events)[4:] == [(Counted, 2)]


async def test_a_stage_that_follows_no_configuration_never_waits(log: Connection) -> None:
    await feed_in(log, [Given("a", 1)])
    async with Workers(log, Following(5), time.time_ns):
        await settled(lambda: written(log), lambda events: len(events) >= 2)
    await feed_in(log, [Given("a", 2)])
    async with Workers(log, Counting(), time.time_ns):
        await settled(lambda: written(log), lambda events: len(events) >= 3)


class ManyTicks(Following):
    """The outputs of its tick fill more than one batch; it dies once so many outputs are stored."""

    def __init__(self, config: int, dies_after: int) -> None:
        super().__init__(config)
        self._left = dies_after

    def tick(self, state: Counts, now: int) -> Iterator[Output]:
        for number in range(1, 2_501 if state.counts and not state.ticks["a"] else 1):
            yield output(Ticked("a", number), f"ticked.{number}", "SIGNALS:1.0")

    def stored(self, state: Counts, output: Output, sequence: int) -> None:
        self._left -= 1
        if not self._left:
            raise Killed


async def test_every_part_of_a_long_tick_names_the_configuration(log: Connection) -> None:
    await feed_in(log, [Given("a", 1)])
    worker = LaneWorker(log, CODEC, ManyTicks(5, dies_after=1 + 999), LANE, time.time_ns)
    with pytest.raises(Killed):
        await asyncio.wait_for(worker.run(asyncio.Event()), 20)
    assert len(await written(log)) == 1 + 999
    assert (await checkpoints(log, 1))["00-63"].config_sequence == 5
