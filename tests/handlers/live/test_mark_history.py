"""Marks as of the sequences that decisions name are those of the whole history, in the memory of a window of it."""

import asyncio

from domain.events import Event, MarkCaptured, MarketResolved, MarkSource, Payout, Venue
from domain.mark_prices import MarkPrices
from handlers.live.event_codec import codec
from handlers.live.mark_history import MarkHistory
from handlers.live.mark_prices import marks_at
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection

ASSETS = [("hyperliquid", f"A{number}") for number in range(5)]


def mark(number: int) -> MarkCaptured:
    return MarkCaptured(
        mark_id=f"mrk-{number}",
        venue=Venue.HYPERLIQUID,
        asset=ASSETS[number * number % len(ASSETS)][1],
        market="",
        price_micros=1_000_000 + number,
        source=MarkSource.MIDPOINT,
        venue_time=number,
        marked_at=number,
    )


def resolved() -> MarketResolved:
    return MarketResolved(
        resolution_id="res",
        venue=Venue.HYPERLIQUID,
        market="A4",
        payouts=(Payout("A4", 0),),
        resolved_at=1,
        detect_time=1,
    )


async def stored(log: Connection, count: int) -> MarkPrices:
    """So many marks in GROUPS, a resolution in the middle; the whole history of them."""
    whole, records, events = MarkPrices(history=True), [], list[tuple[str, Event]]()
    for number in range(1, count + 1):
        event: Event = resolved() if number == count // 2 else mark(number)
        events.append((f"event-{number}", event))
        key = event.asset if isinstance(event, MarkCaptured) else "resolved"
        payload = codec().encode(event, id=f"event-{number}", source="tests", time_ns=number * 1_000_000)
        records.append(Record(subjects.marks("hyperliquid", key), payload))
    landed = await append(log, records)
    for sequence, (_, event) in enumerate(events, landed.first):
        whole.evolve(event, sequence)
    return whole


def same(found: MarkPrices, whole: MarkPrices, sequence: int) -> bool:
    return all(
        (found.mark(asset, sequence), found.resolution(asset, sequence))
        == (whole.mark(asset, sequence), whole.resolution(asset, sequence))
        for asset in ASSETS
    )


async def test_any_sequence_has_the_marks_of_the_whole_history(log: Connection) -> None:
    whole = await stored(log, 900)
    history = MarkHistory(log, codec(), window=10)
    end = whole.sequence
    order = [end // 3, end // 3 - 1, end // 2, end - 5, end // 4, end // 4 + 1, 3, end, end - 30, end + 100]
    for sequence in order:
        assert same(await history.at(sequence), whole, sequence), sequence


async def test_only_a_window_of_the_history_is_kept(log: Connection) -> None:
    whole = await stored(log, 900)
    found = await MarkHistory(log, codec(), window=10).at(whole.sequence)
    assert found.forgotten > whole.sequence - 30
    assert whole.kept > 890
    assert found.kept <= 2 * 10 + len(ASSETS)


def test_what_moved_since_a_forgotten_sequence_is_still_named() -> None:
    whole, window = MarkPrices(history=True), MarkPrices(history=True)
    for number in range(1, 101):
        whole.evolve(mark(number), number)
        window.evolve(mark(number), number)
    window.keep_changes(10, 100)
    assert window.forgotten == 91
    for after in range(100):
        assert set(whole.moved(after, 100)) <= set(window.moved(after, 100))
    assert list(window.moved(95, 100)) == list(whole.moved(95, 100))


async def test_the_newest_marks_are_read_without_their_history(log: Connection) -> None:
    whole = await stored(log, 300)
    newest, then = await asyncio.gather(marks_at(log, codec()), marks_at(log, codec(), 200_000_000))
    assert same(newest, whole, whole.sequence)
    first = whole.sequence - 299
    assert all(then.mark(asset) == whole.mark(asset, first + 199) for asset in ASSETS)
