"""Snapshots: restored, with the later events folded, they are the state of a full replay; unusable ones are ignored."""

import asyncio
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from streams import subjects, topology
from streams.append import Record, append
from streams.connection import Connection
from streams.envelope import Recorded
from streams.processing import snapshots
from streams.processing.commit import Committer, Outcome
from streams.processing.processor import LaneSettings
from streams.processing.snapshots import Head
from streams.subjects import Lane
from streams.topology import GROUPS, SIGNALS
from tests.streams import million
from tests.streams.counting import (
    CODEC,
    Counted,
    Counting,
    Counts,
    Given,
    Ticked,
    Wanted,
    Workers,
    each_once_in_order,
    feed_in,
    output,
    plain,
    written,
)
from tests.streams.deadlines import eventually, settled
from tests.streams.stage_instances import stored

WHOLE = Lane(0, 63)
OFTEN = LaneSettings(read_batch=7, snapshot_every=1, snapshot_at_stop=1)
"""A snapshot after every few events."""
ONLY_AT_STOP = LaneSettings(read_batch=7, snapshot_at_stop=1)
KINDS = ("plain",) * 8 + ("intent", "silent")
Facts = tuple[dict[str, int], dict[str, int], dict[str, tuple[Wanted, int]], dict[str, int]]


class Saving(Counting):
    """Counts, and saves its state."""

    schema = 1

    def dump(self, state: Counts) -> bytes:
        return msgspec.msgpack.encode((state.counts, state.newest, state.wanted, state.ticks))

    def restore(self, payload: bytes, lane: Lane) -> Counts:
        counts, newest, wanted, ticks = msgspec.msgpack.decode(payload, type=Facts)
        state = Counts()
        state.counts.update(counts)
        state.newest.update(newest)
        state.wanted.update(wanted)
        state.ticks.update(ticks)
        return state


class RememberingRestored(Saving):
    """Keeps the state that it restored, which the lane folds further in place."""

    restored: Counts

    def restore(self, payload: bytes, lane: Lane) -> Counts:
        self.restored = super().restore(payload, lane)
        return self.restored


class Following(Saving):
    """Its state holds what another stage writes, too; the order of both does not matter to it."""

    follows = frozenset({"test.ticked"})

    def evolve(self, state: Counts, event: Any, sequence: int) -> None:
        if isinstance(event, Ticked):
            state.ticks[event.key] += event.number
        else:
            super().evolve(state, event, sequence)


def facts(state: Counts) -> Facts:
    """What a state holds; a key that was only read is no part of it."""
    counts, newest, ticks = ({k: n for k, n in each.items() if n} for each in (state.counts, state.newest, state.ticks))
    return counts, newest, dict(state.wanted), ticks


def replayed(stage: Counting, events: Sequence[Recorded]) -> Counts:
    state = stage.initial(WHOLE)
    for event in events:
        stage.evolve(state, event.data, event.sequence)
    return state


class Replaying(Following):
    """Folds what another stage wrote when it replays, and not while it works."""

    follows = frozenset()


