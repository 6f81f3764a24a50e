"""A subscriber as of a sequence or a time equals the fold of the events up to there."""

import asyncio
from typing import Any

import pytest
from eventsourcing.persistence import NotSupportedError, StoredEvent

from domain import portfolio
from domain.events import CATALOGUE, Event, TradeSide
from domain.portfolio import Portfolio
from gateways.embedded import Addresses
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.envelope import Codec
from streams.errors import TopologyError, UnprocessableError
from streams.eventsourcing import Subscriber, load_subscriber
from streams.eventsourcing.subscribers import SubscriberRecorder
from streams.eventsourcing.sync_bridge import SyncBridge
from streams.topology import EXECUTIONS
from tests.domain.facts import T0, decided, deposited, filled

CODEC = Codec(CATALOGUE)
SECOND = 1_000_000_000

HISTORY: list[Event] = [
    deposited("10000"),
    decided("0.5"),
    filled(TradeSide.BUY, 500_000, 50_000_000, fee_micros=20_000, attempt="att-1"),
    decided("1.5", attempt_id="att-2"),
    filled(TradeSide.BUY, 1_500_000, 153_000_000, fee_micros=60_000, attempt="att-2"),
    filled(TradeSide.SELL, 2_500_000, 260_000_000, attempt="att-3"),
    deposited("-500"),
]
"""The events of subscriber sam, one per second."""


async def write(log: Connection, subscriber: str, event: Event, time_ns: int) -> int:
    payload = CODEC.encode(event, id=f"{subscriber}@{time_ns}", source="test", time_ns=time_ns)
    return (await append(log, [Record(subjects.executions(subscriber), payload)])).last


async def append_history(log: Connection) -> list[tuple[int, int, Event]]:
    """Append the events of sam, between those of other subscribers; returns (sequence, time, event) of each."""
    await write(log, "ann", deposited("1"), T0)
    recorded = []
    for number, event in enumerate(HISTORY):
        time_ns = T0 + number * SECOND
        recorded.append((await write(log, "sam", event, time_ns), time_ns, event))
        await write(log, "sam.2", deposited("7", id=f"dep-{number}"), time_ns)
    return recorded


async def load(running: Addresses, subscriber: str = "sam", **at: Any) -> Subscriber:
    return await asyncio.to_thread(load_subscriber, running.nats_url, subscriber, **at)


def folded(events: list[Event]) -> Portfolio:
    state = Portfolio()
    for event in events:
        portfolio.evolve(state, event)
    return state


async def test_the_newest_state_is_the_fold_of_all_events(running: Addresses, log: Connection) -> None:
    recorded = await append_history(log)
    sequence, time_ns, _ = recorded[-1]
    assert await load(running) == Subscriber("sam", folded(HISTORY), len(HISTORY), sequence, time_ns)
    assert (await load(running, "sam.2")).portfolio.cash_micros == 7_000_000 * len(HISTORY)


async def test_as_of_each_sequence(running: Addresses, log: Connection) -> None:
    recorded = await append_history(log)
    for at in range(recorded[-1][0] + 2):
        before = [each for each in recorded if each[0] <= at]
        found = await load(running, at_sequence=at)
        assert found.portfolio == folded([event for _, _, event in before])
        assert (found.events, found.version) == (len(before), before[-1][0] if before else 0)


async def test_as_of_a_time(running: Addresses, log: Connection) -> None:
    recorded = await append_history(log)
    for at in [T0 - 1, *(time_ns + past for _, time_ns, _ in recorded for past in (0, 1, SECOND - 1, SECOND))]:
        before = [each for each in recorded if each[1] <= at]
        found = await load(running, at_time_ns=at)
        assert found.portfolio == folded([event for _, _, event in before])
        assert (found.events, found.time_ns) == (len(before), before[-1][1] if before else 0)


async def test_a_clock_that_went_back_gives_an_earlier_state(running: Addresses, log: Connection) -> None:
    for seconds in (0, 5, 3, 6):
        await write(log, "sam", deposited("1"), T0 + seconds * SECOND)
    assert (await load(running, at_time_ns=T0 + 4 * SECOND)).events == 1


async def test_sequence_and_time_together(running: Addresses, log: Connection) -> None:
    recorded = await append_history(log)
    assert (await load(running, at_sequence=recorded[2][0], at_time_ns=recorded[4][1])).events == 3
    assert (await load(running, at_sequence=recorded[4][0], at_time_ns=recorded[2][1])).events == 3


async def test_an_unknown_subscriber_has_an_empty_portfolio(running: Addresses, log: Connection) -> None:
    assert await load(running, "unknown") == Subscriber("unknown")


async def test_an_unknown_event_is_named_with_its_sequence(running: Addresses, log: Connection) -> None:
    await write(log, "sam", deposited("1"), T0)
    payload = CODEC.encode(deposited("1"), id="x", source="test", time_ns=T0).replace(b"cash.", b"fish.")
    await append(log, [Record(subjects.executions("sam"), payload)])
    with pytest.raises(UnprocessableError, match=r"EXECUTIONS:2: event type 'fish\."):
        await load(running)
    await append(log, [Record(subjects.executions("eve"), b"[]")])
    with pytest.raises(UnprocessableError, match="EXECUTIONS:3: not a commit"):
        await load(running, "eve")


async def test_errors_of_the_log_are_raised_unchanged(running: Addresses, log: Connection) -> None:
    await log.api(f"STREAM.DELETE.{EXECUTIONS.name}")
    with pytest.raises(TopologyError, match="vibe streams apply"):
        await load(running)


async def test_the_recorder_is_read_only(running: Addresses, log: Connection) -> None:
    recorded = await append_history(log)
    bridge = await asyncio.to_thread(SyncBridge, running.nats_url)
    recorder = SubscriberRecorder(bridge)
    found = await asyncio.to_thread(recorder.select_events, "sam", gt=recorded[0][0], lte=recorded[2][0])
    assert [event.originator_version for event in found] == [recorded[1][0], recorded[2][0]]
    assert [event.topic for event in found] == [CODEC.name(event) for event in HISTORY[1:3]]
    newest = await asyncio.to_thread(recorder.select_events, "sam", desc=True, limit=1)
    assert [event.originator_version for event in newest] == [recorded[-1][0]]
    with pytest.raises(NotSupportedError):
        recorder.insert_events([StoredEvent("sam", 1, "cash.deposited", b"{}")])
    await asyncio.to_thread(bridge.close)
