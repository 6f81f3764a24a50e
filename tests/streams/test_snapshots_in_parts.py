"""Snapshots in parts: at any time, the stored parts and the events behind them are the state of a full replay."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from streams import topology
from streams.append import Record, append
from streams.connection import Connection
from streams.envelope import Recorded
from streams.processing import part_saver
from streams.processing.part_saver import PartSaver
from streams.processing.processor import DEFAULT_SETTINGS, LaneSettings, LaneWorker
from streams.processing.snapshot_parts import LoadedParts, PartsHead, PartStore
from streams.reader import last
from streams.subjects import Lane
from tests.streams.counting import CODEC, Counting, Counts, Given, Wanted, Workers, each_once_in_order, feed_in, plain
from tests.streams.deadlines import eventually, settled
from tests.streams.test_snapshots import KINDS, WHOLE, commit_as_another_instance, counted, facts, loaded, replayed

OFTEN = LaneSettings(read_batch=7, snapshot_every=1, snapshot_at_stop=1)
ONLY_AT_STOP = LaneSettings(read_batch=7, snapshot_at_stop=1)
KEYS = 40
Facts = tuple[int, int, dict[str, tuple[Wanted, int]], int]


class InParts(Counting):
    """Counts, and saves what it knows of each key by itself. `state` is that of the newest load."""

    schema = 1
    saved_in_parts = True
    state: Counts
    dumped = 0

    def initial(self, lane: Lane) -> Counts:
        self.state = super().initial(lane)
        return self.state

    def evolve(self, state: Counts, event: Any, sequence: int) -> None:
        super().evolve(state, event, sequence)
        state.ticks[event.key] += 1  # so that an event that is folded twice is seen

    def part_of(self, subject: str) -> str:
        return subject.rpartition(".")[2]

    def dump_part(self, state: Counts, part: str) -> bytes:
        self.dumped += 1
        wanted = {key: value for key, value in state.wanted.items() if value[0].key == part}
        return msgspec.msgpack.encode((state.counts[part], state.newest[part], wanted, state.ticks[part]))

    def restore_parts(self, parts: Mapping[str, bytes], lane: Lane) -> Counts:
        state = self.initial(lane)
        for key, payload in parts.items():
            count, newest, wanted, ticks = msgspec.msgpack.decode(payload, type=Facts)
            state.counts[key], state.newest[key], state.ticks[key] = count, newest, ticks
            state.wanted.update(wanted)
        return state


def store_of(log: Connection) -> PartStore:
    return PartStore(log, "counting", WHOLE, 1, "GROUPS")


async def saved(log: Connection, at_least: int = 1) -> LoadedParts:
    """The stored parts, once the head names that sequence or a later one."""

    async def look() -> LoadedParts | None:
        return await store_of(log).load()

    found = await settled(look, lambda found: found is not None and found.sequence >= at_least)
    assert found is not None
    return found


@contextmanager
def crashing(log: Connection, stage: Counting, settings: LaneSettings = OFTEN) -> Iterator[LaneWorker[Counts]]:
    """A worker that ends in the middle of whatever it does at the end of the block."""
    worker = LaneWorker(log, CODEC, stage, WHOLE, time.time_ns, settings=settings)
    working = asyncio.create_task(worker.run(asyncio.Event()))
    try:
        yield worker
    finally:
        working.cancel()


async def test_after_a_crash_at_any_time_the_parts_and_the_tail_are_the_whole_state(
    log: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_saver, "_SLICE_SECONDS", 0.0)  # one part at a time, so that their sequences differ
    monkeypatch.setattr(part_saver, "_PAUSE_SECONDS", 0.0)
    chance = Random(1)
    inputs: list[Given] = []
    outputs = restored = 0
    unlike = set[int]()
    for _ in range(12):
        stage = InParts()
        with crashing(log, stage) as worker:
            async with asyncio.timeout(20):
                await worker.loaded.wait()
            before = facts(replayed(InParts(), await written_now(log, outputs)))
            assert facts(stage.state) == before
            found = await store_of(log).load()
            if found is not None:
                restored += 1
                unlike.update(found.sequences.values())
                assert set(found.sequences) <= {f"key-{number}" for number in range(KEYS)}
            for _ in range(chance.randrange(1, 6)):
                numbers = range(len(inputs) + 1, len(inputs) + chance.randrange(50, 400))
                more = [Given(f"key-{number % KEYS}", number, chance.choice(KINDS)) for number in numbers]
                inputs += more
                outputs += sum(given.kind != "silent" for given in more)
                await feed_in(log, more)
                await asyncio.sleep(chance.uniform(0, 0.2))
            await counted(log, outputs)
    assert restored >= 8
    assert len(unlike) >= 20, "the parts are as of many sequences"
    each_once_in_order(await counted(log, outputs), inputs)


async def written_now(log: Connection, outputs: int) -> list[Recorded]:
    return await counted(log, outputs) if outputs else []


async def test_snapshots_are_saved_under_sustained_load(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lane never waits for input, and the snapshots follow it."""
    monkeypatch.setattr(part_saver, "_PAUSE_SECONDS", 0.01)
    settings = LaneSettings(read_batch=100, snapshot_every=500, snapshot_at_stop=1)
    stage = InParts()
    inputs: list[Given] = []
    stop = asyncio.Event()

    async def flow() -> None:
        while not stop.is_set():
            more = plain(500, keys=KEYS, first=len(inputs) + 1)
            inputs.extend(more)
            await feed_in(log, more)

    flowing = asyncio.create_task(flow())
    try:
        with capture_logs() as logs:
            async with Workers(log, stage, time.time_ns, settings=settings):
                await eventually(lambda: len(rounds(logs)) >= 8, 30, what="eight rounds while inputs flow")
                stop.set()
                await flowing
                events = await counted(log, len(inputs))
    finally:
        stop.set()
        await flowing
    sequences = rounds(logs)
    assert sequences == sorted(set(sequences)), "each round is as of a later sequence"
    found = await saved(log)
    assert found.sequence > events[-1].sequence, "the last one, at the stop, holds everything"
    with capture_logs() as logs:
        again = InParts()
        async with Workers(log, again, time.time_ns):
            assert facts(again.state) == facts(replayed(InParts(), events))
    assert loaded(logs) == [(found.sequence, 0)]