class Saved:
    """Every snapshot that was saved, as (sequence, state)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.snapshots: list[tuple[int, bytes]] = []
        save = snapshots.save

        async def remembering(*args: Any) -> Head:
            head = await save(*args)
            self.snapshots.append(args[-2:])
            return head

        monkeypatch.setattr(snapshots, "save", remembering)

    def are_right(self, stage: Saving, events: Sequence[Recorded]) -> None:
        """Each is the state as of its sequence, and with the rest folded on top the state as of now."""
        whole = facts(replayed(stage, events))
        at, upto = 0, stage.initial(WHOLE)
        for sequence, state in sorted(self.snapshots):
            while at < len(events) and events[at].sequence <= sequence:
                stage.evolve(upto, events[at].data, events[at].sequence)
                at += 1
            restored = stage.restore(state, WHOLE)
            assert facts(restored) == facts(upto), f"as of {sequence}"
            for event in events[at:]:
                stage.evolve(restored, event.data, event.sequence)
            assert facts(restored) == whole


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> Saved:
    """Records the snapshots of the test."""
    return Saved(monkeypatch)


async def counted(connection: Connection, outputs: int) -> list[Recorded]:
    await settled(lambda: stored(connection), lambda found: found >= outputs, 30, every=0.05)
    return await written(connection)


def loaded(logs: Sequence[EventDict]) -> list[tuple[int, int]]:
    """(sequence of the snapshot, events replayed on top) of every load."""
    return [(each["snapshot"], each["replayed"]) for each in logs if each["event"] == "lane.loaded"]


async def head(connection: Connection) -> Head | None:
    return await snapshots._head(connection, "counting", WHOLE)


async def test_every_snapshot_under_load_is_the_state_as_of_its_sequence(log: Connection, saved: Saved) -> None:
    kinds = Random(1)
    inputs: list[Given] = []
    outputs = 0
    async with Workers(log, Saving(), time.time_ns, settings=OFTEN):
        while len({sequence for sequence, _ in saved.snapshots}) < 200:
            numbers = range(len(inputs) + 1, len(inputs) + 351)
            more = [Given(f"key-{number % 9}", number, kinds.choice(KINDS)) for number in numbers]
            inputs += more
            outputs += sum(given.kind != "silent" for given in more)
            assert len(inputs) < 20_000
            await feed_in(log, more)
            await counted(log, outputs)
    events = await written(log)
    each_once_in_order(events, inputs)
    assert max(sequence for sequence, _ in saved.snapshots) > events[-1].sequence, "the last one holds everything"
    saved.are_right(Saving(), events)
    with capture_logs() as logs:
        stage = RememberingRestored()
        async with Workers(log, stage, time.time_ns, settings=OFTEN):
            assert facts(stage.restored) == facts(replayed(Saving(), events))
    ((at, rest),) = loaded(logs)
    assert at > events[-1].sequence
    assert rest == 0


async def test_a_state_that_cannot_be_saved_stops_nothing(log: Connection, saved: Saved) -> None:
    class Unsaveable(Saving):
        def dump(self, state: Counts) -> bytes:
            raise OverflowError("int too large")

    inputs = plain(100)
    await feed_in(log, inputs[:50])
    with capture_logs() as logs:
        async with Workers(log, Unsaveable(), time.time_ns, settings=OFTEN):
            await counted(log, 50)
            await feed_in(log, inputs[50:])
            each_once_in_order(await counted(log, 100), inputs)
    assert {each["error"] for each in logs if each["event"] == "snapshot.not_saved"} == {"OverflowError: int too large"}
    assert not saved.snapshots


async def test_a_start_from_a_snapshot_replays_the_tail_and_goes_on(log: Connection, saved: Saved) -> None:
    inputs = plain(500)
    await feed_in(log, inputs[:300])
    async with Workers(log, Saving(), time.time_ns, settings=OFTEN):
        await counted(log, 300)
    # Another instance, which saves nothing, goes on for a while.
    await feed_in(log, inputs[300:400])
    async with Workers(log, Counting(), time.time_ns):
        await counted(log, 400)
    with capture_logs() as logs:
        await feed_in(log, inputs[400:])
        async with Workers(log, Saving(), time.time_ns, settings=OFTEN):
            each_once_in_order(await counted(log, 500), inputs)
    ((at, rest),) = loaded(logs)
    assert at > 0
    assert rest == 100


async def test_a_stage_that_follows_others_is_saved_as_of_one_sequence(log: Connection, saved: Saved) -> None:
    inputs = plain(1_500, keys=7)
    stop = asyncio.Event()
    ticks = 0

    async def other_stage() -> None:
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            for key in ("key-1", "key-2"):
                ticked = CODEC.encode(Ticked(key, ticks), id=f"t.{key}.{ticks}", source="other", time_ns=0)
                await append(log, [Record(subjects.groups(key, "test", key), ticked)])

    other = asyncio.create_task(other_stage())
    try:
        async with Workers(log, Following(), time.time_ns, settings=OFTEN):
            for start in range(0, len(inputs), 100):
                await feed_in(log, inputs[start : start + 100])
                await counted(log, start + 100)
            before = len(saved.snapshots)
            await feed_in(log, [Given("key-1", 1_501)])
            await eventually(
                lambda: len(saved.snapshots) > before, what="a snapshot while the other stage goes on writing"
            )
    finally:
        stop.set()
        await other
    events = await written(log)
    assert len(saved.snapshots) >= 50
    assert len({restored_ticks(state) for _, state in saved.snapshots}) >= 10, "the followed events are part of them"
    saved.are_right(Following(), events)


def restored_ticks(state: bytes) -> int:
    return sum(Saving().restore(state, WHOLE).ticks.values())


@pytest.mark.parametrize("stage", [Saving(), Following()], ids=["alone", "following"])
async def test_a_worker_that_was_replaced_saves_nothing(log: Connection, saved: Saved, stage: Saving) -> None:
    """What the other one committed is not in its state, though its sequence may be later."""
    await feed_in(log, plain(20))
    with capture_logs() as logs:
        async with Workers(log, stage, time.time_ns, settings=ONLY_AT_STOP):
            await counted(log, 20)
            await commit_as_another_instance(log)
            ticked = CODEC.encode(Ticked("key-1", 1), id="t", source="other", time_ns=0)
            await append(log, [Record(subjects.groups("key-1", "test", "key-1"), ticked)])
            await asyncio.sleep(0.3)  # the stage that follows has read what the other one committed
    assert "lane.fenced" in [each["event"] for each in logs]
    assert not saved.snapshots
    async with Workers(log, stage, time.time_ns, settings=OFTEN):
        await feed_in(log, [Given("key-2", 22)])
        await counted(log, 23)
    assert saved.snapshots
    saved.are_right(stage, await written(log))


async def commit_as_another_instance(log: Connection) -> None:
    """Count input 21, which was not fed in, for the whole lane."""
    other = Committer(log, CODEC, "counting", WHOLE, SIGNALS, GROUPS, time.time_ns)
    await other.load()
    await other.commit([Outcome(20, [output(Counted("key-1", 21, 5), "counted.21")])], 0, lambda output, sequence: None)


async def test_a_load_that_replayed_more_than_its_checkpoint_saves_no_wrong_snapshot(
    log: Connection, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another instance commits between the reading of the checkpoint and the replay."""
    await feed_in(log, plain(20))
    async with Workers(log, Counting(), time.time_ns):
        await counted(log, 20)
    load = Committer.load

    async def then_another(self: Committer) -> list[str]:
        found = await load(self)
        monkeypatch.setattr(Committer, "load", load)
        await commit_as_another_instance(log)
        return found

    monkeypatch.setattr(Committer, "load", then_another)
    async with Workers(log, Saving(), time.time_ns, settings=OFTEN):
        await feed_in(log, [Given("key-2", 22)])
        await counted(log, 22)
    assert saved.snapshots
    saved.are_right(Saving(), await written(log))


