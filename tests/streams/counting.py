"""A small stage for the processor's tests: SIGNALS in, GROUPS out, and everything a stage may do.

Each input is counted per key. By its kind an input leads to one output (`plain`), none (`silent`), 2,500 (`burst`),
an intent whose effect fetches an outcome (`intent`), or to an error (`refuse`, `bug`).
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import Struct

from streams import subjects
from streams.append import MAX_BATCH, Record, append
from streams.connection import Connection
from streams.dead_letters import (
    DEAD_TYPE,
    DROPPED_TYPE,
    RETRIED_TYPE,
    DeadLetterDropped,
    DeadLettered,
    DeadLetterRetried,
)
from streams.dead_letters import decode as decode
from streams.envelope import Codec, Recorded
from streams.errors import UnprocessableError
from streams.processing import checkpoint
from streams.processing.checkpoint import CHECKPOINT_TYPE, Checkpoint
from streams.processing.processor import DEFAULT_SETTINGS, LaneSettings, LaneWorker
from streams.processing.stage import Output, Stage
from streams.reader import read_all
from streams.subjects import Lane, lanes, partition
from streams.topology import GROUPS, SIGNALS

BURST = 2_500

RECORDED_NS = 1_700_000_000_000_000_000
"""When every input was recorded."""


class Killed(BaseException):
    """Ends a worker at once, as `kill -9` would: no guard of the processor catches it."""


class Given(Struct, frozen=True):
    """The input. `number` is unique, and rises within a key."""

    key: str
    number: int
    kind: str = "plain"


class Counted(Struct, frozen=True):
    """The effect of one input: it was the `count`-th of its key. `part` numbers the outputs of a burst."""

    key: str
    number: int
    count: int
    part: int = 0


class Wanted(Struct, frozen=True):
    key: str
    number: int


class Fetched(Struct, frozen=True):
    key: str
    number: int
    attempt: int


class Ticked(Struct, frozen=True):
    key: str
    number: int


CATALOGUE: dict[str, type[Struct]] = {
    "test.given": Given,
    "test.counted": Counted,
    "test.wanted": Wanted,
    "test.fetched": Fetched,
    "test.ticked": Ticked,
    CHECKPOINT_TYPE: Checkpoint,
    DEAD_TYPE: DeadLettered,
    RETRIED_TYPE: DeadLetterRetried,
    DROPPED_TYPE: DeadLetterDropped,
}
CODEC = Codec(CATALOGUE)


class Counts:
    """The state: counts and the newest input per key, open intents by id, ticks made, when the next one is due."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.newest: defaultdict[str, int] = defaultdict(int)
        self.wanted: dict[str, tuple[Wanted, int]] = {}
        self.ticks: defaultdict[str, int] = defaultdict(int)


class Counting(Stage[Counts]):
    name = "counting"
    description = "counts its inputs"
    reads = SIGNALS
    writes = GROUPS
    input_patterns = ("signals.{}.>",)
    state_patterns = ("groups.{}.>",)
    input_types = frozenset({"test.given"})

    def initial(self, lane: Lane) -> Counts:
        return Counts()

    def handle(self, state: Counts, event: Recorded, now: int) -> Iterator[Output]:
        given: Given = event.data
        count = state.counts[given.key] + (given.number != state.newest[given.key])
        match given.kind:
            case "plain":
                yield output(Counted(given.key, given.number, count), f"counted.{given.number}")
            case "burst":
                for part in range(BURST):
                    yield output(Counted(given.key, given.number, count, part), f"counted.{given.number}.{part}")
            case "together":
                for part in range(3):
                    counted = Counted(given.key, given.number, count, part)
                    yield output(counted, f"counted.{given.number}.{part}", begins=False)
            case "intent":
                yield output(Wanted(given.key, given.number), f"wanted.{given.number}")
            case "refuse":
                raise UnprocessableError(f"number {given.number} is refused")
            case "bug":
                raise RuntimeError(f"number {given.number} meets a bug")

    def evolve(self, state: Counts, event: Any, sequence: int) -> None:
        match event:
            case Counted():
                state.counts[event.key] = event.count
                state.newest[event.key] = event.number
            case Wanted():
                state.wanted[f"intent.{event.number}"] = (event, sequence)
            case Fetched():
                state.wanted.pop(f"intent.{event.number}", None)
            case Ticked():
                state.ticks[event.key] = event.number

    def stored(self, state: Counts, output: Output, sequence: int) -> None:
        if isinstance(output.event, Wanted):
            state.wanted[f"intent.{output.event.number}"] = (output.event, sequence)


class Fetching(Counting):
    """With an effect for every intent that is stored."""

    def __init__(self, fetch: Callable[[Wanted], Awaitable[int]]) -> None:
        self._fetch = fetch

    def intents(self, state: Counts) -> Mapping[str, Callable[[], Awaitable[list[Output]]]]:
        return {
            key: partial(self._effect, wanted, sequence) for key, (wanted, sequence) in state.wanted.items() if sequence
        }

    async def _effect(self, wanted: Wanted, sequence: int) -> list[Output]:
        attempt = await self._fetch(wanted)
        fetched = Fetched(wanted.key, wanted.number, attempt)
        return [output(fetched, f"fetched.{wanted.number}", f"GROUPS:{sequence}")]


