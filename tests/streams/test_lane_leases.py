"""Instances of a stage come, go, die, are suspended and disagree: lanes stay shared, each input has one effect."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from gateways.embedded import Addresses
from streams import topology
from streams.connection import Connection, connect
from streams.envelope import Recorded
from streams.errors import UnavailableError
from streams.processing import snapshots
from streams.processing.checkpoint import HalfStoredError
from streams.processing.commit import Committer
from streams.processing.lane_leases import LeaseTable, Member, fair_shares, has_ended, process_start
from streams.processing.processor import FencedError, LaneSettings, LaneWorker, Outcome
from streams.processing.stage import Output
from streams.processing.stage_runner import StageRunner
from streams.subjects import Lane, lanes, partition
from streams.topology import GROUPS, SIGNALS
from tests.streams.counting import (
    CODEC,
    Counting,
    Counts,
    Given,
    Killed,
    Workers,
    checkpoints,
    feed_in,
    plain,
    positions_are_right,
)
from tests.streams.deadlines import eventually, settled
from tests.streams.own_server import own_server
from tests.streams.stage_instances import (
    KEYS,
    Instances,
    all_counted,
    all_counted_so_far,
    flowing,
    instances,
    lease_table,
    owned,
    reachable,
    shared,
    shares,
    stored,
    taken_over,
)


def test_the_keys_reach_every_lane() -> None:
    assert {partition(given.key) // 8 for given in plain(KEYS, keys=KEYS)} == set(range(8))


def test_shares_differ_by_one_at_most_and_few_lanes_move() -> None:
    assert fair_shares(4, {"a": 4, "b": 0}) == {"a": 2, "b": 2}
    assert fair_shares(4, {"a": 2, "b": 2, "c": 0}) == {"a": 2, "b": 1, "c": 1}
    assert fair_shares(4, {"a": 1, "b": 2, "c": 1}) == {"a": 1, "b": 2, "c": 1}
    assert fair_shares(4, dict.fromkeys("abcdef", 0)) == {"a": 1, "b": 1, "c": 1, "d": 1, "e": 0, "f": 0}
    assert fair_shares(64, {"a": 32, "b": 32, "c": 0}) == {"a": 22, "b": 21, "c": 21}


def test_the_stored_lease_table_keeps_its_field_names() -> None:
    """Instances of two versions share lanes while an operator updates them one after the other."""
    table = LeaseTable({"a": Member(3, "host", 7, "99", 4)}, {"00-15": "a"}, 4)
    assert msgspec.json.decode(msgspec.json.encode(table)) == {
        "members": {"a": {"beat": 3, "place": "host", "pid": 7, "started": "99", "layout": 4}},
        "lanes": {"00-15": "a"},
        "layout": 4,
    }


@pytest.fixture
async def group(log: Connection, running: Addresses, tmp_path: Path) -> AsyncIterator[Instances]:
    """Instances on the suite's server."""
    async with instances(running.nats_url, tmp_path) as made:
        yield made


async def test_instances_come_and_go_while_input_flows(log: Connection, group: Instances) -> None:
    async with flowing(log):
        await group.start("a")
        await shared(log, {"a": 4})
        await group.start("b")
        await shared(log, {"a": 2, "b": 2})
        await group.start("c")
        await shared(log, {"a": 2, "b": 1, "c": 1})

        # One is stopped: its lanes are released and acquired by the others at once.
        began = await group.at_work(log, "a")
        await group.stop("a")
        await taken_over(log, group.pid("a"), began, 2.0)
        await shared(log, {"b": 2, "c": 2})
        assert "instance.dead" not in group.log("b").read_text() + group.log("c").read_text()

        # One is killed: the others on the host see that the process is gone.
        began = await group.at_work(log, "b")
        group.by_name["b"].kill()
        await group.by_name["b"].wait()
        await taken_over(log, group.pid("b"), began, 2.0)
        await shared(log, {"c": 4})
        group.assert_only_ended("a", "b")


async def test_dead_instances_on_another_host_are_found_by_missing_heartbeats(
    log: Connection, group: Instances
) -> None:
    async with flowing(log):
        await group.start("a")
        await group.start("b", "blind")
        await shared(log, {"a": 2, "b": 2})
        began = await group.at_work(log, "b")
        group.by_name["b"].kill()
        await taken_over(log, group.pid("b"), began, 5.0)
        await shared(log, {"a": 4})