async def test_events_of_others_behind_the_checkpoint_are_folded_once(log: Connection, saved: Saved) -> None:
    """They are in the replayed state, so a snapshot of it must not claim to end at the checkpoint."""
    await feed_in(log, plain(20))
    async with Workers(log, Counting(), time.time_ns):
        await counted(log, 20)
    ticked = CODEC.encode(Ticked("key-1", 3), id="t", source="other", time_ns=0)
    await append(log, [Record(subjects.groups("key-1", "test", "key-1"), ticked)])
    async with Workers(log, Replaying(), time.time_ns, settings=OFTEN):
        pass
    assert saved.snapshots
    saved.are_right(Replaying(), await written(log))


async def damage_a_part(log: Connection) -> None:
    found = await head(log)
    assert found is not None
    await append(log, [Record(f"snapshots.counting.00-63.{found.generation}.00000", b"\x00 damaged")])


async def truncate(log: Connection) -> None:
    found = await head(log)
    assert found is not None
    await log.api("STREAM.PURGE.SNAPSHOTS", {"filter": f"snapshots.counting.00-63.{found.generation}.00000"})


async def damage_the_head(log: Connection) -> None:
    await append(log, [Record("snapshots.counting.00-63.head", b"{")])


async def write_nonsense(log: Connection) -> None:
    await snapshots.save(log, "counting", WHOLE, 1, "GROUPS", 10, b"nonsense")