class Ticking(Counting):
    """With a tick for every key whose inputs have been counted, at once, up to `ticks` of them."""

    def __init__(self, ticks: int) -> None:
        self._ticks = ticks

    def due(self, state: Counts) -> int | None:
        return 1 if any(state.ticks[key] < self._ticks for key in state.counts) else None

    def tick(self, state: Counts, now: int) -> Iterator[Output]:
        for key in list(state.counts):
            if state.ticks[key] < self._ticks:
                number = state.ticks[key] + 1
                yield output(Ticked(key, number), f"ticked.{key}.{number}", "SIGNALS:1.0")


def output(event: Struct, event_id: str, cause: str | None = None, *, begins: bool = True) -> Output:
    key: str = event.key  # type: ignore[attr-defined]
    return Output(subjects.groups(key, "test", key), event, event_id, key, cause, begins)


def record(given: Given) -> Record:
    """The stored form of an input."""
    payload = CODEC.encode(given, id=f"given.{given.number}", source="tests", time_ns=RECORDED_NS)
    return Record(subjects.signals(given.key, "test", given.key), payload)


async def feed_in(connection: Connection, inputs: Sequence[Given]) -> int:
    """Append inputs in order; the sequence of the last."""
    end = 0
    for start in range(0, len(inputs), MAX_BATCH):
        end = (await append(connection, [record(given) for given in inputs[start : start + MAX_BATCH]])).last
    return end


def plain(count: int, *, keys: int = 5, first: int = 1) -> list[Given]:
    """So many plain inputs, numbered from `first`, spread over keys."""
    return [Given(f"key-{number % keys}", number) for number in range(first, first + count)]


async def written(connection: Connection) -> list[Recorded]:
    """Every output in GROUPS, in order, checkpoints aside."""
    return [
        event
        async for batch in read_all(connection, "GROUPS", ["groups.*.test.>"])
        for stored in batch
        for event in CODEC.decode("GROUPS", stored.sequence, stored.subject, stored.payload)
    ]


async def dead_lettered(connection: Connection) -> list[DeadLettered]:
    """Everything in DEAD, in order."""
    return [decode(stored.payload) async for batch in read_all(connection, "DEAD") for stored in batch]


async def checkpoints(connection: Connection, lane_count: int, stage: str = "counting") -> dict[str, Checkpoint]:
    """The newest checkpoint of each lane that has one, by lane."""
    found = {}
    for lane in lanes(lane_count):
        _, reached = await checkpoint.load(connection, "GROUPS", subjects.checkpoint("GROUPS", stage, lane))
        if reached is not None:
            found[lane.name] = reached
    return found


async def positions_are_right(connection: Connection, inputs: Sequence[Given], first: int, lane_count: int) -> None:
    """Every lane's checkpoint is at its last input; the first input of the list has sequence `first`."""
    expected: dict[str, int] = {}
    for sequence, given in enumerate(inputs, first):
        for lane in lanes(lane_count):
            if lane.first <= partition(given.key) <= lane.last:
                expected[lane.name] = sequence
    found = await checkpoints(connection, lane_count)
    assert {name: reached.position for name, reached in found.items()} == expected


def each_once_in_order(events: Sequence[Recorded], inputs: Sequence[Given]) -> None:
    """Every plain or burst input was counted exactly once, per key in the order of the inputs, with the right count."""
    expected: defaultdict[str, list[Counted]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for given in inputs:
        if given.kind in ("plain", "burst"):
            counts[given.key] += 1
            for part in range(BURST if given.kind == "burst" else 1):
                expected[given.key].append(Counted(given.key, given.number, counts[given.key], part))
    found: defaultdict[str, list[Counted]] = defaultdict(list)
    for event in events:
        if isinstance(event.data, Counted):
            found[event.data.key].append(event.data)
    assert found == expected
    ids = [event.id for event in events]
    assert len(ids) == len(set(ids)), "an event is stored twice"


class Workers:
    """One worker per lane, as tasks; `stop` ends them in order."""

    def __init__(
        self,
        connection: Connection,
        stage: Stage[Any],
        clock: Callable[[], int],
        *,
        lane_count: int = 1,
        settings: LaneSettings = DEFAULT_SETTINGS,
    ) -> None:
        self._stop = asyncio.Event()
        self.workers = [
            LaneWorker(connection, CODEC, stage, lane, clock, settings=settings) for lane in lanes(lane_count)
        ]
        self._tasks = [asyncio.create_task(worker.run(self._stop)) for worker in self.workers]

    async def __aenter__(self) -> "Workers":
        async with asyncio.timeout(30):
            for worker, task in zip(self.workers, self._tasks, strict=True):
                while not worker.loaded.is_set():
                    if task.done():
                        task.result()
                    await asyncio.sleep(0.005)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        done, late = await asyncio.wait(self._tasks, timeout=20)
        for task in late:
            task.cancel()
        assert not late, "a worker did not stop"
        for task in done:
            task.result()
