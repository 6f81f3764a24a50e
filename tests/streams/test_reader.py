"""Reading: every message once, in order, whatever is killed meanwhile; and every hole is reported."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateways.embedded import Addresses
from streams.append import Record, append
from streams.connection import Connection, connect
from streams.errors import DataLossError, RefusedError
from streams.reader import Stored, StreamSubscription, get, last, read_all
from tests.streams.deadlines import settled
from tests.streams.own_server import own_server
from tests.streams.proxy import proxied


async def write(connection: Connection, first: int, count: int, *, stream: str = "raw") -> None:
    """Messages numbered from `first`; odd ones on subject 1, even ones on subject 2."""
    batch = [Record(f"{stream}.{2 - number % 2}.x", f"{number}".encode()) for number in range(first, first + count)]
    for start in range(0, len(batch), 1000):
        await append(connection, batch[start : start + 1000])


def numbers(messages: Sequence[Stored]) -> list[int]:
    return [int(message.payload) for message in messages]


async def taken(subscription: StreamSubscription, count: int, within: float = 20.0) -> list[Stored]:
    """So many messages from a subscription."""
    found: list[Stored] = []
    async with asyncio.timeout(within):
        while len(found) < count:
            await subscription.wait()
            found += subscription.take(count - len(found))
    return found


async def nothing_more(subscription: StreamSubscription) -> bool:
    return not await subscription.wait(0.3) and not subscription.take(10)


async def test_one_message_by_sequence_or_by_subject(log: Connection) -> None:
    await write(log, 1, 5)
    assert await get(log, "RAW", 2) == Stored(2, "raw.2.x", b"2")
    assert await get(log, "RAW", 6) is None
    assert await last(log, "RAW", "raw.2.x") == Stored(4, "raw.2.x", b"4")
    assert await last(log, "RAW", "raw.*.x") == Stored(5, "raw.1.x", b"5")
    assert await last(log, "RAW", "raw.3.x") is None
    await append(log, [Record("raw.9.empty", b"")])
    assert await get(log, "RAW", 6) == Stored(6, "raw.9.empty", b"")


@pytest.mark.parametrize(
    ("filters", "after", "expected"),
    [
        ((), 0, range(1, 5_001)),
        ((), 4_999, range(5_000, 5_001)),
        ((), 5_000, range(0)),
        ((), 9_000, range(0)),
        (("raw.1.>",), 0, range(1, 5_001, 2)),
        (("raw.2.>",), 2_500, range(2_502, 5_001, 2)),
        (("raw.1.>", "raw.2.>"), 10, range(11, 5_001)),
        (("raw.3.>",), 0, range(0)),
    ],
)
async def test_a_history_is_whole_and_in_order(log: Connection, filters: Any, after: int, expected: range) -> None:
    await write(log, 1, 5_000)
    async with asyncio.timeout(5):
        found = [stored async for batch in read_all(log, "RAW", filters, after=after, batch=300) for stored in batch]
    assert numbers(found) == list(expected)
    assert [stored.sequence for stored in found] == list(expected)


async def test_an_empty_history_ends_at_once(log: Connection) -> None:
    async with asyncio.timeout(2):
        assert [batch async for batch in read_all(log, "RAW")] == []


async def test_a_history_ends_although_more_is_written(log: Connection) -> None:
    await write(log, 1, 2_000)
    stop = asyncio.Event()

    async def flow() -> None:
        first = 2_001
        while not stop.is_set():
            await write(log, first, 50)
            first += 50

    flowing = asyncio.create_task(flow())
    try:
        async with asyncio.timeout(10):
            found = [stored async for batch in read_all(log, "RAW", batch=200) for stored in batch]
    finally:
        stop.set()
        await flowing
    assert numbers(found) == list(range(1, len(found) + 1))
    assert len(found) >= 2_000


async def test_a_named_subscription_resumes_and_its_durable_consumer_shows_the_lag(log: Connection) -> None:
    await write(log, 1, 100)

    async def waiting() -> int:
        state = await log.api("CONSUMER.INFO.RAW.reader")
        return int(state["num_pending"] + state["num_ack_pending"])

    subscription = await StreamSubscription(
        log, "RAW", ["raw.1.>"], name="reader", batch=20, description="odd ones"
    ).open(0)
    assert subscription.pending == 50
    first = await taken(subscription, 30)
    assert await waiting() == 50
    await subscription.ack(first[-1])
    assert await settled(waiting, lambda left: left != 50, 5) == 20
    rest = await taken(subscription, 20)
    assert subscription.at_end
    await subscription.ack(rest[-11])
    await subscription.close()
    assert await waiting() == 10
    assert numbers(first + rest) == list(range(1, 101, 2))

    again = await StreamSubscription(log, "RAW", ["raw.1.>"], name="reader", batch=20).open(rest[-11].sequence)
    assert again.pending == 10
    assert numbers(await taken(again, 10)) == numbers(rest[-10:])
    assert await nothing_more(again)
    assert await waiting() == 10, "what is not acknowledged waits"
    await again.close()


async def test_the_durable_consumer_is_made_again_when_it_was_deleted(log: Connection) -> None:
    await write(log, 1, 10)
    subscription = await StreamSubscription(log, "RAW", name="reader", batch=20).open(0)
    found = await taken(subscription, 10)
    await log.api("CONSUMER.DELETE.RAW.reader")
    await subscription.ack(found[7])

    async def waiting() -> int | None:
        try:
            return int((await log.api("CONSUMER.INFO.RAW.reader"))["num_pending"])
        except RefusedError:
            return None

    await settled(waiting, lambda left: left == 2, 10)
    await subscription.close()


async def test_two_subscriptions_of_one_name_do_not_take_each_others_messages(log: Connection) -> None:
    await write(log, 1, 300)
    one = await StreamSubscription(log, "RAW", ["raw.>"], name="reader", batch=10).open(0)
    found = await taken(one, 5)
    other = await StreamSubscription(log, "RAW", ["raw.>"], name="reader", batch=10).open(120)
    theirs = await taken(other, 5)
    found += await taken(one, 200)
    theirs += await taken(other, 175)
    found += await taken(one, 95)
    assert numbers(found) == list(range(1, 301))
    assert numbers(theirs) == list(range(121, 301))
    await one.close()
    await other.close()


async def test_temporary_consumers_name_their_reader(log: Connection) -> None:
    subscriptions = [
        await StreamSubscription(log, "RAW", name="plan-00-15", description="decides").open(0),
        await StreamSubscription(log, "RAW", description="follows marks & more").open(0),
    ]
    found = {each["name"]: each["config"]["description"] for each in (await log.api("CONSUMER.LIST.RAW"))["consumers"]}
    named = {re.sub("-[0-9a-f]{8}$", "-*", name): description for name, description in found.items()}
    assert named == {
        "plan-00-15": "decides",
        "reader-plan-00-15-*": f"decides: temporary reader of {log.name}",
        "reader-follows-marks-more-*": f"follows marks & more: temporary reader of {log.name}",
    }
    for subscription in subscriptions:
        await subscription.close()


async def test_a_consumer_deleted_behind_its_back(log: Connection) -> None:
    await write(log, 1, 50)
    subscription = await StreamSubscription(log, "RAW", batch=10).open(0)
    found = await taken(subscription, 50)
    (name,) = (await log.api("CONSUMER.NAMES.RAW"))["consumers"]
    # A pull that arrives with the deletion gets no answer; one that waits is notified of it.
    await settled(lambda: log.api(f"CONSUMER.INFO.RAW.{name}"), lambda state: state["num_waiting"] > 0)
    await log.api(f"CONSUMER.DELETE.RAW.{name}")
    await write(log, 51, 30)
    found += await taken(subscription, 30, within=8)
    assert numbers(found) == list(range(1, 81))
    assert await nothing_more(subscription)
    await subscription.close()
    assert (await log.api("CONSUMER.NAMES.RAW"))["consumers"] in ([], None), (
        "a closed subscription leaves nothing behind"
    )


async def test_a_connection_lost_in_the_middle(log: Connection, running: Addresses) -> None:
    await write(log, 1, 1_000)
    async with proxied(running.nats_url) as proxy:
        through = await connect(proxy.url, "through the proxy")
        subscription = await StreamSubscription(through, "RAW", name="reader", batch=100).open(0)
        found = await taken(subscription, 120)
        for first in (1_001, 1_501):
            proxy.disconnect_at(b"CONSUMER.MSG.NEXT")
            await write(log, first, 500)
            found += await taken(subscription, first + 499 - len(found))
        assert proxy.interruptions >= 1
        assert numbers(found) == list(range(1, 2_001))
        await subscription.close()
        await through.close()


async def test_a_message_lost_on_the_way_is_noticed_and_read_again(log: Connection, running: Addresses) -> None:
    await write(log, 1, 100)
    async with proxied(running.nats_url) as proxy:
        through = await connect(proxy.url, "through the proxy")
        filtered = await StreamSubscription(through, "RAW", ["raw.1.>"], batch=20).open(0)
        found = await taken(filtered, 50)
        proxy.drop_message(b" raw.1.x ")
        for first in range(101, 201, 10):
            await write(log, first, 10)
        found += await taken(filtered, 50, within=8)
        assert proxy.interruptions == 1
        assert numbers(found) == list(range(1, 201, 2))
        await filtered.close()
        await through.close()


@pytest.mark.parametrize("name", [None, "reader"])
async def test_the_server_is_killed_in_the_middle(tmp_path: Path, name: str | None) -> None:
    async with own_server(tmp_path) as server:
        writer, reader = await connect(server.url, "writer"), await connect(server.url, "reader")
        await write(writer, 1, 3_000)
        subscription = await StreamSubscription(reader, "RAW", name=name, batch=100).open(0)
        filtered = await StreamSubscription(reader, "RAW", ["raw.1.>"], name=name and "odd", batch=100).open(0)
        found, odd = await taken(subscription, 150), await taken(filtered, 150)
        for kill in range(2):
            await server.kill()
            await server.start()
            found += await taken(subscription, 1_000)
            odd += await taken(filtered, 500)
            async with asyncio.timeout(10):
                while not writer.client.is_connected:
                    await asyncio.sleep(0.01)
            await write(writer, 3_001 + kill * 500, 500)
        found += await taken(subscription, 4_000 - len(found))
        odd += await taken(filtered, 2_000 - len(odd))
        assert numbers(found) == list(range(1, 4_001))
        assert numbers(odd) == list(range(1, 4_001, 2))
        assert await nothing_more(subscription)
        for each in (subscription, filtered):
            await each.close()
        await reader.close()
        await writer.close()


async def holed(connection: Connection, **settings: Any) -> None:
    """A stream whose messages may be deleted, with messages 1 to 20."""
    body = {"name": "HOLED", "subjects": ["holed.>"], "storage": "file", "allow_atomic": True, **settings}
    await connection.api("STREAM.CREATE.HOLED", body)
    await write(connection, 1, 20, stream="holed")


async def test_a_hole_is_data_loss(log: Connection) -> None:
    await holed(log)
    for sequence in (7, 8, 15):
        await log.api("STREAM.MSG.DELETE.HOLED", {"seq": sequence})
    subscription = await StreamSubscription(log, "HOLED").open(0)
    assert numbers(await taken(subscription, 6)) == [1, 2, 3, 4, 5, 6], "what comes before the hole is whole"
    async with asyncio.timeout(5):
        await subscription.wait()
    with pytest.raises(DataLossError, match=r"HOLED: sequences 7\.\.8 are missing") as loss:
        subscription.take(10)
    assert (loss.value.stream, loss.value.first, loss.value.last) == ("HOLED", 7, 8)
    await subscription.close()
    with pytest.raises(DataLossError, match=r"15\.\.15"):
        async with asyncio.timeout(5):
            assert [numbers(batch) async for batch in read_all(log, "HOLED", after=10)]


async def test_a_hole_right_behind_the_start(log: Connection) -> None:
    await holed(log)
    await log.api("STREAM.MSG.DELETE.HOLED", {"seq": 11})
    subscription = await StreamSubscription(log, "HOLED").open(10)
    with pytest.raises(DataLossError, match=r"11\.\.11"):
        await taken(subscription, 1)
    await subscription.close()


async def test_a_hole_that_appears_while_reading(log: Connection) -> None:
    await holed(log)
    subscription = await StreamSubscription(log, "HOLED", batch=4).open(0)
    found = await taken(subscription, 20)
    await log.api("STREAM.PURGE.HOLED")
    await write(log, 21, 3, stream="holed")
    found += await taken(subscription, 3)
    assert numbers(found) == list(range(1, 24)), "what has been read already may go"
    await subscription.close()


async def test_what_the_age_limit_dropped_is_no_hole(log: Connection) -> None:
    await holed(log, max_age=200_000_000, duplicate_window=100_000_000)

    async def state() -> Any:
        return (await log.api("STREAM.INFO.HOLED"))["state"]

    await settled(state, lambda seen: seen["messages"] == 0, 10)
    body = {"name": "HOLED", "subjects": ["holed.>"], "storage": "file", "allow_atomic": True, "max_age": 0}
    await log.api("STREAM.UPDATE.HOLED", body)
    assert [batch async for batch in read_all(log, "HOLED")] == []
    await write(log, 21, 5, stream="holed")
    assert (await state())["first_seq"] == 21
    found = [stored async for batch in read_all(log, "HOLED") for stored in batch]
    assert numbers(found) == [21, 22, 23, 24, 25]
    subscription = await StreamSubscription(log, "HOLED", name="reader").open(3)
    assert numbers(await taken(subscription, 5)) == [21, 22, 23, 24, 25]
    await subscription.close()