async def save_for_a_later_sequence(log: Connection) -> None:
    await snapshots.save(log, "counting", WHOLE, 1, "GROUPS", 1_000_000, b"")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damage_a_part, "its parts do not match its head"),
        (truncate, "its parts do not match its head"),
        (damage_the_head, ""),
        (write_nonsense, "Error: "),
        (save_for_a_later_sequence, "it is of another log"),
    ],
)
async def test_a_damaged_snapshot_is_ignored(
    log: Connection, saved: Saved, damage: Callable[[Connection], Any], why: str
) -> None:
    inputs = plain(60)
    await feed_in(log, inputs[:50])
    async with Workers(log, Saving(), time.time_ns, settings=OFTEN):
        await counted(log, 50)
    await damage(log)
    with capture_logs() as logs:
        await feed_in(log, inputs[50:])
        async with Workers(log, Saving(), time.time_ns, settings=OFTEN):
            each_once_in_order(await counted(log, 60), inputs)
    assert loaded(logs)[0] == (0, 50)
    reasons = [each for each in logs if each["event"] in ("snapshot.ignored", "snapshot.unreadable")]
    assert reasons
    assert why in reasons[0].get("why", "")
    # A new one takes its place.
    with capture_logs() as logs:
        async with Workers(log, Saving(), time.time_ns, settings=OFTEN):
            pass
    assert loaded(logs)[0][0] > 0


async def test_a_snapshot_of_another_schema_is_ignored(log: Connection, saved: Saved) -> None:
    class Newer(Saving):
        schema = 2

    inputs = plain(60)
    await feed_in(log, inputs[:50])
    async with Workers(log, Saving(), time.time_ns, settings=OFTEN):
        await counted(log, 50)
    with capture_logs() as logs:
        await feed_in(log, inputs[50:])
        async with Workers(log, Newer(), time.time_ns, settings=OFTEN):
            each_once_in_order(await counted(log, 60), inputs)
    assert loaded(logs) == [(0, 50)]
    assert [each["why"] for each in logs if each["event"] == "snapshot.ignored"] == ["its schema is 1, not 2"]


async def test_a_snapshot_of_a_log_that_was_made_again_is_ignored(log: Connection, saved: Saved) -> None:
    await feed_in(log, plain(50))
    async with Workers(log, Saving(), time.time_ns, settings=OFTEN):
        await counted(log, 50)
    for stream in ("GROUPS", "SIGNALS"):
        await log.api(f"STREAM.DELETE.{stream}")
    await topology.apply(log)
    inputs = plain(200, first=1_000)
    await feed_in(log, inputs)
    with capture_logs() as logs:
        async with Workers(log, Counting(), time.time_ns):
            await counted(log, 200)
        async with Workers(log, Saving(), time.time_ns, settings=OFTEN):
            await feed_in(log, plain(1, first=2_000))
            each_once_in_order(await counted(log, 201), [*inputs, *plain(1, first=2_000)])
    assert loaded(logs) == [(0, 0), (0, 200)]
    assert "it is of another log" in [each.get("why") for each in logs]


async def test_two_savers_at_once_leave_a_whole_snapshot_or_none(log: Connection) -> None:
    """An owner and a zombie write the same generation."""
    states = [bytes([number]) * 2_500_000 for number in range(4)]
    for _ in range(3):
        await asyncio.gather(
            *(snapshots.save(log, "counting", WHOLE, 1, "GROUPS", 0, state) for number, state in enumerate(states))
        )
        found = await snapshots.load(log, "counting", WHOLE, 1, "GROUPS")
        assert found is None or found[1] in states
    await snapshots.save(log, "counting", WHOLE, 1, "GROUPS", 0, states[1])
    assert await snapshots.load(log, "counting", WHOLE, 1, "GROUPS") == (0, states[1])
    await snapshots.save(log, "counting", WHOLE, 1, "GROUPS", 0, b"")
    assert await snapshots.load(log, "counting", WHOLE, 1, "GROUPS") == (0, b"")


async def test_portfolios_are_equal_with_and_without_snapshots(log: Connection) -> None:
    events = million.subscriber_events(90)
    portfolios = []
    for count in (8_000, 2_000, 2_000):
        await million.store(log, events, count)
        with capture_logs() as logs:
            _, after = await million.start_and_stop(log)
        portfolios.append(after)
        expected = [count < 8_000] * 4
        assert [at > 0 for at, _ in loaded(logs)] == expected
    await log.api("STREAM.PURGE.SNAPSHOTS")
    _, whole = await million.start_and_stop(log)
    assert len(whole) == 90
    assert portfolios[-1] == whole
    assert portfolios[0] != whole
    assert any(holding.orders for each in whole.values() for holding in each.holdings.values())
    assert any(each.positions for each in whole.values())