async def test_a_suspended_instance_is_replaced_and_does_no_harm_when_it_resumes(
    log: Connection, group: Instances
) -> None:
    async with flowing(log):
        await group.start("a")
        await group.start("b")
        await shared(log, {"a": 2, "b": 2})
        began = await group.at_work(log, "b")
        os.kill(group.pid("b"), signal.SIGSTOP)
        await taken_over(log, group.pid("b"), began, 5.0)
        assert await owned(log, "a") == [lane.name for lane in lanes(4)]
        await asyncio.sleep(max(0.0, began + 6 - time.monotonic()))
        os.kill(group.pid("b"), signal.SIGCONT)
        await eventually(lambda: "lane.lost" in group.log("b").read_text(), 5)
        await shared(log, {"a": 2, "b": 2})
        group.assert_only_ended()


async def test_the_server_dies_under_three_instances(tmp_path: Path) -> None:
    async with own_server(tmp_path) as server, instances(server.url, tmp_path) as group:
        connection = await connect(server.url, "feeds in")
        try:
            async with flowing(connection) as flow:
                for name in "abc":
                    await group.start(name)
                await shared(connection, {"a": 2, "b": 1, "c": 1})
                before = await lease_table(connection)
                await server.kill()
                # So long that every instance would take every other one for dead.
                await asyncio.sleep(4)
                await server.start()
                await reachable(connection)
                count = len(flow.inputs)
                await eventually(lambda: len(flow.inputs) >= count + 5 * KEYS)
                await all_counted_so_far(connection, flow)
                assert (await lease_table(connection)).lanes == before.lanes, "no instance lost a lane"
                group.assert_only_ended()
        finally:
            await connection.close()


async def test_the_leases_are_deleted_and_made_again(log: Connection, group: Instances) -> None:
    async with flowing(log) as flow:
        await group.start("a")
        await group.start("b")
        await shared(log, {"a": 2, "b": 2})
        await log.api("STREAM.DELETE.LEASES")
        await eventually(lambda: "leases.retry" in group.log("a").read_text(), 5)
        await topology.apply(log)
        await shared(log, {"a": 2, "b": 2})
        await all_counted_so_far(log, flow)
        group.assert_only_ended()


async def test_an_instance_with_another_number_of_lanes_waits_until_the_old_ones_are_gone(
    log: Connection, group: Instances
) -> None:
    async with flowing(log) as flow:
        await group.start("a")
        await group.start("b")
        await shared(log, {"a": 2, "b": 2})
        await group.start("c", lane_count=8, loaded=False)
        await eventually(lambda: "leases.other_layout" in group.log("c").read_text(), 20)
        assert "2 instances of this stage run with 4 lanes" in group.log("c").read_text()
        await group.stop("a")
        await shared(log, {"b": 4})
        group.by_name["b"].kill()
        await shared(log, {"c": 8})
        await all_counted_so_far(log, flow)
        assert not await checkpoints_in_force(log, 4)
        assert await lag_of(log) == [f"counting-{lane.name}" for lane in lanes(8)]
    await positions_are_right(log, flow.inputs, 1, 8)


async def checkpoints_in_force(connection: Connection, lane_count: int) -> list[str]:
    found = await checkpoints(connection, lane_count)
    return [name for name, reached in found.items() if not reached.superseded]


async def lag_of(connection: Connection) -> list[str]:
    """The durable consumers that `nats consumer report` shows."""
    names = (await connection.api("CONSUMER.NAMES.SIGNALS"))["consumers"]
    return sorted(name for name in names if name.startswith("counting-"))


async def worked(connection: Connection, inputs: list[Given], lane_count: int, more: list[Given]) -> None:
    """Workers with so many lanes count what was fed in and more."""
    inputs += more
    async with Workers(connection, Counting(), time.time_ns, lane_count=lane_count):
        await feed_in(connection, more)
        await all_counted(connection, inputs)


