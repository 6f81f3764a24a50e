"""The way into RAW for both venues: each event once, in order for each address, held back for a limited time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from msgspec import Raw, structs

from domain.events import RawReceived, Venue
from handlers.ingest.hyperliquid.ingest import block_time_ms
from handlers.ingest.ordered_writer import OrderedWriter, inserted_first
from handlers.ingest.raw_writer import RawWriter
from handlers.ingest.recent_ids import RecentIds
from handlers.live.event_codec import codec
from streams.connection import Connection
from streams.reader import read_all
from tests.streams.deadlines import settled

CODEC = codec()
ALICE, BOB = "0x" + "a1" * 20, "0x" + "b2" * 20


@dataclass(frozen=True)
class Case:
    """How a venue names its events and orders inserted ones."""

    venue: Venue
    by_time: bool

    def event(self, number: int, address: str = ALICE, *, channel: str = "trades", detect_time: int = 7) -> RawReceived:
        """The event that happened as number `number`."""
        hyperliquid = self.venue is Venue.HYPERLIQUID
        raw_id = f"hl:BTC:{number}:{number}:{address}:B" if hyperliquid else f"pm:{address}:{number}:{number}:0:0"
        return RawReceived(
            raw_id=raw_id,
            venue=self.venue,
            channel=channel,
            influencer_id="alice",
            address=address,
            payload=Raw(b"{}"),
            detect_time=detect_time,
        )

    def inserted(self, number: int) -> RawReceived:
        """The same event from another source, which inserts it."""
        return self.event(number, channel="userFills", detect_time=99)

    @asynccontextmanager
    async def writing(self, log: Connection, *, hold_seconds: float = 5.0) -> AsyncIterator[OrderedWriter]:
        """A writer that stores; everything is stored at the end."""
        raw_writer = RawWriter(log, lambda: 1)
        storing = asyncio.create_task(raw_writer.run())
        order = block_time_ms if self.by_time else inserted_first
        writer = OrderedWriter(raw_writer, order=order, hold_seconds=hold_seconds)
        running = asyncio.create_task(writer.run())
        try:
            yield writer
        finally:
            running.cancel()
            await writer.release_all()
            await raw_writer.finish()
            await asyncio.wait_for(storing, 10)


HYPERLIQUID, POLYMARKET = Case(Venue.HYPERLIQUID, by_time=True), Case(Venue.POLYMARKET, by_time=False)


@pytest.fixture(params=[HYPERLIQUID, POLYMARKET], ids=lambda case: case.venue.value)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


async def stored(log: Connection) -> list[RawReceived]:
    return [
        event.data
        async for batch in read_all(log, "RAW")
        for each in batch
        for event in CODEC.decode("RAW", each.sequence, each.subject, each.payload)
    ]


async def numbers(log: Connection) -> list[int]:
    return [block_time_ms(each) for each in await stored(log)]


def test_the_order_of_hyperliquid_is_the_block_time_in_the_id() -> None:
    ids = (f"hl:BTC:17:5:{ALICE}:B", f"hl:xyz:SP500:17:x0f:{ALICE}:A")
    assert [block_time_ms(structs.replace(HYPERLIQUID.event(1), raw_id=each)) for each in ids] == [17, 17]


def test_the_newest_ids_are_remembered() -> None:
    ids = RecentIds(2)
    assert [ids.add(key) for key in ("a", "b", "a", "c", "a", "c")] == [True, True, False, True, True, False]


async def test_an_event_is_stored_at_once_and_once(log: Connection, case: Case) -> None:
    async with case.writing(log) as writer:
        assert not writer.knows(case.event(1).raw_id)
        assert await writer.put(case.event(1))
        assert not await writer.put(case.event(1))
        await settled(lambda: numbers(log), bool, 5)
        writer.restore(case.event(0))
        assert writer.knows(case.event(0).raw_id)
        assert not await writer.put(case.event(0)), "it is stored already"
        assert writer.activity[ALICE] == 2
    assert await numbers(log) == [1]


async def test_held_events_are_stored_in_order_when_released_and_others_do_not_wait(
    log: Connection, case: Case
) -> None:
    async with case.writing(log) as writer:
        writer.hold(ALICE)
        for event in (case.event(1), case.event(2), case.event(2), case.event(3, BOB)):
            await writer.put(event)
        assert await settled(lambda: numbers(log), bool, 5) == [3]
        await writer.release(ALICE)
        await writer.put(case.event(4))
    assert await numbers(log) == [3, 1, 2, 4]


async def test_no_event_is_held_for_longer_than_the_limit(log: Connection, case: Case) -> None:
    loop = asyncio.get_running_loop()
    async with case.writing(log, hold_seconds=0.3) as writer:
        writer.hold(ALICE)
        await asyncio.sleep(0.4)
        start = loop.time()
        await writer.put(case.event(1))
        writer.hold(ALICE)
        await settled(lambda: numbers(log), bool, 5)
        assert 0.3 <= loop.time() - start < 1.5, "the limit counts from the first event, and holding again adds nothing"


async def test_held_events_are_stored_at_the_end(log: Connection, case: Case) -> None:
    async with case.writing(log) as writer:
        writer.hold(ALICE)
        await writer.put(case.event(1))
    assert await numbers(log) == [1]


@pytest.mark.parametrize(
    ("case", "expected"),
    [(HYPERLIQUID, [1, 2, 3, 5, 6, 7, 8]), (POLYMARKET, [1, 2, 3, 6, 5, 7, 8])],
    ids=["hyperliquid by time", "polymarket first"],
)
async def test_inserted_events_are_sorted_among_the_held_ones(log: Connection, case: Case, expected: list[int]) -> None:
    async with case.writing(log) as writer:
        await writer.put(case.event(1))
        writer.hold(ALICE)
        for number in (5, 7):
            await writer.put(case.event(number))
        assert await writer.insert(ALICE, [case.inserted(number) for number in (1, 2, 3, 6)]) == 3
        await writer.put(case.event(8))
    assert await numbers(log) == expected


async def test_an_inserted_event_replaces_the_held_one_with_its_id(log: Connection, case: Case) -> None:
    async with case.writing(log) as writer:
        writer.hold(ALICE)
        await writer.put(case.event(5))
        assert await writer.insert(ALICE, [case.inserted(4), case.inserted(5)]) == 1
        assert not await writer.put(case.event(4)), "the other source reports it late"
    found = await stored(log)
    assert [(block_time_ms(each), each.channel, each.detect_time) for each in found] == [
        (4, "userFills", 99),
        (5, "userFills", 7),
    ], "and it has the detection time of the held one"


async def test_events_are_inserted_although_the_address_is_not_held(log: Connection, case: Case) -> None:
    async with case.writing(log) as writer:
        await writer.put(case.event(5))
        assert await writer.insert(ALICE, [case.inserted(number) for number in (4, 5, 6)]) == 2
        assert await writer.insert(ALICE, [case.inserted(number) for number in (4, 5, 6)]) == 0
    assert await numbers(log) == [5, 4, 6]


async def test_events_that_arrive_during_a_release_or_insert_keep_their_order(log: Connection, case: Case) -> None:
    async with case.writing(log) as writer:
        writer.hold(ALICE)
        for number in range(1, 500):
            await writer.put(case.event(number))
        await asyncio.gather(
            writer.release(ALICE),
            writer.insert(ALICE, [case.inserted(600)]),
            writer.put(case.event(500)),
            writer.release(ALICE),
        )
    assert sorted(await numbers(log)) == [*range(1, 501), 600]
    assert [number for number in await numbers(log) if number < 600] == list(range(1, 501))


@pytest.mark.parametrize("held", [False, True])
async def test_what_is_not_stored_yet_stays_known_however_much_comes_after_it(log: Connection, held: bool) -> None:
    raw_writer = RawWriter(log, lambda: 1)
    writer = OrderedWriter(raw_writer, remembered=2)
    if held:
        writer.hold(ALICE)
    for number in range(10):
        assert await writer.put(POLYMARKET.event(number))
    assert not await writer.put(POLYMARKET.event(0)), "nothing stores yet, so the log does not know it"
    await writer.release_all()
    storing = asyncio.create_task(raw_writer.run())
    await raw_writer.finish()
    await asyncio.wait_for(storing, 10)
    assert len(await stored(log)) == 10
    assert not raw_writer.on_the_way
    assert not writer.knows(POLYMARKET.event(0).raw_id), "from now on the log is asked"
    assert writer.knows(POLYMARKET.event(9).raw_id)
