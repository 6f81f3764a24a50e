"""The loop of every stage: each input has exactly one effect, in order, whatever fails."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from gateways.embedded import Addresses
from streams import dead_letters, metrics, subjects
from streams.append import Record, append
from streams.connection import Connection, connect
from streams.envelope import Recorded
from streams.errors import RefusedError
from streams.processing.processor import LaneWorker
from streams.processing.stage import Output
from streams.subjects import Lane, lanes
from tests.streams.counting import (
    BURST,
    CODEC,
    RECORDED_NS,
    Counted,
    Counting,
    Counts,
    Fetched,
    Fetching,
    Given,
    Killed,
    Ticked,
    Ticking,
    Wanted,
    Workers,
    checkpoints,
    dead_lettered,
    each_once_in_order,
    feed_in,
    output,
    plain,
    positions_are_right,
    record,
    written,
)
from tests.streams.deadlines import eventually, settled
from tests.streams.proxy import proxied


async def drained(connection: Connection, outputs: int, within: float = 30.0) -> list[Recorded]:
    """All outputs, once there are so many."""
    return await settled(lambda: written(connection), lambda events: len(events) >= outputs, within, every=0.05)


def fences() -> float:
    return float(metrics.FENCED.labels("counting")._value.get())


async def test_every_input_has_one_effect_in_order_and_the_checkpoint_is_at_the_last(log: Connection) -> None:
    inputs = plain(600, keys=7)
    await feed_in(log, inputs[:300])
    async with Workers(log, Counting(), time.time_ns, lane_count=4):
        await feed_in(log, inputs[300:])
        events = await drained(log, 600)
        await positions_are_right(log, inputs, 1, 4)

        async def lag() -> int:
            names = [f"counting-{lane.name}" for lane in lanes(4)]
            states = [await log.api(f"CONSUMER.INFO.SIGNALS.{name}") for name in names]
            return sum(state["num_pending"] + state["num_ack_pending"] for state in states)

        await settled(lag, lambda left: left == 0)
    each_once_in_order(events, inputs)
    causes = {event.id: event.causation for event in events}
    assert causes == {f"counted.{given.number}": f"SIGNALS:{place}.0" for place, given in enumerate(inputs, 1)}
    assert {event.source for event in events} == {"vibe/counting"}
    assert await dead_lettered(log) == []


async def test_a_restart_goes_on_from_the_checkpoint_with_its_state(log: Connection) -> None:
    inputs = plain(90)
    for first in (0, 30, 60):
        await feed_in(log, inputs[first : first + 30])
        async with Workers(log, Counting(), time.time_ns, lane_count=2):
            events = await drained(log, first + 30)
    each_once_in_order(events, inputs)
    await positions_are_right(log, inputs, 1, 2)


async def test_what_one_event_leads_to_on_one_subject_is_one_commit(log: Connection) -> None:
    await feed_in(log, [Given("a", 1, "together"), Given("a", 2, "together")])
    async with Workers(log, Counting(), time.time_ns):
        events = await drained(log, 6)
    assert [(event.id, event.index, event.causation) for event in events] == [
        (f"counted.{number}.{part}", part, f"SIGNALS:{number}.0") for number in (1, 2) for part in range(3)
    ]
    assert len({event.sequence for event in events}) == 2


async def test_the_seconds_of_a_stage_are_those_from_the_recording_of_its_oldest_input(log: Connection) -> None:
    def measured(what: str) -> float:
        return REGISTRY.get_sample_value(f"vibe_stage_seconds_{what}", {"stage": "counting"}) or 0.0

    count, total = measured("count"), measured("sum")
    await feed_in(log, plain(3))
    async with Workers(log, Counting(), lambda: RECORDED_NS + 100 * 10**9):
        await drained(log, 3)
    assert measured("count") > count
    assert measured("sum") - total == pytest.approx(100 * (measured("count") - count))


async def test_inputs_without_outputs_have_no_effect(log: Connection) -> None:
    inputs = [Given("a", 1, "silent"), Given("a", 2), Given("b", 3, "silent"), Given("a", 4)]
    await feed_in(log, inputs)
    async with Workers(log, Counting(), time.time_ns):
        each_once_in_order(await drained(log, 2), inputs)


class Gated(Counting):
    """Waits between read and commit until it is let go."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def ready(self, events: list[Recorded]) -> None:
        self.reached.set()
        await self.go.wait()


