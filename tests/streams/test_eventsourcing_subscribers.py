"""A subscriber as of a sequence or a time: the same as folding the events up to there."""

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

LIFE: list[Event] = [
    deposited("10000"),
    decided("0.5"),
    filled(TradeSide.BUY, 500_000, 50_000_000, fee_micros=20_000, attempt="att-1"),
    decided("1.5", attempt_id="att-2"),
    filled(TradeSide.BUY, 1_500_000, 153_000_000, fee_micros=60_000, attempt="att-2"),
    filled(TradeSide.SELL, 2_500_000, 260_000_000, attempt="att-3"),
    deposited("-500"),
]
"""What happens to Sam, one event each second."""


async def write(log: Connection, subscriber: str, event: Event, time_ns: int) -> int:
    payload = CODEC.encode(event, id=f"{subscriber}@{time_ns}", source="test", time_ns=time_ns)
    return (await append(log, [Record(subjects.executions(subscriber), payload)])).last


async def live(log: Connection) -> list[tuple[int, int, Event]]:
    """Sam's life, with events of others in between: (sequence, time, event)."""
    await write(log, "ann", deposited("1"), T0)
    lived = []
    for number, event in enumerate(LIFE):
        time_ns = T0 + number * SECOND
        lived.append((await write(log, "sam", event, time_ns), time_ns, event))
        await write(log, "sam.2", deposited("7", id=f"dep-{number}"), time_ns)
    return lived


async def load(running: Addresses, subscriber: str = "sam", **at: Any) -> Subscriber:
    return await asyncio.to_thread(load_subscriber, running.nats_url, subscriber, **at)


def folded(events: list[Event]) -> Portfolio:
    state = portfolio.initial
    for event in events:
        state = portfolio.evolve(state, event)
    return state


async def test_now_is_the_fold_of_all(running: Addresses, log: Connection) -> None:
    lived = await live(log)
    sequence, time_ns, _ = lived[-1]
    assert await load(running) == Subscriber("sam", folded(LIFE), len(LIFE), sequence, time_ns)
    assert (await load(running, "sam.2")).portfolio.cash_micros == 7_000_000 * len(LIFE)


async def test_as_of_each_sequence(running: Addresses, log: Connection) -> None:
    lived = await live(log)
    for at in range(lived[-1][0] + 2):
        before = [lived_event for lived_event in lived if lived_event[0] <= at]
        found = await load(running, at_sequence=at)
        assert found.portfolio == folded([event for _, _, event in before])
        assert (found.events, found.version) == (len(before), before[-1][0] if before else 0)


async def test_as_of_a_time(running: Addresses, log: Connection) -> None:
    lived = await live(log)
    for at in [T0 - 1, *(time_ns + past for _, time_ns, _ in lived for past in (0, 1, SECOND - 1, SECOND))]:
        before = [lived_event for lived_event in lived if lived_event[1] <= at]
        found = await load(running, at_time_ns=at)
        assert found.portfolio == folded([event for _, _, event in before])
        assert (found.events, found.time_ns) == (len(before), before[-1][1] if before else 0)


async def test_a_clock_that_went_back_cannot_make_a_state_that_never_was(running: Addresses, log: Connection) -> None:
    for seconds in (0, 5, 3, 6):
        await write(log, "sam", deposited("1"), T0 + seconds * SECOND)
    assert (await load(running, at_time_ns=T0 + 4 * SECOND)).events == 1


async def test_sequence_and_time_together(running: Addresses, log: Connection) -> None:
    lived = await live(log)
    assert (await load(running, at_sequence=lived[2][0], at_time_ns=lived[4][1])).events == 3
    assert (await load(running, at_sequence=lived[4][0], at_time_ns=lived[2][1])).events == 3


async def test_nobody_has_an_empty_portfolio(running: Addresses, log: Connection) -> None:
    assert await load(running, "nobody") == Subscriber("nobody")


async def test_an_unknown_event_is_named_with_its_place(running: Addresses, log: Connection) -> None:
    await write(log, "sam", deposited("1"), T0)
    payload = CODEC.encode(deposited("1"), id="x", source="test", time_ns=T0).replace(b"cash.", b"fish.")
    await append(log, [Record(subjects.executions("sam"), payload)])
    with pytest.raises(UnprocessableError, match=r"EXECUTIONS:2: event type 'fish\."):
        await load(running)
    await append(log, [Record(subjects.executions("eve"), b"[]")])
    with pytest.raises(UnprocessableError, match="EXECUTIONS:3: not a stored event"):
        await load(running, "eve")


async def test_errors_of_the_log_stay_ours(running: Addresses, log: Connection) -> None:
    await log.api(f"STREAM.DELETE.{EXECUTIONS.name}")
    with pytest.raises(TopologyError, match="vibe streams apply"):
        await load(running)


async def test_the_recorder_shows_names_and_data_and_writes_nothing(running: Addresses, log: Connection) -> None:
    lived = await live(log)
    bridge = await asyncio.to_thread(SyncBridge, running.nats_url)
    recorder = SubscriberRecorder(bridge)
    found = await asyncio.to_thread(recorder.select_events, "sam", gt=lived[0][0], lte=lived[2][0])
    assert [event.originator_version for event in found] == [lived[1][0], lived[2][0]]
    assert [event.topic for event in found] == [CODEC.name(event) for event in LIFE[1:3]]
    newest = await asyncio.to_thread(recorder.select_events, "sam", desc=True, limit=1)
    assert [event.originator_version for event in newest] == [lived[-1][0]]
    with pytest.raises(NotSupportedError):
        recorder.insert_events([StoredEvent("sam", 1, "cash.deposited", b"{}")])
    await asyncio.to_thread(bridge.close)
