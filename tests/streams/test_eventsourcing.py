"""Recorders beyond the library's own test cases: batches, lost answers, errors, missing events."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Tracking,
)
from eventsourcing.utils import Environment

from gateways.embedded import Addresses
from streams import append as log
from streams.append import Landed, Record
from streams.connection import Connection
from streams.errors import (
    ConflictError,
    DataLossError,
    DuplicateError,
    LogError,
    RefusedError,
    TopologyError,
    UnavailableError,
    UnknownOutcomeError,
)
from streams.eventsourcing import Factory, serialization
from streams.eventsourcing.notifications import JetStreamApplicationRecorder
from streams.eventsourcing.sync_bridge import SyncBridge, translated

NUMBERS = itertools.count(1)


@pytest.fixture
def environment(running: Addresses) -> Environment:
    return Environment("Shop", {"NATS_URL": running.nats_url, "NATS_STREAM": f"own{next(NUMBERS)}"})


@pytest.fixture
def factory(environment: Environment) -> Iterator[Factory]:
    made = Factory(environment)
    yield made
    made.close()


def event(originator: UUID | str, version: int, state: bytes = b"{}") -> StoredEvent:
    return StoredEvent(originator, version, "topic", state)


# --- batches -----------------------------------------------------------------------------------------------


def test_events_of_several_aggregates_are_stored_atomically(factory: Factory) -> None:
    recorder = factory.application_recorder()
    one, two, three = uuid4(), uuid4(), uuid4()
    assert recorder.insert_events([event(one, 1), event(two, 1), event(one, 2)]) == [1, 2, 3]
    with pytest.raises(IntegrityError):
        recorder.insert_events([event(three, 1), event(one, 3), event(two, 1)])
    assert recorder.select_events(three) == []
    assert recorder.select_events(one) == [event(one, 1), event(one, 2)]
    assert recorder.insert_events([event(one, 3), event(two, 2)]) == [4, 5]


def test_an_insert_holds_at_most_a_thousand_events(factory: Factory) -> None:
    recorder = factory.process_recorder()
    events = [event("big", version) for version in range(1, 1001)]
    with pytest.raises(ProgrammingError, match="1,001 events"):
        recorder.insert_events([*events, event("big", 1001)])
    with pytest.raises(ProgrammingError, match="1,001 events and tracking rows"):
        recorder.insert_events(events, tracking=Tracking("upstream", 1))
    assert recorder.insert_events(events) == list(range(1, 1001))
    assert recorder.select_events("big", gt=990) == events[990:]


def test_a_refused_tracking_row_refuses_its_events(factory: Factory) -> None:
    recorder = factory.process_recorder()
    recorder.insert_events([event("one", 1)], tracking=Tracking("upstream", 5))
    with pytest.raises(IntegrityError):
        recorder.insert_events([event("one", 2)], tracking=Tracking("upstream", 5))
    with pytest.raises(IntegrityError):
        recorder.insert_events([event("one", 1)], tracking=Tracking("upstream", 6))
    assert recorder.max_tracking_id("upstream") == 5
    assert recorder.select_events("one") == [event("one", 1)]
    # Sequence 2 is the tracking row.
    assert recorder.insert_events([event("one", 2)], tracking=Tracking("upstream", 6)) == [3]
    assert [found.id for found in recorder.select_notifications(None, 10)] == [1, 3]
    assert recorder.max_notification_id() == 3


def test_versions_are_unique_in_any_order(factory: Factory) -> None:
    snapshots = factory.aggregate_recorder("snapshots")
    for version in (5, 2, 9):
        snapshots.insert_events([event("one", version)])
    snapshots.insert_events([event("one", 10), event("one", 4)])
    for version in (2, 4, 5, 9, 10):
        with pytest.raises(IntegrityError):
            snapshots.insert_events([event("one", version)])
        with pytest.raises(IntegrityError):
            snapshots.insert_events([event("one", 100), event("one", version)])

    def versions(**wanted: Any) -> list[int]:
        return [found.originator_version for found in snapshots.select_events("one", **wanted)]

    assert versions() == [2, 4, 5, 9, 10]
    assert versions(desc=True, limit=1) == [10]
    assert versions(desc=True, limit=1, lte=8) == [5]
    assert versions(gt=4, lte=9) == [5, 9]
    assert versions(gt=9) == [10]
    assert versions(gt=10) == []


# --- lost answers ------------------------------------------------------------------------------------------


class FaultyAppend:
    """Appends with faults: 'lost' (stored, no answer), 'dropped' (not stored, no answer), 'busy' (refused because of an
    append in progress with an open outcome), 'interrupted' (the leader changed within the batch)."""

    def __init__(self, *faults: str) -> None:
        self._append = log.append
        self._faults = list(faults)
        self.sent: list[Sequence[Record]] = []

    async def append(self, connection: Connection, records: Sequence[Record]) -> Landed:
        self.sent.append(records)
        fault = self._faults.pop(0) if self._faults else "none"
        match fault:
            case "dropped":
                raise UnknownOutcomeError("no answer")
            case "busy":
                raise ConflictError(records[0].subject, 0, None)
            case "interrupted":
                raise RefusedError("the batch is incomplete", 10176)
        landed = await self._append(connection, records)
        if fault == "lost":
            raise UnknownOutcomeError("no answer")
        return landed


@pytest.mark.parametrize(
    "faults",
    [
        ("lost",),
        ("dropped",),
        ("dropped", "lost"),
        ("dropped", "dropped"),
        ("dropped", "busy"),
        ("interrupted", "lost"),
    ],
)
def test_an_insert_without_an_answer_is_stored_once(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, faults: tuple[str, ...]
) -> None:
    recorder = factory.process_recorder()
    recorder.insert_events([event("one", 1)])
    faulty = FaultyAppend(*faults)
    monkeypatch.setattr(log, "append", faulty.append)
    pair = [event("one", 2), event("two", 1)]
    assert recorder.insert_events(pair, tracking=Tracking("upstream", 7)) == [2, 3]
    assert all(records == faulty.sent[0] for records in faulty.sent)
    assert recorder.max_tracking_id("upstream") == 7
    assert [found.id for found in recorder.select_notifications(None, 10)] == [1, 2, 3]


@pytest.mark.parametrize("contested", ["one", "two"])
def test_an_insert_without_an_answer_loses_to_a_faster_writer(
    factory: Factory, environment: Environment, monkeypatch: pytest.MonkeyPatch, contested: str
) -> None:
    recorder, rival = factory.application_recorder(), Factory(environment)
    other = rival.application_recorder()
    undisturbed = log.append

    async def append(connection: Connection, records: Sequence[Record]) -> Landed:
        monkeypatch.setattr(log, "append", undisturbed)
        await asyncio.to_thread(other.insert_events, [event(contested, 1), event(contested, 2)])
        raise UnknownOutcomeError("no answer")

    monkeypatch.setattr(log, "append", append)
    with pytest.raises(IntegrityError):
        recorder.insert_events([event("one", 1), event("two", 1)])
    assert [found.originator_id for found in recorder.select_notifications(None, 10)] == [contested, contested]
    rival.close()


def test_an_insert_that_is_never_answered_raises(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = factory.application_recorder()
    recorder = JetStreamApplicationRecorder(usual.bridge, usual.stream, give_up_after=0.1)
    monkeypatch.setattr(log, "append", FaultyAppend(*["dropped"] * 100).append)
    with pytest.raises(OperationalError, match="no answer"):
        recorder.insert_events([event("one", 1)])


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConflictError("subject", 1, 2), IntegrityError),
        (DuplicateError("twice"), IntegrityError),
        (UnavailableError("away"), OperationalError),
        (UnknownOutcomeError("no answer"), OperationalError),
        (DataLossError("STREAM", 1, 2), OperationalError),
        (RefusedError("too large"), ProgrammingError),
        (TopologyError("no such stream"), ProgrammingError),
    ],
)
def test_errors_of_the_log_are_translated(error: LogError, expected: type[Exception]) -> None:
    assert type(translated(error)) is expected
    assert str(translated(error)) == str(error)


def test_an_event_that_is_too_large_is_refused(factory: Factory) -> None:
    recorder = factory.application_recorder()
    with pytest.raises(ProgrammingError, match="max_payload"):
        recorder.insert_events([event("one", 1, b"x" * 9_000_000)])
    assert recorder.select_events("one") == []


def test_calls_after_close_raise(factory: Factory) -> None:
    recorder = factory.application_recorder()
    subscription = recorder.subscribe()
    factory.close()
    with pytest.raises(InterfaceError):
        recorder.select_events("one")
    with pytest.raises(InterfaceError):
        next(subscription)
    subscription.stop()
    factory.close()


def test_streams_of_another_kind_are_refused(factory: Factory, running: Addresses) -> None:
    name = f"{factory.env['NATS_STREAM']}_shop_events"
    bridge = SyncBridge(running.nats_url)
    config = {"name": name, "subjects": [f"es.{name}.>"], "storage": "file", "allow_direct": True}
    bridge.run(bridge.connection.api(f"STREAM.CREATE.{name}", config))
    with pytest.raises(ProgrammingError, match="allow_atomic"):
        factory.application_recorder()
    bridge.close()


@pytest.mark.parametrize("replicas", ["0", "many", "-3", ""])
def test_an_invalid_number_of_replicas_is_refused(environment: Environment, replicas: str) -> None:
    with pytest.raises(OSError, match="NATS_REPLICAS"):
        Factory(Environment("Shop", {**environment, "NATS_REPLICAS": replicas}))


def test_a_missing_stream_is_not_an_empty_one(factory: Factory) -> None:
    factory.env["CREATE_TABLE"] = "n"
    with pytest.raises(ProgrammingError, match="does not exist"):
        factory.application_recorder()


def test_missing_events_are_never_skipped(factory: Factory, running: Addresses) -> None:
    name = f"{factory.env['NATS_STREAM']}_shop_events"
    bridge = SyncBridge(running.nats_url)
    config = {"name": name, "subjects": [f"es.{name}.>"], "allow_direct": True, "allow_atomic": True}
    bridge.run(bridge.connection.api(f"STREAM.CREATE.{name}", config))
    factory.env["CREATE_TABLE"] = "n"
    recorder = factory.application_recorder()
    recorder.insert_events([event("one", version) for version in range(1, 6)])
    bridge.run(bridge.connection.api(f"STREAM.MSG.DELETE.{name}", {"seq": 3, "no_erase": True}))
    with pytest.raises(OperationalError, match=r"3\.\.3 are missing"):
        recorder.select_notifications(None, 10)
    subscription = recorder.subscribe()
    with subscription, pytest.raises(OperationalError, match=r"3\.\.3 are missing"):
        list(subscription)
    bridge.close()


# --- names and serialization ---------------------------------------------------------------------------------------


def test_applications_under_one_prefix_have_streams_of_their_own(environment: Environment) -> None:
    prefix = environment["NATS_STREAM"]
    with Factory(environment) as shop, Factory(Environment("Till.2", dict(environment))) as till:
        assert shop.application_recorder().stream == f"{prefix}_shop_events"
        assert shop.tracking_recorder().stream == f"{prefix}_shop_tracking"
        assert till.process_recorder().stream == f"{prefix}_till_2_events"
        assert till.aggregate_recorder("snapshots").stream == f"{prefix}_till_2_snapshots"
        shop.close()
        till.close()


@pytest.mark.parametrize("originator", [UUID(int=1), "a.b *>é", str(UUID(int=2))])
@pytest.mark.parametrize("state", [b"", b"\x00\xff", b'{"a": 1}', b' {"a":1}', b"null", b'"\xff"', '"é"'.encode()])
def test_ids_and_states_are_restored_exactly(factory: Factory, originator: UUID | str, state: bytes) -> None:
    recorder = factory.application_recorder()
    recorder.insert_events([event(originator, 1, state)])
    [found] = recorder.select_notifications(None, 1)
    assert (found.originator_id, found.state) == (originator, state)
    assert recorder.select_events(originator) == [event(originator, 1, state)]


def test_states_in_json_are_readable_in_the_log() -> None:
    stored = serialization.encode(event("one", 3, b'{"price": 5}'), "shop_events", "commit-1", 3)
    assert stored == (
        b'{"specversion":"1.0","type":"topic","source":"eventsourcing/shop_events","id":"one:3","originator":"one",'
        b'"kind":"text","version":3,"commit":"commit-1","data":{"price": 5}}'
    )


def test_an_aggregate_at_a_version_with_snapshots_taken_in_any_order(environment: Environment) -> None:
    class Counter(Aggregate):
        pass

    variables = {**environment, "PERSISTENCE_MODULE": "streams.eventsourcing", "IS_SNAPSHOTTING_ENABLED": "y"}
    with Application[UUID](env=variables) as app:
        counter = Counter()
        for _ in range(9):
            counter.trigger_event(Aggregate.Event)
        app.save(counter)
        for version in (8, 3, None):
            app.take_snapshot(counter.id, version=version)
        for version in range(1, 11):
            found: Counter = app.repository.get(counter.id, version=version)
            assert found.version == version
        app.close()