async def test_a_second_instance_with_an_old_checkpoint_is_fenced(log: Connection, running: Addresses) -> None:
    inputs = plain(40)
    paused = Gated()
    before = fences()
    other = await connect(running.nats_url, "the other")
    try:
        await feed_in(log, inputs[:20])
        async with Workers(log, paused, time.time_ns):
            await asyncio.wait_for(paused.reached.wait(), 10)
            async with Workers(other, Counting(), time.time_ns):
                await drained(other, 20)
            paused.go.set()
            await eventually(lambda: fences() > before, what="the refused commit")
            await feed_in(log, inputs[20:])
            events = await drained(log, 40)
    finally:
        await other.close()
    each_once_in_order(events, inputs)
    await positions_are_right(log, inputs, 1, 1)


async def test_two_workers_of_one_lane_at_once(log: Connection, running: Addresses) -> None:
    inputs = plain(1_500, keys=3)
    others = [await connect(running.nats_url, f"worker {number}") for number in range(2)]
    try:
        async with Workers(others[0], Counting(), time.time_ns), Workers(others[1], Counting(), time.time_ns):
            for start in range(0, len(inputs), 50):
                await feed_in(log, inputs[start : start + 50])
                await asyncio.sleep(0.02)
            events = await drained(log, len(inputs))
    finally:
        for other in others:
            await other.close()
    each_once_in_order(events, inputs)
    await positions_are_right(log, inputs, 1, 1)


async def test_what_cannot_be_handled_is_dead_lettered_once_with_origin_and_error(log: Connection) -> None:
    inputs = [Given("a", 1), Given("a", 2, "refuse"), Given("a", 3), Given("a", 4, "bug"), Given("a", 5)]
    await feed_in(log, inputs)
    subject = subjects.signals("a", "test", "a")
    event = b'{"type":"test.unheard","id":"i","data":{}}'
    unknown = b'{"specversion":"1.0","type":"vibe.commit","source":"s","id":"i","time":"t","data":[' + event + b"]}"
    await append(log, [Record(subject, unknown)])
    await append(log, [Record(subject, b"\xff\xfe not even text")])
    await feed_in(log, [Given("a", 6)])
    async with Workers(log, Counting(), time.time_ns):
        events = await drained(log, 4)
    each_once_in_order(events, [*inputs, Given("a", 6)])
    found = await dead_lettered(log)
    assert sorted(dead.sequence for dead in found) == [2, 4, 6, 7]
    by_sequence = {dead.sequence: dead for dead in found}
    assert all((dead.stage, dead.stream, dead.subject) == ("counting", "SIGNALS", subject) for dead in found)
    assert by_sequence[2].error == "number 2 is refused"
    assert by_sequence[4].error == "RuntimeError: number 4 meets a bug"
    assert "test.unheard" in by_sequence[6].error
    assert by_sequence[2].payload.encode() == record(inputs[1]).payload
    assert by_sequence[6].payload.encode() == unknown
    assert (by_sequence[2].encoding, by_sequence[7].encoding) == ("utf-8", "base64")
    assert (await checkpoints(log, 1))["00-63"].position == 8

    # A restart resumes behind them all; and if they were handled again, DEAD would keep one dead letter of each.
    async with Workers(log, Counting(), time.time_ns):
        await feed_in(log, [Given("a", 7)])
        await drained(log, 5)
    assert len(await dead_lettered(log)) == 4


async def test_an_output_on_an_impossible_subject_is_dead_lettered_without_a_disconnect(log: Connection) -> None:
    class Endless(Counting):
        def handle(self, state: Counts, event: Recorded, now: int) -> Iterator[Output]:
            for each in super().handle(state, event, now):
                name = "x" * 5_000 if each.event.number == 2 else "x"  # type: ignore[attr-defined]
                yield each._replace(subject=subjects.groups("a", "test", name))

    inputs = plain(3, keys=1)
    await feed_in(log, inputs)
    before = log.reconnects
    async with Workers(log, Endless(), time.time_ns):
        events = await drained(log, 2)
    assert [event.id for event in events] == ["counted.1", "counted.3"]
    assert [dead.sequence for dead in await dead_lettered(log)] == [2]
    assert log.reconnects == before