async def test_the_number_of_lanes_changes_with_input_in_between(log: Connection) -> None:
    inputs: list[Given] = []
    for lane_count in (4, 2, 8, 1, 2, 4, 8, 4, 1, 4, 4):
        # Inputs that no lane has read yet, spread unevenly: some lanes are far behind others.
        waiting = [Given(f"key-{number % 3}", number) for number in range(len(inputs) + 1, len(inputs) + 8)]
        await feed_in(log, waiting)
        inputs += waiting
        await worked(log, inputs, lane_count, plain(60, keys=KEYS, first=len(inputs) + 1))
        assert len(await checkpoints_in_force(log, lane_count)) > 0
    found = await checkpoints(log, 4)
    assert max(reached.position for reached in found.values()) == len(inputs)


def stopping_at(step: str, count: int) -> Callable[[str], None]:
    calls = 0

    def on_step(name: str) -> None:
        nonlocal calls
        calls += name == step
        if calls == count:
            raise Killed

    return on_step


async def test_what_a_lane_had_done_before_it_was_taken_over_is_not_done_again(log: Connection) -> None:
    """One half of the new lane is far ahead of the other, and the first worker on it dies between its commits."""
    ahead, behind = "key-1", "key-0"
    assert (partition(ahead) // 16, partition(behind) // 16) == (0, 1)
    inputs = [Given(behind if number % 2 else ahead, number) for number in range(1, 201)]
    await feed_in(log, inputs)
    stop = asyncio.Event()
    working = asyncio.create_task(LaneWorker(log, CODEC, Counting(), Lane(0, 15), time.time_ns).run(stop))
    await settled(lambda: stored(log), lambda found: found == 100)
    stop.set()
    await working

    dying = LaneWorker(
        log,
        CODEC,
        Counting(),
        Lane(0, 31),
        time.time_ns,
        settings=LaneSettings(read_batch=40),
        on_step=stopping_at("acknowledged", 2),
    )
    with pytest.raises(Killed):
        await dying.run(asyncio.Event())
    assert 100 < await stored(log) < 200, "it died in the middle"
    reached = (await checkpoints(log, 2))["00-31"]
    assert reached.reached(partition(ahead))[0] == 200
    assert reached.reached(partition(behind))[0] == reached.position < 200
    async with Workers(log, Counting(), time.time_ns, lane_count=2):
        await all_counted(log, inputs)
    reached = (await checkpoints(log, 2))["00-31"]
    assert (reached.position, reached.ahead) == (200, {})


async def test_a_worker_of_the_old_layout_is_refused_once_its_partitions_are_taken_over(log: Connection) -> None:
    """Even one that does not know of it, has read on and is about to commit."""
    inputs = plain(40, keys=KEYS)
    await worked(log, inputs[:0], 4, inputs)
    old = Committer(log, CODEC, "counting", Lane(0, 15), SIGNALS, GROUPS, time.time_ns)
    assert await old.load() == []
    new = Committer(log, CODEC, "counting", Lane(0, 7), SIGNALS, GROUPS, time.time_ns)
    assert await new.load() == ["00-15"]
    with pytest.raises(FencedError):
        await old.commit([Outcome(41, [])], 0, lambda output, sequence: None)
    with pytest.raises(FencedError):
        await old.confirm()
    other = Committer(log, CODEC, "counting", Lane(8, 15), SIGNALS, GROUPS, time.time_ns)
    assert await other.load() == [], "superseded already"
    assert other.reached.position == old.reached.position
    # Two layouts that compete for a partition alternate; neither ever commits with an old position.
    await new.commit([Outcome(41, [])], 0, lambda output, sequence: None)
    again = Committer(log, CODEC, "counting", Lane(0, 15), SIGNALS, GROUPS, time.time_ns)
    assert await again.load() == ["00-07", "08-15"]
    assert again.reached.reached(3) == (41, 0)
    assert again.reached.reached(12) == (old.reached.position, 0)
    for loser in (new, other):
        with pytest.raises(FencedError):
            await loser.commit([Outcome(42, [])], 0, lambda output, sequence: None)


async def test_lanes_do_not_change_in_the_middle_of_an_event(log: Connection) -> None:
    burst = Given("key-1", 1, "burst")
    inputs = [burst, *plain(KEYS, keys=KEYS, first=2)]
    await feed_in(log, inputs)
    with pytest.raises(Killed):
        await LaneWorker(log, CODEC, DiesWithinBurst(), Lane(0, 15), time.time_ns).run(asyncio.Event())
    assert await stored(log) == 999
    stage = StageRunner(log, CODEC, Counting(), lanes(8), time.time_ns)
    with pytest.raises(HalfStoredError, match="start counting once with 4 lanes"):
        async with asyncio.timeout(20):
            await stage.run(asyncio.Event())
    assert (await lease_table(log)).members == {}, "it does not keep lanes that it cannot work on"
    async with Workers(log, Counting(), time.time_ns, lane_count=4):
        await all_counted(log, inputs)
    await worked(log, inputs, 8, plain(KEYS, keys=KEYS, first=len(inputs) + 1))


class DiesWithinBurst(Counting):
    """After the first part of an event's outputs was stored."""

    def stored(self, state: Counts, output: Output, sequence: int) -> None:
        if output.id.endswith(".998"):
            raise Killed


async def test_a_lane_whose_worker_fails_for_good_ends_its_instance(log: Connection) -> None:
    """Otherwise the lane would stay owned, and no instance would work on it."""

    class Buggy(Counting):
        counted = False

        def handle(self, state: Counts, event: Recorded, now: int) -> Iterator[Output]:
            self.counted = True
            yield from super().handle(state, event, now)

        def config_sequence(self) -> int:
            if self.counted:
                raise ZeroDivisionError
            return 0

    inputs = [Given("key-1", 1)]
    failing = asyncio.create_task(
        StageRunner(log, CODEC, Buggy(), lanes(4), time.time_ns, instance="buggy").run(asyncio.Event())
    )
    await shared(log, {"buggy": 4})
    await feed_in(log, inputs)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(10):
            await failing
    assert await shares(log) == {}
    await worked(log, inputs, 4, plain(10, first=2))


async def test_a_lane_that_goes_before_it_has_loaded_does_not_keep_its_instance_unready(log: Connection) -> None:
    class Endless(Counting):
        """Cannot load: its state takes for ever."""

        def initial(self, lane: Lane) -> Counts:
            raise UnavailableError("not yet")

    stop = asyncio.Event()
    first = StageRunner(log, CODEC, Endless(), lanes(2), time.time_ns, instance="a")
    running = [asyncio.create_task(first.run(stop))]
    await shared(log, {"a": 2})
    ready = asyncio.create_task(first.ready())
    running.append(asyncio.create_task(StageRunner(log, CODEC, Counting(), lanes(2), time.time_ns).run(stop)))
    await settled(lambda: owned(log, "a"), lambda names: len(names) == 1)
    stop.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*running, ready)


