"""One reader per process and stream: every subscription gets each of its messages once, in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateways.embedded import Addresses
from streams import shared_reader
from streams.append import Record, append
from streams.connection import Connection, connect
from streams.errors import DataLossError, RefusedError
from streams.reader import Stored
from streams.shared_reader import SharedSubscription
from tests.streams.counting import Counting, Workers, feed_in, plain
from tests.streams.deadlines import eventually, settled
from tests.streams.own_server import own_server
from tests.streams.proxy import proxied
from tests.streams.stage_instances import KEYS, stored
from tests.streams.test_reader import holed, numbers

PARTITIONS = 4


async def write(connection: Connection, first: int, count: int, *, stream: str = "raw", key: str = "x") -> None:
    """Messages numbered from `first`, message n on partition n mod 4."""
    batch = [Record(f"{stream}.{n % PARTITIONS}.{key}", f"{n}".encode()) for n in range(first, first + count)]
    for start in range(0, len(batch), 1000):
        await append(connection, batch[start : start + 1000])


def of(partitions: Sequence[int], after: int, end: int) -> list[int]:
    """The numbers behind `after`, up to `end`, that are written to these partitions."""
    return [n for n in range(after + 1, end + 1) if n % PARTITIONS in partitions]


class Lane:
    """A subscription to some partitions, and the numbers that it has taken."""

    def __init__(self, connection: Connection, *partitions: int, after: int = 0, batch: int = 100) -> None:
        filters = [f"raw.{number}.>" for number in partitions]
        self.subscription = SharedSubscription(connection, "RAW", filters, description="a lane", batch=batch)
        self.partitions = partitions
        self.after = after
        self.taken: list[int] = []
        self._taking: asyncio.Task[None] | None = None

    async def open(self) -> "Lane":
        await self.subscription.open(self.after)
        return self

    def take(self) -> None:
        """Take all the time from now on."""
        self._taking = asyncio.create_task(self._take())

    async def _take(self) -> None:
        while True:
            await self.subscription.wait()
            self.taken += numbers(self.subscription.take(100))
            await asyncio.sleep(0)

    async def pause(self) -> None:
        """Take nothing from now on."""
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)

    async def has_all(self, end: int, within: float = 20.0) -> None:
        """Everything of its partitions up to `end` was taken, once and in order."""
        expected = of(self.partitions, self.after, end)
        await eventually(lambda: len(self.taken) >= len(expected), within, what=f"all of {self.partitions} up to {end}")
        assert self.taken == expected

    async def close(self) -> None:
        await self.pause()
        await self.subscription.close()


@asynccontextmanager
async def taking(*lanes: Lane) -> AsyncIterator[None]:
    """The lanes are open and take during the block."""
    for lane in lanes:
        await lane.open()
        lane.take()
    try:
        yield
    finally:
        for lane in lanes:
            await lane.close()


async def readers(connection: Connection, stream: str = "RAW") -> list[str]:
    """The names of the temporary consumers of a stream."""
    return (await connection.api(f"CONSUMER.NAMES.{stream}"))["consumers"] or []


async def one_reader(connection: Connection, within: float = 10.0) -> str:
    """The name of the only temporary consumer, once it is the only one."""
    (name,) = await settled(lambda: readers(connection), lambda names: len(names) == 1, within)
    return name


async def test_all_subscriptions_share_one_reader_and_each_gets_what_it_wants(log: Connection) -> None:
    await write(log, 1, 3_000)
    wanted = {
        ("raw.0.>", "raw.1.>"): (0, 1),
        ("raw.2.>",): (2,),
        (): (0, 1, 2, 3),
        ("raw.>",): (0, 1, 2, 3),
        ("raw.3.x", "raw.2.y"): (3,),
        ("raw.*.x",): (0, 1, 2, 3),
        ("raw.7.>",): (),
    }
    subscriptions = [
        await SharedSubscription(log, "RAW", filters, batch=1_000, description=f"wants {filters}").open(0)
        for filters in wanted
    ]
    assert (await one_reader(log)).startswith("reader-tests-")
    await write(log, 3_001, 500)
    for subscription, partitions in zip(subscriptions, wanted.values(), strict=True):
        expected = of(partitions, 0, 3_500)
        found: list[Stored] = []
        async with asyncio.timeout(10):
            while len(found) < len(expected):
                await subscription.wait()
                found += subscription.take(1_000)
        assert numbers(found) == expected
        assert [stored.sequence for stored in found] == expected
        assert {stored.subject for stored in found} == {f"raw.{number}.x" for number in partitions}
    for subscription in subscriptions:
        await subscription.close()
    assert await readers(log) == [], "the reader ends with its last subscription"


async def test_subjects_of_two_tokens_and_of_prefixes_are_not_mistaken(log: Connection) -> None:
    for subject in ("raw.1.x", "raw.11.x", "raw.1x.x", "raw.x"):
        await append(log, [Record(subject, b"1")])
    one = await SharedSubscription(log, "RAW", ["raw.1.>"]).open(0)
    whole = await SharedSubscription(log, "RAW", ["raw.>"]).open(0)
    await eventually(lambda: whole.position == 4, what="all four were read")
    assert [stored.subject for stored in one.take(10)] == ["raw.1.x"]
    assert [stored.subject for stored in whole.take(10)] == ["raw.1.x", "raw.11.x", "raw.1x.x", "raw.x"]
    for subscription in (one, whole):
        await subscription.close()


@pytest.mark.parametrize("behind", [1, 40, 4_000, 25_000])
async def test_a_lane_that_is_behind_catches_up_and_joins_the_others(log: Connection, behind: int) -> None:
    await write(log, 1, 30_000)
    first, second = Lane(log, 0, after=30_000), Lane(log, 1, 2, after=30_000 - behind)
    async with taking(first, second):
        await write(log, 30_001, 1_000)
        for lane in (first, second):
            await lane.has_all(31_000)
        name = await one_reader(log)
        await write(log, 31_001, 1_000)
        for lane in (first, second):
            await lane.has_all(32_000)
        assert await readers(log) == [name]


async def test_a_lane_that_is_ahead_begins_where_it_was(log: Connection) -> None:
    await write(log, 1, 20_000)
    first, second = Lane(log, 0, 1), Lane(log, 2, 3, after=12_345)
    async with taking(first, second):
        for lane in (first, second):
            await lane.has_all(20_000)
        await one_reader(log)


async def test_the_first_lane_to_open_may_be_the_one_that_is_far_ahead(log: Connection) -> None:
    """Then the one behind has a reader of its own for long, and others that are as far behind share that one."""
    await write(log, 1, 30_000)
    ahead, behind, beside = Lane(log, 0, after=30_000), Lane(log, 1), Lane(log, 2)
    await ahead.open()
    await behind.open()
    await beside.open()
    assert len(await readers(log)) == 2
    ahead.take()
    behind.take()
    await eventually(lambda: len(behind.taken) > 1_000, what="the lane behind reads on")
    beside.take()
    await write(log, 30_001, 100)
    for lane in (ahead, behind, beside):
        await lane.has_all(30_100)
    await one_reader(log)
    for lane in (ahead, behind, beside):
        await lane.close()


@pytest.mark.parametrize("seed", range(4))
async def test_lanes_come_and_go_at_random_places_while_messages_are_written(
    log: Connection, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(shared_reader, "_BATCH", 60)
    monkeypatch.setattr(shared_reader, "_NEAR", 300)
    monkeypatch.setattr(shared_reader, "_HELD_SECONDS", 0.1)
    chance = Random(seed)
    end = 0
    lanes: list[Lane] = []
    for _ in range(60):
        count = chance.randrange(1, 400)
        await write(log, end + 1, count)
        end += count
        match chance.choice(("open", "open", "close", "pause", "take", "nothing")):
            case "open" if len(lanes) < 8:
                partitions = chance.sample(range(PARTITIONS), chance.randrange(1, PARTITIONS))
                lane = Lane(log, *partitions, after=chance.randrange(max(0, end - 2_000), end + 1), batch=20)
                lanes.append(await lane.open())
                lane.take()
            case "close" if lanes:
                lane = lanes.pop(chance.randrange(len(lanes)))
                await lane.close()
                assert lane.taken == of(lane.partitions, lane.after, end)[: len(lane.taken)]
            case "pause" if lanes:
                await chance.choice(lanes).pause()
            case "take":
                for lane in lanes:
                    await lane.pause()
                    lane.take()
        await asyncio.sleep(chance.choice((0, 0, 0.05, 0.2)))
    for lane in lanes:
        await lane.pause()
        lane.take()
    for lane in lanes:
        await lane.has_all(end)
    if lanes:
        await one_reader(log)
    for lane in lanes:
        await lane.close()
    assert await readers(log) == []


async def test_a_slow_lane_holds_up_neither_the_others_nor_much_memory(log: Connection) -> None:
    slow, quick = Lane(log, 0, 1), Lane(log, 2, 3)
    await slow.open()
    await quick.open()
    quick.take()
    await write(log, 1, 40_000)
    await quick.has_all(40_000)
    assert slow.subscription.waiting < 3_000, "what waits in memory is bounded"
    assert len(await readers(log)) == 2, "it reads by itself"
    slow.take()
    await write(log, 40_001, 1_000)
    for lane in (slow, quick):
        await lane.has_all(41_000)
    await one_reader(log)
    for lane in (slow, quick):
        await lane.close()


async def test_lanes_that_are_slow_together_read_together(log: Connection) -> None:
    slow, quick = [Lane(log, 0), Lane(log, 1), Lane(log, 2)], Lane(log, 3)
    for lane in (*slow, quick):
        await lane.open()
    quick.take()
    await write(log, 1, 40_000)
    await quick.has_all(40_000)
    assert len(await readers(log)) == 2
    for lane in slow:
        lane.take()
    for lane in slow:
        await lane.has_all(40_000)
    await one_reader(log)
    for lane in (*slow, quick):
        await lane.close()


async def test_large_messages_are_bounded_by_their_bytes(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_reader, "_BATCH", 10)
    monkeypatch.setattr(shared_reader, "_MAX_BYTES", 1_000_000)
    lane = await SharedSubscription(log, "RAW", ["raw.0.>"], batch=1_000).open(0)
    for _ in range(60):
        await append(log, [Record("raw.0.x", bytes(100_000))])
    await asyncio.sleep(0.5)
    assert 10 <= lane.waiting <= 30
    found = 0
    async with asyncio.timeout(10):
        while found < 60:
            await lane.wait()
            found += len(lane.take(7))
    assert lane.size == 0
    await lane.close()


async def test_a_connection_lost_in_the_middle(log: Connection, running: Addresses) -> None:
    await write(log, 1, 2_000)
    async with proxied(running.nats_url) as proxy:
        through = await connect(proxy.url, "through the proxy")
        first, second = Lane(through, 0, 1), Lane(through, 2, after=100)
        async with taking(first, second):
            await first.has_all(2_000)
            for start in (2_001, 3_001):
                proxy.disconnect_at(b"CONSUMER.MSG.NEXT")
                await write(log, start, 1_000)
                for lane in (first, second):
                    await lane.has_all(start + 999)
            assert proxy.interruptions >= 1
        await through.close()


async def test_a_message_lost_on_the_way_is_read_again(log: Connection, running: Addresses) -> None:
    await write(log, 1, 100)
    async with proxied(running.nats_url) as proxy:
        through = await connect(proxy.url, "through the proxy")
        first, second = Lane(through, 0, 1), Lane(through, 2, 3)
        async with taking(first, second):
            await first.has_all(100)
            proxy.drop_message(b" raw.1.x ")
            for start in range(101, 201, 10):
                await write(log, start, 10)
            for lane in (first, second):
                await lane.has_all(200, within=8)
            assert proxy.interruptions == 1
        await through.close()


async def test_the_server_is_killed_while_one_lane_catches_up(tmp_path: Path) -> None:
    async with own_server(tmp_path) as server:
        writer, reader = await connect(server.url, "writer"), await connect(server.url, "reader")
        await write(writer, 1, 30_000)
        ahead, behind = Lane(reader, 0, 1, after=29_000), Lane(reader, 2, 3)
        await ahead.open()
        await behind.open()
        ahead.take()
        for start in (30_001, 30_501):
            await server.kill()
            await server.start()
            async with asyncio.timeout(10):
                while not writer.client.is_connected:
                    await asyncio.sleep(0.01)
            await write(writer, start, 500)
            behind.take()
            await ahead.has_all(start + 499)
        for lane in (ahead, behind):
            await lane.has_all(31_000)
            await lane.close()
        await reader.close()
        await writer.close()


async def test_a_hole_is_data_loss_for_every_lane(log: Connection) -> None:
    await holed(log)
    for sequence in (7, 8):
        await log.api("STREAM.MSG.DELETE.HOLED", {"seq": sequence})
    lanes = [await SharedSubscription(log, "HOLED", [f"holed.{n}.>"]).open(after) for n, after in ((1, 0), (2, 2))]
    for lane, before in zip(lanes, ([1, 3, 5], [4, 6]), strict=True):
        found: list[int] = []
        async with asyncio.timeout(5):
            while len(found) < len(before):
                await lane.wait()
                found += numbers(lane.take(10))
            await lane.wait()
        assert found == before, "what comes before the hole is whole"
        with pytest.raises(DataLossError, match=r"HOLED: sequences 7\.\.8 are missing"):
            lane.take(10)
    behind = await SharedSubscription(log, "HOLED", ["holed.1.>"]).open(8)
    async with asyncio.timeout(5):
        found = []
        while len(found) < 6:
            await behind.wait()
            found += numbers(behind.take(10))
    assert found == [9, 11, 13, 15, 17, 19]
    again = await SharedSubscription(log, "HOLED", ["holed.1.>"]).open(0)
    async with asyncio.timeout(5):
        await again.wait()
        assert numbers(again.take(10)) == [1, 3, 5]
    for lane in (*lanes, behind, again):
        await lane.close()
    assert await readers(log, "HOLED") == []


async def test_a_hole_that_a_lane_meets_while_it_joins(log: Connection) -> None:
    """Only the lane behind comes to it: the ones ahead read on."""
    await holed(log)
    ahead = await SharedSubscription(log, "HOLED", ["holed.1.>"]).open(10)
    async with asyncio.timeout(5):
        await ahead.wait()
    await log.api("STREAM.MSG.DELETE.HOLED", {"seq": 4})
    behind = await SharedSubscription(log, "HOLED", ["holed.2.>"]).open(0)
    async with asyncio.timeout(5):
        await behind.wait()
        assert numbers(behind.take(10)) == [2]
        await behind.wait()
        with pytest.raises(DataLossError, match=r"4\.\.4"):
            behind.take(10)
        await behind.close()
        await append(log, [Record("holed.1.x", b"21")])
        found: list[int] = []
        while 21 not in found:
            await ahead.wait()
            found += numbers(ahead.take(10))
    assert found == [11, 13, 15, 17, 19, 21]
    await ahead.close()


async def test_a_stream_that_does_not_exist_is_refused_and_may_be_read_later(log: Connection) -> None:
    lanes = [SharedSubscription(log, "HOLED", [f"holed.{number}.>"]) for number in (1, 2)]
    results = await asyncio.gather(*(lane.open(0) for lane in lanes), return_exceptions=True)
    assert [type(result) for result in results] == [RefusedError, RefusedError]
    for lane in lanes:
        await lane.close()
    await holed(log)
    lane = await SharedSubscription(log, "HOLED", ["holed.1.>"]).open(0)
    async with asyncio.timeout(5):
        await lane.wait()
    assert numbers(lane.take(100)) == list(range(1, 21, 2))
    await lane.close()


async def test_a_lane_that_is_closed_while_it_opens_leaves_the_others_alone(log: Connection) -> None:
    await write(log, 1, 100)
    opening = [Lane(log, number) for number in range(3)]
    tasks = [asyncio.create_task(lane.open()) for lane in opening]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await opening[0].close()
    for lane in opening[1:]:
        lane.take()
        await lane.has_all(100)
    for lane in opening[1:]:
        await lane.close()
    assert await readers(log) == []


async def test_a_reader_that_was_idle_for_long_is_made_again(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server forgets a consumer from which nothing was pulled for a minute, without a word to the reader."""
    monkeypatch.setattr("streams.temporary_reader._FORGOTTEN_SECONDS", 10.5)
    monkeypatch.setattr(shared_reader, "_BATCH", 50)
    await write(log, 1, 2_000)
    lane = await Lane(log, 0, 1, 2, 3, batch=20).open()
    await asyncio.sleep(1.0)
    assert lane.subscription.waiting < 200
    name = await one_reader(log)
    lane.take()
    await lane.has_all(2_000, within=8)
    assert await one_reader(log) != name
    await lane.close()