async def test_an_unprocessable_event_at_the_end_moves_the_checkpoint(log: Connection) -> None:
    await feed_in(log, [Given("a", 1, "refuse")])
    async with Workers(log, Counting(), time.time_ns):
        await settled(lambda: checkpoints(log, 1), lambda found: "00-63" in found)
    assert (await checkpoints(log, 1))["00-63"].position == 1
    async with Workers(log, Counting(), time.time_ns):
        await feed_in(log, [Given("a", 2)])
        each_once_in_order(await drained(log, 1), [Given("a", 2)])
    assert len(await dead_lettered(log)) == 1


@pytest.mark.parametrize("junk", [b"not json", b"\xff" * 64 + b'"', b'{"specversion":"1.0","type":"test.counted"}'])
async def test_unreadable_outputs_do_not_keep_a_lane_from_loading(log: Connection, junk: bytes) -> None:
    inputs = plain(4, keys=1)
    await feed_in(log, inputs[:2])
    async with Workers(log, Counting(), time.time_ns):
        await drained(log, 2)
    await append(log, [Record(subjects.groups("key-0", "other", "key-0"), junk)])
    async with Workers(log, Counting(), time.time_ns):
        await feed_in(log, inputs[2:])
        each_once_in_order(await drained(log, 4), inputs)


class Following(Counting):
    """Counts on from what another stage writes."""

    name = "following"
    follows = frozenset({"test.ticked"})


async def test_a_followed_stream_is_part_of_the_state_junk_aside(log: Connection) -> None:
    class CountingTicks(Following):
        ticks = 0

        def evolve(self, state: object, event: object, sequence: int) -> None:
            self.ticks += isinstance(event, Ticked)

        def handle(self, state: object, event: Recorded, now: int) -> list[Output]:  # type: ignore[override]
            return []

    stage = CountingTicks()
    subject = subjects.groups("a", "test", "a")
    ticked = CODEC.encode(Ticked("a", 1), id="t", source="other", time_ns=0)
    async with Workers(log, stage, time.time_ns):
        for payload in (ticked, b"\xff" * 40 + b'"', ticked[:-10], ticked):
            await append(log, [Record(subject, payload)])

        async def ticks() -> int:
            await feed_in(log, [Given("a", 1, "silent")])
            return stage.ticks

        assert await settled(ticks, lambda found: found >= 2) == 2


async def test_ticks_commit_with_the_position_unchanged(log: Connection) -> None:
    inputs = plain(10, keys=2)
    await feed_in(log, inputs)
    async with Workers(log, Ticking(3), time.time_ns):
        events = await drained(log, 10 + 2 * 3)
        assert (await checkpoints(log, 1))["00-63"].position == 10
    ticks = [(event.data.key, event.data.number) for event in events if isinstance(event.data, Ticked)]
    assert sorted(ticks) == [(key, number) for key in ("key-0", "key-1") for number in (1, 2, 3)]
    assert {event.causation for event in events if isinstance(event.data, Ticked)} == {"SIGNALS:1.0"}
    each_once_in_order(events, inputs)
    async with Workers(log, Ticking(3), time.time_ns):
        await feed_in(log, plain(1, first=11))
        assert len(await drained(log, 17)) == 17


class FailingTicks(Ticking):
    """Its tick fails so many times before it works."""

    def __init__(self, failures: int) -> None:
        super().__init__(1)
        self.failures = failures

    def tick(self, state: Counts, now: int) -> Iterator[Output]:
        if self.failures and state.counts:
            self.failures -= 1
            raise ZeroDivisionError("a bug for one of the keys")
        yield from super().tick(state, now)


