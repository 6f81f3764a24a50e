"""Following gaps: each once, of one venue, after a sequence, whatever else is in SIGNALS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from domain.events import GapDetected, GapKind, Venue
from handlers.ingest.gap_subscription import follow_detected_gaps
from handlers.live.event_codec import codec
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from tests.streams.deadlines import eventually

CODEC = codec()
ALICE = "0x" + "a1" * 20


def gap(number: int, *, venue: Venue = Venue.HYPERLIQUID, influencer: str = "alice") -> GapDetected:
    return GapDetected(
        gap_id=f"gap_{number}",
        kind=GapKind.START_POSITION,
        influencer_id=influencer,
        venue=venue,
        address=ALICE,
        asset="BTC",
        expected_micros=0,
        found_micros=number,
        source_event_id=f"hl:BTC:{number}:1:{ALICE}:B",
        event_time=number,
        detect_time=number,
    )


async def store(log: Connection, *gaps: GapDetected, token: str = subjects.GAP_TOKEN) -> int:
    """Append gaps; returns the sequence of the last."""
    sequence = 0
    for one in gaps:
        subject = subjects.signals(one.influencer_id, one.venue.value, token)
        payload = CODEC.encode(one, id=one.gap_id, source="tests", time_ns=1)
        sequence = (await append(log, [Record(subject, payload, one.gap_id)])).last
    return sequence


@asynccontextmanager
async def following(log: Connection, after: int = 0, venue: Venue = Venue.HYPERLIQUID) -> AsyncIterator[list[int]]:
    """The gaps that a follower receives, by number."""
    found: list[int] = []
    stop = asyncio.Event()
    task = asyncio.create_task(
        follow_detected_gaps(log, CODEC, venue, after, lambda event: found.append(event.found_micros), stop)
    )
    try:
        yield found
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


async def test_gaps_stored_before_and_after_come_once_in_order(log: Connection) -> None:
    await store(log, gap(1), gap(2, influencer="bob"))
    async with following(log) as found:
        await eventually(lambda: found == [1, 2], 5)
        await store(log, gap(3, influencer="carol"), gap(4))
        await eventually(lambda: found == [1, 2, 3, 4], 5)
    assert found == [1, 2, 3, 4]


async def test_only_gaps_after_the_given_sequence(log: Connection) -> None:
    after = await store(log, gap(1), gap(2))
    async with following(log, after) as found:
        await store(log, gap(3))
        await eventually(lambda: bool(found), 5)
    assert found == [3]


async def test_only_gaps_of_the_venue_and_unreadable_events_are_skipped(log: Connection) -> None:
    async with following(log) as found, following(log, venue=Venue.POLYMARKET) as others:
        await store(log, gap(1, venue=Venue.POLYMARKET))
        await store(log, gap(2), token="BTC")
        subject = subjects.signals("alice", "hyperliquid", subjects.GAP_TOKEN)
        await append(log, [Record(subject, b"{not an event", "broken")])
        await store(log, gap(3))
        await eventually(lambda: bool(found and others), 5)
    assert (found, others) == ([3], [1])