def rounds(logs: Sequence[EventDict]) -> list[int]:
    return [each["sequence"] for each in logs if each["event"] == "snapshot.saved"]


async def test_a_slice_stops_the_lane_for_a_bounded_time(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that take three milliseconds each: ten milliseconds are four of them, whatever has changed."""
    slices: list[int] = []
    encode = PartSaver._encode_slice

    def counting(self: PartSaver[Counts]) -> dict[str, bytes]:
        encoded = encode(self)
        slices.append(len(encoded))
        return encoded

    monkeypatch.setattr(PartSaver, "_encode_slice", counting)

    class Slow(InParts):
        def dump_part(self, state: Counts, part: str) -> bytes:
            until = time.perf_counter() + 0.003
            while time.perf_counter() < until:
                pass
            return super().dump_part(state, part)

    await feed_in(log, plain(200, keys=KEYS))
    async with Workers(log, Slow(), time.time_ns, settings=ONLY_AT_STOP):
        await counted(log, 200)
    assert sum(slices) == KEYS
    assert max(slices) <= 4
    assert len((await saved(log)).states) == KEYS


async def test_only_what_has_changed_is_saved_again(log: Connection) -> None:
    async def messages() -> int:
        state = (await log.api("STREAM.INFO.SNAPSHOTS"))["state"]
        return int(state["last_seq"])

    await feed_in(log, plain(200, keys=KEYS))
    async with Workers(log, InParts(), time.time_ns, settings=ONLY_AT_STOP):
        await counted(log, 200)
    assert await messages() == KEYS + 1
    before = await saved(log)
    stage = InParts()
    async with Workers(log, stage, time.time_ns, settings=ONLY_AT_STOP):
        await feed_in(log, [Given("key-1", 201), Given("key-2", 202)])
        await counted(log, 202)
    assert stage.dumped == 2
    assert await messages() == KEYS + 1 + 2 + 1
    after = await saved(log)
    assert after.sequence > before.sequence
    assert {key for key in after.states if after.states[key] != before.states[key]} == {"key-1", "key-2"}


async def test_a_stop_with_little_to_save_saves_nothing(log: Connection) -> None:
    await feed_in(log, plain(20))
    async with Workers(log, InParts(), time.time_ns, settings=DEFAULT_SETTINGS):
        await counted(log, 20)
    assert await store_of(log).load() is None


async def test_a_part_that_cannot_be_saved_stops_nothing(log: Connection) -> None:
    class Unsaveable(InParts):
        def dump_part(self, state: Counts, part: str) -> bytes:
            if part == "key-3":
                raise OverflowError("int too large")
            return super().dump_part(state, part)

    inputs = plain(100)
    await feed_in(log, inputs[:50])
    with capture_logs() as logs:
        async with Workers(log, Unsaveable(), time.time_ns, settings=OFTEN):
            await counted(log, 50)
            await feed_in(log, inputs[50:])
            each_once_in_order(await counted(log, 100), inputs)
    assert {each["error"] for each in logs if each["event"] == "snapshot.not_saved"} == {"OverflowError: int too large"}
    assert await store_of(log).load() is None, "a round without that part is never declared complete"


async def lose_a_part(log: Connection) -> None:
    await log.api("STREAM.PURGE.SNAPSHOTS", {"filter": "snapshots.counting.00-63.part.key-3"})


async def damage_a_part(log: Connection) -> None:
    await append(log, [Record("snapshots.counting.00-63.part.key-3", b"\x00 damaged")])


async def replace_a_part_by_an_older_one(log: Connection) -> None:
    await store_of(log).save_part("key-3", 1, msgspec.msgpack.encode((1, 1, {}, 0)))


async def damage_the_head(log: Connection) -> None:
    await append(log, [Record("snapshots.counting.00-63.parts", b"{")])


async def write_nonsense(log: Connection) -> None:
    await store_of(log).save_part("key-3", 10_000, b"nonsense")


async def claim_a_later_sequence(log: Connection) -> None:
    await store_of(log).save_head(1_000_000, {})


async def claim_another_schema(log: Connection) -> None:
    found = await last(log, "SNAPSHOTS", "snapshots.counting.00-63.parts")
    assert found is not None
    head = msgspec.structs.replace(msgspec.json.decode(found.payload, type=PartsHead), schema=2)
    await append(log, [Record("snapshots.counting.00-63.parts", msgspec.json.encode(head))])


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lose_a_part, "part key-3 does not match its head"),
        (damage_a_part, "part key-3 does not match its head"),
        (replace_a_part_by_an_older_one, "part key-3 does not match its head"),
        (damage_the_head, "Input data was truncated"),
        (write_nonsense, "Error: "),
        (claim_a_later_sequence, "it is of another log"),
        (claim_another_schema, "its schema is 2, not 1"),
    ],
)
async def test_a_damaged_snapshot_is_ignored(
    log: Connection, damage: Callable[[Connection], Awaitable[None]], why: str
) -> None:
    inputs = plain(60)
    await feed_in(log, inputs[:50])
    async with Workers(log, InParts(), time.time_ns, settings=ONLY_AT_STOP):
        await counted(log, 50)
    await damage(log)
    with capture_logs() as logs:
        await feed_in(log, inputs[50:])
        async with Workers(log, InParts(), time.time_ns, settings=ONLY_AT_STOP):
            each_once_in_order(await counted(log, 60), inputs)
    assert loaded(logs) == [(0, 50)]
    (reason,) = [each["why"] for each in logs if each["event"] == "snapshot.ignored"]
    assert why in reason
    # A new one takes its place.
    with capture_logs() as logs:
        stage = InParts()
        async with Workers(log, stage, time.time_ns):
            assert facts(stage.state) == facts(replayed(InParts(), await counted(log, 60)))
    assert loaded(logs)[0][0] > 0


async def test_a_snapshot_of_a_log_that_was_made_again_is_ignored(log: Connection) -> None:
    await feed_in(log, plain(50))
    async with Workers(log, InParts(), time.time_ns, settings=ONLY_AT_STOP):
        await counted(log, 50)
    for stream in ("GROUPS", "SIGNALS"):
        await log.api(f"STREAM.DELETE.{stream}")
    await topology.apply(log)
    inputs = plain(200, first=1_000)
    await feed_in(log, inputs)
    with capture_logs() as logs:
        stage = InParts()
        async with Workers(log, stage, time.time_ns, settings=ONLY_AT_STOP):
            each_once_in_order(await counted(log, 200), inputs)
            assert facts(stage.state) == facts(replayed(InParts(), await counted(log, 200)))
    assert loaded(logs) == [(0, 0)]


async def test_a_worker_that_was_replaced_declares_nothing(log: Connection) -> None:
    """What the other one committed is not in its state, though its sequence may be later."""
    await feed_in(log, plain(20))
    with capture_logs() as logs:
        async with Workers(log, InParts(), time.time_ns, settings=ONLY_AT_STOP):
            await counted(log, 20)
            await commit_as_another_instance(log)
    assert "lane.fenced" in [each["event"] for each in logs]
    assert await store_of(log).load() is None
    stage = InParts()
    async with Workers(log, stage, time.time_ns, settings=ONLY_AT_STOP):
        await feed_in(log, [Given("key-2", 22)])
        await counted(log, 22)
    events = await counted(log, 22)
    again = InParts()
    async with Workers(log, again, time.time_ns):
        assert facts(again.state) == facts(replayed(InParts(), events))


class Halting(InParts):
    """Folds so many events when it loads, then asks for the end."""

    def __init__(self, stop: asyncio.Event, after: int) -> None:
        self._end = stop
        self._left = after

    def evolve(self, state: Counts, event: Any, sequence: int) -> None:
        super().evolve(state, event, sequence)
        self._left -= 1
        if not self._left:
            self._end.set()


async def test_a_lane_stops_while_it_loads(log: Connection) -> None:
    await feed_in(log, plain(5_000))
    async with Workers(log, Counting(), time.time_ns):
        await counted(log, 5_000)
    stop = asyncio.Event()
    stage = Halting(stop, 1_500)
    worker = LaneWorker(log, CODEC, stage, WHOLE, time.time_ns)
    async with asyncio.timeout(10):
        await worker.run(stop)
    assert not worker.loaded.is_set()
    assert sum(stage.state.counts.values()) < 5_000