async def test_a_tick_that_fails_is_dead_lettered_once_and_the_lane_goes_on(log: Connection) -> None:
    inputs = plain(4, keys=2)
    await feed_in(log, inputs)
    async with Workers(log, FailingTicks(2), time.time_ns):
        events = await drained(log, 4)
        each_once_in_order(events, inputs)
        ticked = await drained(log, 4 + 2)
    assert sorted(event.data.key for event in ticked if isinstance(event.data, Ticked)) == ["key-0", "key-1"]
    (dead,) = await dead_lettered(log)
    assert (dead.stage, dead.stream, dead.sequence, dead.subject) == ("counting", "SIGNALS", 0, "tick.00-63")
    assert "ZeroDivisionError: a bug for one of the keys" in dead.error
    (found,) = await dead_letters.dead_letters(log, CODEC)
    with pytest.raises(RefusedError, match="is of a tick, which the stage runs again by itself"):
        await dead_letters.retry(log, CODEC, found, frozenset({"counting"}), actor="ops", now=time.time_ns)


class FailingDue(Ticking):
    """It fails so many times to name its next tick before it works."""

    def __init__(self, failures: int) -> None:
        super().__init__(1)
        self.failures = failures

    def due(self, state: Counts) -> int | None:
        if self.failures and state.counts:
            self.failures -= 1
            raise ZeroDivisionError("a bug in the timer")
        return super().due(state)


async def test_a_stage_that_fails_to_name_its_next_tick_is_one_dead_letter_and_ticks_later(log: Connection) -> None:
    inputs = plain(4, keys=2)
    await feed_in(log, inputs)
    stage = FailingDue(2)
    async with Workers(log, stage, time.time_ns):
        each_once_in_order(await drained(log, 4), inputs)
        ticked = await drained(log, 4 + 2)
    assert sorted(event.data.key for event in ticked if isinstance(event.data, Ticked)) == ["key-0", "key-1"]
    assert stage.failures == 0
    (dead,) = await dead_lettered(log)
    assert "naming the next tick of lane 00-63 failed: ZeroDivisionError: a bug in the timer" in dead.error


class Unfoldable(Counting):
    """What it makes of input 3 cannot be folded, and half of it is folded before that shows."""

    def evolve(self, state: Counts, event: Any, sequence: int) -> None:
        super().evolve(state, event, sequence)
        if isinstance(event, Counted) and event.number == 3:
            raise ZeroDivisionError("a bug in the fold")


async def test_outputs_that_cannot_be_folded_are_one_dead_letter_and_the_lane_goes_on(log: Connection) -> None:
    inputs = plain(6, keys=1)
    await feed_in(log, inputs)
    async with Workers(log, Unfoldable(), time.time_ns):
        events = await drained(log, 5)
        await feed_in(log, plain(1, keys=1, first=7))
        events = await drained(log, 6)
    each_once_in_order(events, [given for given in plain(7, keys=1) if given.number != 3])
    (dead,) = await dead_lettered(log)
    assert (dead.stream, dead.sequence, dead.index) == ("SIGNALS", 3, 0)
    assert dead.error == "its outputs cannot be folded: ZeroDivisionError: a bug in the fold"
    await positions_are_right(log, plain(7, keys=1), 1, 1)


class UnfoldableTick(Ticking):
    """The output of its tick cannot be folded so many times."""

    failures = 1

    def evolve(self, state: Counts, event: Any, sequence: int) -> None:
        if isinstance(event, Ticked) and self.failures:
            self.failures -= 1
            raise ZeroDivisionError("a bug in the fold")
        super().evolve(state, event, sequence)


async def test_what_a_tick_leads_to_and_cannot_be_folded_is_a_dead_letter_and_is_not_stored(log: Connection) -> None:
    inputs = plain(4, keys=2)
    await feed_in(log, inputs)
    async with Workers(log, UnfoldableTick(1), time.time_ns):
        events = await drained(log, 4 + 2)
    assert sorted(event.data.key for event in events if isinstance(event.data, Ticked)) == ["key-0", "key-1"]
    each_once_in_order(events, inputs)
    (dead,) = await dead_lettered(log)
    assert "folding the outputs of a tick of lane 00-63 failed: ZeroDivisionError: a bug in the fold" in dead.error


