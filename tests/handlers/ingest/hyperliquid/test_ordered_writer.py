"""Each event once, in order, and never held back for longer than five seconds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from msgspec import Raw

import handlers.ingest.hyperliquid.ordered_writer
from domain.events import RawReceived, Venue
from handlers.ingest.hyperliquid.ordered_writer import OrderedWriter, time_ms
from handlers.ingest.raw_writer import RawWriter
from handlers.ingest.recent_ids import RecentIds
from handlers.live.event_codec import codec
from streams.connection import Connection
from streams.reader import read_all
from tests.streams.deadlines import settled

CODEC = codec()
ALICE, BOB = "0x" + "a1" * 20, "0x" + "b2" * 20


def raw(time: int, address: str = ALICE, *, channel: str = "trades", detect_time: int = 7) -> RawReceived:
    """A trade or fill of block time `time`; its tid is the same number."""
    return RawReceived(
        raw_id=f"hl:BTC:{time}:{time}:{address}:B",
        venue=Venue.HYPERLIQUID,
        channel=channel,
        influencer_id="alice",
        address=address,
        payload=Raw(b"{}"),
        detect_time=detect_time,
    )


def fill(time: int, address: str = ALICE) -> RawReceived:
    return raw(time, address, channel="userFills", detect_time=99)


@asynccontextmanager
async def taking_in(log: Connection) -> AsyncIterator[OrderedWriter]:
    """An intake whose recorder writes; everything is stored at the end."""
    recorder = RawWriter(log, lambda: 1)
    writer = asyncio.create_task(recorder.run())
    intake = OrderedWriter(recorder)
    minder = asyncio.create_task(intake.run())
    try:
        yield intake
    finally:
        minder.cancel()
        await intake.release_all()
        await recorder.finish()
        await asyncio.wait_for(writer, 10)


async def stored(log: Connection) -> list[RawReceived]:
    return [
        CODEC.decode("RAW", each.sequence, each.subject, each.payload).data
        async for batch in read_all(log, "RAW")
        for each in batch
    ]


async def times(log: Connection) -> list[int]:
    return [time_ms(each.raw_id) for each in await stored(log)]


def test_the_time_in_an_id() -> None:
    assert time_ms(f"hl:BTC:17:5:{ALICE}:B") == time_ms(f"hl:xyz:SP500:17:x0f:{ALICE}:A") == 17


def test_seen_remembers_the_newest() -> None:
    seen = RecentIds(2)
    assert [seen.add(key) for key in ("a", "b", "a", "c", "a", "c")] == [True, True, False, True, True, False]


async def test_a_trade_is_recorded_at_once_and_counted(log: Connection) -> None:
    async with taking_in(log) as intake:
        assert intake.is_new(raw(1).raw_id)
        assert not intake.is_new(raw(1).raw_id)
        await intake.trade(raw(1))
        await settled(lambda: times(log), bool, 5)
        intake.known(raw(0))
        assert not intake.is_new(raw(0).raw_id), "it stands in the log"
        assert intake.activity[ALICE] == 2


async def test_held_trades_come_in_order_when_released_and_others_do_not_wait(log: Connection) -> None:
    async with taking_in(log) as intake:
        intake.hold(ALICE)
        for one in (raw(1), raw(2), raw(3, BOB)):
            await intake.trade(one)
        assert await settled(lambda: times(log), bool, 5) == [3]
        await intake.release(ALICE)
        await intake.trade(raw(4))
    assert await times(log) == [3, 1, 2, 4]


async def test_nothing_is_held_for_longer_than_it_may(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers.ingest.hyperliquid.ordered_writer, "HOLD_SECONDS", 0.3)
    loop = asyncio.get_running_loop()
    async with taking_in(log) as intake:
        start = loop.time()
        intake.hold(ALICE)
        await intake.trade(raw(1))
        intake.hold(ALICE)
        await settled(lambda: times(log), bool, 5)
        assert 0.3 <= loop.time() - start < 1.5, "nor does holding again prolong it"


async def test_what_is_held_at_the_end_is_recorded(log: Connection) -> None:
    async with taking_in(log) as intake:
        intake.hold(ALICE)
        await intake.trade(raw(1))
    assert await times(log) == [1]


async def test_missing_fills_go_before_the_trades_that_were_held(log: Connection) -> None:
    async with taking_in(log) as intake:
        await live(intake, raw(1))
        intake.hold(ALICE)
        for time in (5, 7):
            await live(intake, raw(time))
        assert await intake.backfilled(ALICE, [fill(1), fill(2), fill(3), fill(6)]) == 3
        await live(intake, raw(8))
    assert await times(log) == [1, 2, 3, 5, 6, 7, 8]


async def test_a_fill_takes_the_place_of_its_trade_that_was_held(log: Connection) -> None:
    async with taking_in(log) as intake:
        intake.hold(ALICE)
        await live(intake, raw(5))
        assert await intake.backfilled(ALICE, [fill(4), fill(5)]) == 1
        assert not intake.is_new(fill(4).raw_id), "when the feed brings it after all"
    found = await stored(log)
    assert [(time_ms(each.raw_id), each.channel, each.detect_time) for each in found] == [
        (4, "userFills", 99),
        (5, "userFills", 7),
    ], "and it was detected when the trade was"


async def test_fills_of_who_is_not_held_are_recorded_too(log: Connection) -> None:
    async with taking_in(log) as intake:
        await live(intake, raw(5))
        assert await intake.backfilled(ALICE, [fill(4), fill(5), fill(6)]) == 2
        assert await intake.backfilled(ALICE, [fill(4), fill(5), fill(6)]) == 0
    assert await times(log) == [5, 4, 6]
    assert msgspec.json.decode((await stored(log))[0].payload) == {}


async def live(intake: OrderedWriter, one: RawReceived) -> None:
    assert intake.is_new(one.raw_id)
    await intake.trade(one)
