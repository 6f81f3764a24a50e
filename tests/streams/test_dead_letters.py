"""Dead letters are retried: each retry has exactly one effect, whichever instance owns the lane, whatever is killed."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateways.embedded import Addresses
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection, connect
from streams.dead_letters import DeadLetter, dead_letter, dead_letters, drop, retry, retry_subject
from streams.envelope import Recorded
from streams.errors import RefusedError, UnprocessableError
from streams.processing.lane_leases import LeaseTable
from streams.processing.processor import LaneWorker
from streams.processing.stage import Output
from streams.processing.stage_runner import StageRunner
from streams.reader import read_all
from streams.subjects import Lane, lanes, partition
from tests.streams.counting import (
    BURST,
    CODEC,
    Counting,
    Counts,
    Given,
    Killed,
    Workers,
    checkpoints,
    each_once_in_order,
    feed_in,
    plain,
    record,
    written,
)
from tests.streams.deadlines import settled
from tests.streams.stage_instances import KEYS, lease_table, stored
from tests.streams.subprocesses import heard, process

INSTANCE = "tests.streams.instance"
STAGES = frozenset({"counting"})


class Refusing(Counting):
    """Refuses the chosen inputs until `fixed`; remembers what it ran, and may stop after so many stored outputs."""

    def __init__(self, refused: Sequence[int], *, fixed: bool = False, stop_after: int = 0) -> None:
        self._refused = set(refused)
        self._stop_after = stop_after
        self.fixed = fixed
        self.ran: list[int] = []

    def handle(self, state: Counts, event: Recorded, now: int) -> Iterator[Output]:
        if event.data.number in self._refused:
            if not self.fixed:
                raise UnprocessableError(f"number {event.data.number} is refused")
            self.ran.append(event.data.number)
        yield from super().handle(state, event, now)

    def stored(self, state: Counts, output: Output, sequence: int) -> None:
        super().stored(state, output, sequence)
        if self._stop_after:
            self._stop_after -= 1
            if not self._stop_after:
                raise Killed


async def counted(connection: Connection, outputs: int) -> list[Recorded]:
    await settled(lambda: stored(connection), lambda found: found >= outputs, every=0.05)
    return await written(connection)


async def dead_lettered(connection: Connection, count: int, state: str = "open") -> list[DeadLetter]:
    """The dead letters in a state, once there are so many."""

    async def in_state() -> list[DeadLetter]:
        return [dead for dead in await dead_letters(connection, CODEC) if dead.state == state]

    return await settled(in_state, lambda found: len(found) >= count)


async def retry_now(connection: Connection, dead: DeadLetter) -> int:
    return await retry(connection, CODEC, dead, STAGES, actor="tests", now=time.time_ns)


async def drop_now(connection: Connection, dead: DeadLetter) -> int:
    return await drop(connection, CODEC, dead, why="of no use", actor="tests", now=time.time_ns)


async def states(connection: Connection) -> dict[str, str]:
    return {dead.facts.dead_id: dead.state for dead in await dead_letters(connection, CODEC)}


async def refused(log: Connection, inputs: Sequence[Given], numbers: Sequence[int]) -> list[DeadLetter]:
    """The inputs were counted, but for those numbers, which are dead letters now."""
    await feed_in(log, inputs)
    good = [given for given in inputs if given.number not in numbers]
    async with Workers(log, Refusing(numbers), time.time_ns):
        each_once_in_order(await counted(log, len(good)), good)
        return await dead_lettered(log, len(numbers))


def with_last(inputs: Sequence[Given], numbers: Sequence[int]) -> list[Given]:
    """The inputs in the order of their effects: those of the numbers came last."""
    late = {given.number: given for given in inputs if given.number in numbers}
    return [*(given for given in inputs if given.number not in numbers), *(late[number] for number in numbers)]


async def test_a_retried_dead_letter_is_run_once_and_closed(log: Connection) -> None:
    inputs = plain(9, keys=2)
    stage = Refusing([4])
    await feed_in(log, inputs)
    async with Workers(log, stage, time.time_ns):
        (dead,) = await dead_lettered(log, 1)
        assert (dead.facts.dead_id, dead.facts.payload) == (
            "counting:SIGNALS:4.0",
            record(inputs[3]).payload.decode(),
        )
        stage.fixed = True
        request = await retry_now(log, dead)
        events = await counted(log, 9)
        each_once_in_order(events, with_last(inputs, [4]))
        (effect,) = [event for event in events if event.data.number == 4]
        assert effect.causation == "SIGNALS:4.0"
        assert await states(log) == {"counting:SIGNALS:4.0": "retried"}
        with pytest.raises(RefusedError, match=f"dead letter {dead.sequence} is retried already"):
            await retry_now(log, (await dead_letters(log, CODEC))[0])
        with pytest.raises(RefusedError):
            await retry_now(log, dead)  # a list that was read before
        with pytest.raises(RefusedError):
            await drop_now(log, dead)
        assert (await checkpoints(log, 1))["00-63"].retried == request
    async with Workers(log, stage, time.time_ns):
        await feed_in(log, [Given("key-0", 10)])
        each_once_in_order(await counted(log, 10), [*with_last(inputs, [4]), Given("key-0", 10)])
    assert stage.ran == [4]


@pytest.mark.parametrize("ways", [(retry_now, retry_now), (retry_now, drop_now), (drop_now, drop_now)])
async def test_two_operators_close_one_dead_letter_at_once(
    log: Connection, running: Addresses, ways: tuple[object, object]
) -> None:
    found = await refused(log, plain(10, keys=1), range(1, 11))
    other = await connect(running.nats_url, "the other one")
    try:
        for dead in found:
            answers = await asyncio.gather(
                *(way(connection, dead) for way, connection in zip(ways, (log, other), strict=True)),  # type: ignore[operator]
                return_exceptions=True,
            )
            assert [type(answer) for answer in answers if not isinstance(answer, int)] == [RefusedError]
    finally:
        await other.close()
    stored = [each async for batch in read_all(log, "DEAD") for each in batch]
    assert len(stored) == 2 * len(found), "one event closes one dead letter"


async def test_two_operators_retry_two_dead_letters_of_one_partition_at_once(
    log: Connection, running: Addresses
) -> None:
    found = await refused(log, plain(20, keys=1), range(1, 21))
    other = await connect(running.nats_url, "the other one")
    try:
        half = len(found) // 2
        for mine, theirs in zip(found[:half], found[half:], strict=True):
            await asyncio.gather(retry_now(log, mine), retry_now(other, theirs))
    finally:
        await other.close()
    assert set((await states(log)).values()) == {"retried"}


@pytest.mark.parametrize("die", ["handle", "stored"])
async def test_killed_before_and_after_the_commit_of_a_retry(
    log: Connection, running: Addresses, tmp_path: Path, die: str
) -> None:
    inputs = [*plain(6, keys=2), Given("key-1", 7, "unprocessable"), *plain(3, keys=2, first=8)]
    fixed = tmp_path / "fixed"
    await feed_in(log, inputs)
    arguments = (running.nats_url, "2", "dying", f"fixed={fixed}", f"die={die}")
    async with process(INSTANCE, *arguments, log=tmp_path / "log") as dying, asyncio.timeout(30):
        await heard(dying, "loaded")
        (dead,) = await dead_lettered(log, 1)
        await counted(log, 9)
        fixed.touch()
        await retry_now(log, dead)
        assert await dying.wait() == 9, (tmp_path / "log").read_text()[-2_000:]
    assert await stored(log) == (9 if die == "handle" else 10)
    async with process(INSTANCE, *arguments[:4], log=tmp_path / "log") as second:
        await heard(second, "loaded")
        more = plain(4, keys=2, first=11)
        await feed_in(log, more)
        events = await counted(log, 14)
    expected = [*inputs[:6], *inputs[7:], Given("key-1", 7), *more]
    assert sorted(event.data.number for event in events) == sorted(given.number for given in expected)
    each_once_in_order(
        [event for event in events if event.data.key == "key-0"], [g for g in expected if g.key == "key-0"]
    )
    assert [event.id for event in events if event.data.number == 7] == ["counted.7.fixed"]
    assert await states(log) == {"counting:SIGNALS:7.0": "retried"}


async def test_a_retry_that_fails_again_is_a_new_dead_letter(log: Connection) -> None:
    (dead,) = await refused(log, plain(3), [2])
    stage = Refusing([2])
    async with Workers(log, stage, time.time_ns):
        first = await retry_now(log, dead)
        (again,) = await dead_lettered(log, 1)
        assert again.facts.dead_id == f"counting:SIGNALS:2.0~{first}"
        assert again.facts.payload == dead.facts.payload
        second = await retry_now(log, again)
        (third,) = await settled(
            lambda: dead_lettered(log, 1),
            lambda found: [each.facts.dead_id for each in found] == [f"counting:SIGNALS:2.0~{second}"],
        )
        stage.fixed = True
        await retry_now(log, third)
        each_once_in_order(await counted(log, 3), with_last(plain(3), [2]))
    assert set((await states(log)).values()) == {"retried"}
    assert len(await states(log)) == 3


async def test_a_dropped_dead_letter_stays_dropped(log: Connection) -> None:
    inputs = plain(4)
    found = await refused(log, inputs, [1, 2])
    await drop_now(log, found[0])
    assert await states(log) == {"counting:SIGNALS:1.0": "dropped", "counting:SIGNALS:2.0": "open"}
    for closing in (retry_now, drop_now):
        with pytest.raises(RefusedError, match="is dropped already"):
            await closing(log, (await dead_letters(log, CODEC))[0])
    async with Workers(log, Refusing([]), time.time_ns):
        await feed_in(log, [Given("key-0", 5)])
        each_once_in_order(await counted(log, 3), [*inputs[2:], Given("key-0", 5)])
    assert [dead.facts.stage for dead in await dead_letters(log, CODEC, "counting")] == ["counting"] * 2
    assert await dead_letters(log, CODEC, "another") == []


async def test_a_dead_letter_of_a_stage_without_input_is_refused_with_advice(log: Connection) -> None:
    await dead_letter(
        log, stage="ingest", stream="RAW", sequence=0, subject="raw.1.x", payload=b"{", error="not JSON", now=1
    )
    (dead,) = await dead_letters(log, CODEC)
    with pytest.raises(RefusedError, match="fix the cause, then drop the dead letter"):
        await retry_now(log, dead)
    await drop_now(log, dead)
    assert await states(log) == {"ingest:RAW:0": "dropped"}


async def test_a_retry_goes_to_the_instance_that_owns_the_lane(log: Connection, running: Addresses) -> None:
    inputs = plain(KEYS, keys=KEYS)
    found = await refused(log, inputs, range(1, KEYS + 1))
    stages = {name: Refusing(range(1, KEYS + 1), fixed=True) for name in "ab"}
    stop, connections, tasks = asyncio.Event(), [], []
    for name, stage in stages.items():
        connections.append(await connect(running.nats_url, name))
        runner = StageRunner(connections[-1], CODEC, stage, lanes(4), time.time_ns, instance=name)
        tasks.append(asyncio.create_task(runner.run(stop)))
    try:
        shared = await settled(lambda: lease_table(log), evenly_shared)
        for dead in found:
            await retry_now(log, dead)
        each_once_in_order(await counted(log, KEYS), inputs)
        for name, stage in stages.items():
            mine = [Lane(*map(int, lane.split("-"))) for lane, owner in shared.lanes.items() if owner == name]
            expected = [g.number for g in inputs if any(lane.first <= partition(g.key) <= lane.last for lane in mine)]
            assert sorted(stage.ran) == expected
            assert expected
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        for connection in connections:
            await connection.close()
    assert len(await dead_letters(log, CODEC)) == KEYS, "no retry became a dead letter"


def evenly_shared(found: LeaseTable) -> bool:
    owners = list(found.lanes.values())
    return {name: owners.count(name) for name in found.members} == {"a": 2, "b": 2}


async def test_retries_and_input_in_one_batch(log: Connection) -> None:
    inputs = plain(50, keys=3)
    found = await refused(log, inputs, range(1, 50, 2))
    for dead in found:
        await retry_now(log, dead)
    more = [Given(f"other-{number % 3}", number) for number in range(51, 101)]
    await feed_in(log, more)
    async with Workers(log, Refusing(range(1, 50, 2), fixed=True), time.time_ns):
        each_once_in_order(await counted(log, 100), [*with_last(inputs, range(1, 50, 2)), *more])


async def test_stopped_between_the_batches_of_many_retries(log: Connection) -> None:
    """Their outputs fill several commits: what the first one holds is not run again."""
    numbers = range(1, 401)
    inputs = [Given(f"key-{number % 4}", number) for number in numbers]
    found = await refused(log, inputs, numbers)
    for dead in found:
        await retry_now(log, dead)

    class Thrice(Refusing):
        """Three outputs per input."""

        def handle(self, state: Counts, event: Recorded, now: int) -> Iterator[Output]:
            for each in super().handle(state, event, now):
                yield from (each._replace(id=f"{each.id}.{part}", event=each.event) for part in range(3))

    with pytest.raises(Killed):
        await LaneWorker(log, CODEC, Thrice(numbers, fixed=True, stop_after=999), lanes(1)[0], time.time_ns).run(
            asyncio.Event()
        )
    assert await stored(log) == 999
    async with Workers(log, Thrice(numbers, fixed=True), time.time_ns):
        events = await counted(log, 1_200)
    assert [event.id for event in events] == [f"counted.{number}.{part}" for number in numbers for part in range(3)]
    counts = [event.data.count for event in events if event.data.key == "key-1"]
    assert counts == [count for count in range(1, 101) for _ in range(3)]


async def test_stopped_between_the_parts_of_one_retry(log: Connection) -> None:
    inputs = [Given("a", 1), Given("a", 2, "burst"), Given("a", 3)]
    (dead,) = await refused(log, inputs, [2])
    await retry_now(log, dead)
    for after in (999, 999):
        with pytest.raises(Killed):
            await LaneWorker(log, CODEC, Refusing([2], fixed=True, stop_after=after), lanes(1)[0], time.time_ns).run(
                asyncio.Event()
            )
    reached = (await checkpoints(log, 1))["00-63"]
    assert (reached.retried, reached.retry_done) == (0, 1_998)
    async with Workers(log, Refusing([2], fixed=True), time.time_ns):
        each_once_in_order(await counted(log, BURST + 2), with_last(inputs, [2]))
        await settled(lambda: checkpoints(log, 1), lambda found: found["00-63"].retried > 0)
    assert (await checkpoints(log, 1))["00-63"].retry_of == 0


async def test_a_retry_waits_until_a_half_stored_event_is_whole(log: Connection) -> None:
    """In between it would find, and leave behind, a state that the rest of the parts does not expect."""
    inputs = [Given("a", 1), Given("a", 2), Given("a", 3, "burst")]
    (dead,) = await refused(log, inputs[:2], [1])
    await feed_in(log, inputs[2:])
    with pytest.raises(Killed):
        await LaneWorker(log, CODEC, Refusing([], stop_after=999), lanes(1)[0], time.time_ns).run(asyncio.Event())
    await retry_now(log, dead)
    async with Workers(log, Refusing([1], fixed=True), time.time_ns):
        each_once_in_order(await counted(log, BURST + 2), with_last(inputs, [1]))


async def test_retries_that_were_run_are_not_run_again_by_other_lanes(log: Connection) -> None:
    inputs = plain(KEYS, keys=KEYS)
    found = await refused(log, inputs, range(1, KEYS + 1))
    stage = Refusing(range(1, KEYS + 1), fixed=True)
    for count, lane_count in enumerate((4, 2, 8), 1):
        for dead in found[(count - 1) * 12 : count * 12]:
            await retry_now(log, dead)
        async with Workers(log, stage, time.time_ns, lane_count=lane_count):
            await counted(log, count * 12)
            await feed_in(log, plain(1, first=count * 1_000))
            await counted(log, count * 13)
    assert len(stage.ran) == len(set(stage.ran)) == 36


@pytest.mark.parametrize("junk", [b"not json", b'{"specversion":"1.0","type":"test.given"}', b"\xff" * 50])
async def test_unreadable_retries_do_not_stop_the_lane(log: Connection, junk: bytes) -> None:
    inputs = plain(3)
    (dead,) = await refused(log, inputs, [2])
    await append(log, [Record(retry_subject("counting", dead.facts.subject), junk)])
    unasked = CODEC.encode(Given("key-2", 2), id="given.2", source="tests", time_ns=0)
    await append(log, [Record(retry_subject("counting", dead.facts.subject), unasked)])
    await retry_now(log, dead)
    async with Workers(log, Refusing([2], fixed=True), time.time_ns):
        each_once_in_order(await counted(log, 3), with_last(inputs, [2]))
    assert await states(log) == {"counting:SIGNALS:2.0": "retried"}


async def test_one_event_of_a_commit_is_dead_lettered_and_retried_alone(log: Connection) -> None:
    inputs = [Given("a", 1), Given("a", 2, "refuse"), Given("a", 3)]
    commit = CODEC.encode_commit(
        [(f"given.{given.number}", given) for given in inputs], source="tests", time_ns=time.time_ns()
    )
    await append(log, [Record(subjects.signals("a", "test", "a"), commit)])
    async with Workers(log, Counting(), time.time_ns):
        events = await settled(lambda: written(log), lambda found: len(found) >= 2)
        assert [(event.id, event.causation) for event in events] == [
            ("counted.1", "SIGNALS:1.0"),
            ("counted.3", "SIGNALS:1.2"),
        ]
        (dead,) = await dead_letters(log, CODEC)
        assert (dead.facts.dead_id, dead.facts.index) == ("counting:SIGNALS:1.1", 1)
        again = await retry(log, CODEC, dead, frozenset({"counting"}), actor="ops", now=time.time_ns)
        found = await settled(lambda: dead_letters(log, CODEC), lambda found: len(found) == 2)
    assert found[1].facts.dead_id == f"counting:SIGNALS:1.1~{again}"
    assert len(await written(log)) == 2