class Forgetful(Fetching):
    """It fails to name its intents, and to note that its outputs are stored, so many times."""

    def __init__(self, fetch: Callable[[Wanted], Awaitable[int]]) -> None:
        super().__init__(fetch)
        self.failing_intents = self.failing_stored = 1

    def intents(self, state: Counts) -> Mapping[str, Callable[[], Awaitable[list[Output]]]]:
        if self.failing_intents and state.wanted:
            self.failing_intents -= 1
            raise ZeroDivisionError("a bug in the intents")
        return super().intents(state)

    def stored(self, state: Counts, output: Output, sequence: int) -> None:
        if self.failing_stored and isinstance(output.event, Counted):
            self.failing_stored -= 1
            raise ZeroDivisionError("a bug about what is stored")
        super().stored(state, output, sequence)


async def test_intents_and_stored_outputs_that_fail_are_dead_letters_and_the_lane_goes_on(log: Connection) -> None:
    async def fetch(wanted: Wanted) -> int:
        return 1

    await feed_in(log, [Given("a", 1), Given("a", 2, "intent"), Given("a", 3)])
    async with Workers(log, Forgetful(fetch), time.time_ns):
        events = await drained(log, 4)
        dead = await settled(lambda: dead_lettered(log), lambda found: len(found) == 2)
    assert sorted(type(event.data).__name__ for event in events) == ["Counted", "Counted", "Fetched", "Wanted"]
    errors = " ".join(sorted(each.error for each in dead))
    assert "listing the intents of lane 00-63 failed: ZeroDivisionError: a bug in the intents" in errors
    assert "noting what is stored of lane 00-63 failed" in errors


class UnfoldableLog(Counting):
    """It cannot fold what is stored of input 2."""

    def evolve(self, state: Counts, event: Any, sequence: int) -> None:
        if isinstance(event, Counted) and event.number == 2 and sequence:
            raise ZeroDivisionError("a bug in the fold")
        super().evolve(state, event, sequence)


async def test_a_stored_event_that_cannot_be_folded_is_a_dead_letter_and_the_lane_loads(log: Connection) -> None:
    inputs = plain(4, keys=1)
    await feed_in(log, inputs[:3])
    async with Workers(log, Counting(), time.time_ns):
        await drained(log, 3)
    async with Workers(log, UnfoldableLog(), time.time_ns):
        await feed_in(log, inputs[3:])
        events = await drained(log, 4)
        (dead,) = await settled(lambda: dead_lettered(log), bool)
    each_once_in_order(events, inputs)
    assert dead.stream == "GROUPS"
    assert dead.error == "not folded into the state: ZeroDivisionError: a bug in the fold"


async def test_outputs_for_more_than_one_batch(log: Connection) -> None:
    inputs = [Given("a", 1), Given("a", 2, "burst"), Given("b", 3), Given("b", 4, "burst"), Given("a", 5)]
    await feed_in(log, inputs)
    async with Workers(log, Counting(), time.time_ns):
        events = await drained(log, 2 * BURST + 3)
    each_once_in_order(events, inputs)
    await positions_are_right(log, inputs, 1, 1)


class Oversized(Counting):
    """Its output is larger than the server accepts."""

    def handle(self, state: Counts, event: Recorded, now: int) -> Iterator[Output]:
        yield Output("groups.1.test.x", Counted("x" * 9_000_000, 1, 1), "too large", "x")


async def test_what_the_log_refuses_is_reported_and_retried_with_backoff(log: Connection) -> None:
    await feed_in(log, plain(1))
    before = float(metrics.REFUSED.labels("counting")._value.get())
    with capture_logs() as logs:
        async with Workers(log, Oversized(), time.time_ns):
            await asyncio.sleep(3)
    waits = [each["in_seconds"] for each in logs if each["event"] == "lane.retry"]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert len(waits) < 8
    assert metrics.REFUSED.labels("counting")._value.get() - before == len(waits)