async def test_an_instance_that_is_slow_to_release_is_not_taken_for_dead(
    log: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saving a large snapshot delays the release; heartbeats go on meanwhile."""

    class Large(Counting):
        schema = 1

        def dump(self, state: Counts) -> bytes:
            return b""

    saved = asyncio.Event()

    async def save(*_: object) -> None:
        await saved.wait()

    monkeypatch.setattr(snapshots, "save", save)
    stop, settings = asyncio.Event(), LaneSettings(snapshot_at_stop=1)
    runner = StageRunner(log, CODEC, Large(), lanes(4), time.time_ns, instance="slow", settings=settings)
    slow = asyncio.create_task(runner.run(stop))
    await shared(log, {"slow": 4})
    inputs = plain(KEYS, keys=KEYS)
    await feed_in(log, inputs)
    await settled(lambda: stored(log), lambda found: found == KEYS)
    other = asyncio.create_task(StageRunner(log, CODEC, Counting(), lanes(4), time.time_ns, instance="x").run(stop))
    await settled(lambda: lease_table(log), lambda found: len(found.members) == 2)
    before = (await lease_table(log)).members["slow"].heartbeat
    await settled(lambda: lease_table(log), lambda found: found.members["slow"].heartbeat >= before + 4, 8)
    assert await shares(log) == {"slow": 4, "x": 0}, "a lane is given back only when its work has ended"
    saved.set()
    await shared(log, {"slow": 2, "x": 2})
    await all_counted(log, inputs)
    stop.set()
    await asyncio.gather(slow, other)
    assert (await lease_table(log)).lanes == {}


def test_a_zombie_process_has_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        member = Member(0, "here", child.pid, process_start(child.pid))
        assert member.started
        assert not has_ended(member, "here")
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert has_ended(member, "here")
        assert not has_ended(member, "elsewhere")
    finally:
        child.communicate()
