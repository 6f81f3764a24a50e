"""The writer of RAW: everything once, in order."""

import asyncio
import itertools
import time
from collections.abc import Iterable

import msgspec
from msgspec import Raw, structs
from prometheus_client import REGISTRY

from domain.events import RawReceived
from gateways.embedded import Addresses
from handlers.ingest.raw_writer import RawWriter
from handlers.live.event_codec import codec
from streams.append import Record, append
from streams.connection import Connection, connect
from streams.dead_letters import DeadLettered, decode
from streams.reader import read_all
from tests.handlers.folding import trade
from tests.streams.proxy import proxied

CODEC = codec()


def raws(numbers: Iterable[int]) -> list[RawReceived]:
    return [trade(tid=number) for number in numbers]


async def record(connection: Connection, events: list[RawReceived]) -> None:
    """Put all events, then let the writer finish."""
    writer = RawWriter(connection, time.time_ns)
    for event in events:
        await writer.put(event)
    await writer.finish()
    await asyncio.wait_for(writer.run(), 20)


async def stored(log: Connection) -> list[str]:
    return [
        event.id
        async for batch in read_all(log, "RAW")
        for each in batch
        for event in CODEC.decode("RAW", each.sequence, each.subject, each.payload)
    ]


async def dead_letters(log: Connection) -> list[DeadLettered]:
    return [decode(each.payload) async for batch in read_all(log, "DEAD") for each in batch]


def ids(numbers: Iterable[int]) -> list[str]:
    return [event.raw_id for event in raws(numbers)]


async def test_events_are_stored_in_the_order_of_put(log: Connection) -> None:
    await record(log, raws(range(1_700)))
    assert await stored(log) == ids(range(1_700))


async def test_duplicates_in_a_batch_and_across_batches_are_stored_once(log: Connection) -> None:
    await record(log, raws([1, 2, 1, 3, 2, 4]))
    assert await stored(log) == ids([1, 2, 3, 4])
    await record(log, raws(itertools.chain(range(900), range(450, 1_200))))
    assert await stored(log) == ids([1, 2, 3, 4, 0, *range(5, 1_200)])
    assert await dead_letters(log) == []


async def test_an_event_that_the_log_refuses_is_dead_lettered_and_the_others_are_stored(log: Connection) -> None:
    huge = msgspec.structs.replace(trade(tid=3), payload=Raw(b'"' + b"x" * 8_500_000 + b'"'))
    for _ in range(2):
        await record(log, [*raws([1, 2]), huge, *raws([4])])
    assert await stored(log) == ids([1, 2, 4])
    (dead,) = await dead_letters(log)
    assert (dead.stage, dead.stream, dead.dead_id) == ("ingest", "RAW", f"ingest:{huge.raw_id}")
    assert "max_payload" in dead.error


async def test_a_lost_answer_stores_nothing_twice(log: Connection, running: Addresses) -> None:
    async with proxied(running.nats_url) as proxy:
        through = await connect(proxy.url, "through the proxy")
        try:
            proxy.lose_answer_to(b"Nats-Batch-Commit")
            await record(through, raws(range(100)))
            assert proxy.interruptions == 1
        finally:
            await through.close()
    assert await stored(log) == ids(range(100))


async def test_reading_the_newest_of_each_subject_and_the_events_since_a_time(log: Connection) -> None:
    async def since(at_ns: int) -> list[str]:
        return [raw.raw_id async for raw in RawWriter(log, time.time_ns).since("raw.*.hyperliquid.>", at_ns)]

    assert await RawWriter(log, time.time_ns).newest("raw.>") == []
    assert await since(0) == []
    events = [
        structs.replace(raw, detect_time=1_000 + 10 * number, address=f"0x{number % 3}", influencer_id=f"i{number % 3}")
        for number, raw in enumerate(raws(range(100)))
    ]
    await record(log, events)
    await append(log, [Record("raw.1.hyperliquid.trades.0x9", b"junk")])
    await append(log, [Record("raw.1.elsewhere.trades.0x9", b"junk")])
    newest = await RawWriter(log, time.time_ns).newest("raw.*.hyperliquid.>")
    assert [raw.raw_id for raw in newest] == ids(range(97, 100))
    for first in (0, 1, 37, 99):
        assert await since(1_000 + 10 * first) == ids(range(first, 100))
        assert await since(1_000 + 10 * first - 5) == ids(range(first, 100))
    assert await since(10**6) == []


async def test_the_time_from_receipt_to_raw_is_that_of_the_oldest_event_of_a_commit(log: Connection) -> None:
    def seconds() -> float:
        return REGISTRY.get_sample_value("vibe_raw_seconds_sum") or 0.0

    now, before = time.time_ns(), seconds()
    old, new = (msgspec.structs.replace(trade(tid=tid), detect_time=now - age) for tid, age in ((1, 7 * 10**9), (2, 0)))
    await record(log, [new, old])
    assert 7 <= seconds() - before < 12