class FanOut(Counting):
    """One output per name in the configuration, which grows at the front while the outputs are on their way."""

    def __init__(self, config: int, *, dies_after: int = 0) -> None:
        self.config = config
        self.has_handled = False
        self._dies_after = dies_after
        self._stored = 0

    def config_sequence(self) -> int:
        return self.config

    def outputs(self, given: Given, config: int) -> list[Output]:
        names = [*(f"new-{n}" for n in range(100 * (config - 1))), *(f"old-{n}" for n in range(1500))]
        return [output(Counted(name, given.number, config), f"{given.number}.{name}") for name in names]

    def handle(self, state: Counts, event: Recorded, now: int) -> Iterator[Output]:
        self.has_handled = True
        yield from self.outputs(event.data, self.config)

    async def handle_again(self, state: Counts, event: Recorded, now: int, config_sequence: int) -> list[Output]:
        return self.outputs(event.data, config_sequence)

    def evolve(self, state: Counts, event: Any, sequence: int) -> None:
        pass

    def stored(self, state: Counts, output: Output, sequence: int) -> None:
        self._stored += 1
        if self._stored == self._dies_after:
            raise Killed


async def test_what_is_stored_in_parts_keeps_the_configuration_it_was_begun_with(log: Connection) -> None:
    first = FanOut(1, dies_after=999)

    def change_configuration(step: str) -> None:
        if step == "folded" and first.has_handled:
            first.config = 2

    worker = LaneWorker(log, CODEC, first, Lane(0, 63), time.time_ns, on_step=change_configuration)
    dying = asyncio.create_task(worker.run(asyncio.Event()))
    await worker.loaded.wait()
    await feed_in(log, [Given("k", 1)])
    with pytest.raises(Killed):
        await asyncio.wait_for(dying, 20)
    async with Workers(log, FanOut(2), time.time_ns):
        events = await drained(log, 1500)
    assert sorted(event.id for event in events) == sorted(f"1.old-{n}" for n in range(1500))


async def test_a_failing_effect_is_retried_and_delays_no_other(log: Connection) -> None:
    calls: list[int] = []

    async def fetch(wanted: Wanted) -> int:
        calls.append(wanted.number)
        if wanted.number == 2 and calls.count(2) < 3:
            raise ConnectionError("the venue is away")
        return calls.count(wanted.number)

    inputs = [Given("a", number, "intent") for number in (1, 2, 3)] + plain(5, first=4)
    await feed_in(log, inputs)
    async with Workers(log, Fetching(fetch), time.time_ns):
        await drained(log, 3 + 2 + 5)
        assert calls.count(2) < 3, "the others are done before"
        events = await drained(log, 3 + 3 + 5)
    fetched = {event.data.number: event.data.attempt for event in events if isinstance(event.data, Fetched)}
    assert fetched == {1: 1, 2: 3, 3: 1}
    each_once_in_order(events, inputs)
    by_id = {event.id: event for event in events}
    for number in (1, 2, 3):
        assert by_id[f"fetched.{number}"].causation == f"GROUPS:{by_id[f'wanted.{number}'].sequence}"


async def test_a_commit_whose_ack_is_lost_is_not_written_twice(log: Connection, running: Addresses) -> None:
    inputs, before = plain(60), fences()
    async with proxied(running.nats_url) as proxy:
        through = await connect(proxy.url, "through the proxy")
        try:
            async with Workers(through, Counting(), time.time_ns):
                await feed_in(log, inputs[:20])
                await drained(log, 20)
                proxy.lose_answer_to(b"Nats-Batch-Commit")
                await feed_in(log, inputs[20:40])
                await drained(log, 40)
                assert proxy.interruptions == 1
                await feed_in(log, inputs[40:])
                events = await drained(log, 60)
                assert fences() == before, "it recognizes its own commit"
        finally:
            await through.close()
    each_once_in_order(events, inputs)
    await positions_are_right(log, inputs, 1, 1)


async def test_a_commit_interrupted_in_the_middle_is_sent_again(log: Connection, running: Addresses) -> None:
    inputs = plain(60)
    async with proxied(running.nats_url) as proxy:
        through = await connect(proxy.url, "through the proxy")
        try:
            async with Workers(through, Counting(), time.time_ns):
                proxy.disconnect_at(b"Nats-Batch-Sequence: 5\r\n")
                await feed_in(log, inputs)
                events = await drained(log, 60)
                assert proxy.interruptions == 1
        finally:
            await through.close()
    each_once_in_order(events, inputs)
    await positions_are_right(log, inputs, 1, 1)