async def test_the_stages_of_a_process_share_readers_and_none_reads_what_it_wrote(log: Connection) -> None:
    class Other(Counting):
        name = "other"

    inputs = plain(400, keys=KEYS)
    await feed_in(log, inputs)
    async with (
        Workers(log, Counting(), time.time_ns, lane_count=4),
        Workers(log, Other(), time.time_ns, lane_count=8),
    ):
        followed = await SharedSubscription(log, "SIGNALS", ["signals.>"], description="follows").open(0)
        await settled(lambda: stored(log), lambda found: found >= 800)

        async def temporary() -> dict[str, int]:
            found = {stream: await readers(log, stream) for stream in ("SIGNALS", "GROUPS", "DEAD")}
            return {stream: sum(name.startswith("reader-") for name in names) for stream, names in found.items()}

        assert await settled(temporary, lambda found: found["SIGNALS"] == 1, 10) == {
            "SIGNALS": 1,
            "GROUPS": 0,
            "DEAD": 1,
        }
        await followed.close()


async def test_the_consumer_that_shows_the_lag_is_moved_once_a_second_by_one_request(
    log: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    api = log.api

    async def counted(subject: str, *args: Any, **options: Any) -> dict[str, Any]:
        if subject.endswith(".SIGNALS.shown"):
            requests.append(subject.split(".")[1])
        return await api(subject, *args, **options)

    monkeypatch.setattr(log, "api", counted)
    shown = await SharedSubscription(log, "SIGNALS", ["signals.>"], name="shown").open(0)
    assert requests == ["CREATE", "RESET"]
    for number in range(25):
        await feed_in(log, plain(1, first=number + 1))
        await shown.wait()
        await shown.ack(shown.take(1)[-1])
        await asyncio.sleep(0.1)
    assert set(requests[2:]) == {"RESET"}
    assert 2 <= len(requests[2:]) <= 4
    await shown.close()
    assert (await api("CONSUMER.INFO.SIGNALS.shown"))["num_pending"] == 0
