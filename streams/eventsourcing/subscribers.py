"""Subscribers as aggregates of the library: one subscriber as of a sequence of EXECUTIONS, or as of a time. Read-only.

The stored name of an event is its topic, its data the state, its stream sequence the version. Events are decoded with
the catalogue of this system, not by the library's topics, which name Python classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

import msgspec
from eventsourcing.application import Repository
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    AggregateRecorder,
    EventStore,
    JSONTranscoder,
    Mapper,
    NotSupportedError,
    PersistenceError,
    StoredEvent,
)
from msgspec import Raw, Struct

from domain import portfolio
from domain.events import CATALOGUE, Event
from domain.portfolio import Portfolio
from streams import subjects, topology
from streams.envelope import nanoseconds
from streams.errors import LogError, TopologyError, UnprocessableError
from streams.eventsourcing.stream_io import StreamIO
from streams.eventsourcing.sync_bridge import SyncBridge
from streams.reader import Stored
from streams.retry import retry_until_available
from streams.topology import EXECUTIONS


@dataclass(frozen=True)
class Subscriber:
    """A subscriber after `events` events; `version` is the sequence of the last one, `time_ns` when it was recorded.

    Without events: an empty portfolio and zeros.
    """

    id: str
    portfolio: Portfolio = field(default_factory=Portfolio)
    events: int = 0
    version: int = 0
    time_ns: int = 0


def load_subscriber(
    url: str, subscriber_id: str, *, at_sequence: int | None = None, at_time_ns: int | None = None
) -> Subscriber:
    """The subscriber as of a sequence of EXECUTIONS (included), as of a time (ns, UTC, included), or now.

    A time means all events before the first one that was recorded later. Blocks: do not call it in an event loop.
    Raises LogError, or UnprocessableError for an event that the catalogue does not know.
    """
    try:
        bridge = SyncBridge(url)
        try:
            bridge.run(_check(bridge))
            recorder = SubscriberRecorder(bridge, at_time_ns)
            store = EventStore(SubscriberMapper(JSONTranscoder()), recorder)
            repository: Repository[str] = Repository(store)
            fold = partial(_fold, Subscriber(subscriber_id))
            found: Subscriber = repository.get(subscriber_id, version=at_sequence, projector_func=fold)
            return found
        finally:
            bridge.close()
    except PersistenceError as error:
        if isinstance(error.__cause__, LogError):
            raise error.__cause__ from None
        raise


@dataclass(frozen=True)
class RecordedState(StoredEvent):
    """An event of this system: `topic` is its stored name, `originator_version` its stream sequence."""

    time_ns: int


class SubscriberRecorder(AggregateRecorder):
    """The events of subscribers on EXECUTIONS, up to a time. Versions are stream sequences: they have gaps, and the
    events of one commit share one."""

    def __init__(self, bridge: SyncBridge, until_ns: int | None = None) -> None:
        self._bridge = bridge
        self._io = StreamIO(bridge.connection, EXECUTIONS.name)
        self._until = until_ns

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Raises NotSupportedError: only the stages write EXECUTIONS."""
        raise NotSupportedError("the events of subscribers are written by the stages alone")

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[RecordedState]:
        """The events of a subscriber with gt < sequence <= lte."""
        chosen = self._bridge.run(self._select(str(originator_id), gt or 0, lte))
        if desc:
            chosen.reverse()
        return chosen[:limit]

    async def _select(self, subscriber_id: str, after: int, lte: int | None) -> list[RecordedState]:
        subject = subjects.executions(subscriber_id)
        last = await self._io.last(subject)
        end = last.sequence if last else 0
        chosen = []
        for stored in await self._io.read(subject, after, end if lte is None else min(end, lte)):
            events = _recorded(subscriber_id, stored)
            if self._until is not None and events and events[0].time_ns > self._until:
                break
            chosen += events
        return chosen


class SubscriberEvent:
    """A decoded event of a subscriber, with its sequence and time."""

    def __init__(self, originator_id: str, originator_version: int, time_ns: int, data: Event) -> None:
        self.originator_id = originator_id
        self.originator_version = originator_version
        self.time_ns = time_ns
        self.data = data


class SubscriberMapper(Mapper[str]):
    """Decodes with the catalogue of events. Raises UnprocessableError for unknown types."""

    _decoders: ClassVar = {name: msgspec.json.Decoder(event) for name, event in CATALOGUE.items()}

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """Raises NotSupportedError: only the stages write EXECUTIONS."""
        raise NotSupportedError("the events of subscribers are written by the stages alone")

    def to_domain_event(self, stored_event: StoredEvent) -> SubscriberEvent:
        """The event of a RecordedState."""
        assert isinstance(stored_event, RecordedState)
        at = f"{EXECUTIONS.name}:{stored_event.originator_version}"
        decoder = self._decoders.get(stored_event.topic)
        if decoder is None:
            raise UnprocessableError(f"{at}: event type {stored_event.topic!r} is not in the catalogue")
        try:
            data = decoder.decode(stored_event.state)
        except msgspec.MsgspecError as error:
            raise UnprocessableError(f"{at}: not a {stored_event.topic}: {error}") from error
        return SubscriberEvent(
            str(stored_event.originator_id), stored_event.originator_version, stored_event.time_ns, data
        )


async def _check(bridge: SyncBridge) -> None:
    if await retry_until_available(lambda: topology.info(bridge.connection, EXECUTIONS.name)) is None:
        raise TopologyError(f"stream {EXECUTIONS.name} does not exist; run: vibe streams apply")


class _Event(Struct):
    type: str
    data: Raw


class _Commit(Struct):
    time: str
    data: list[_Event]


_COMMIT = msgspec.json.Decoder(_Commit)


def _recorded(subscriber_id: str, stored: Stored) -> list[RecordedState]:
    """The events of a commit; they share its sequence as their version."""
    try:
        found = _COMMIT.decode(stored.payload)
        time_ns = nanoseconds(found.time)
    except msgspec.MsgspecError as error:
        raise UnprocessableError(f"{EXECUTIONS.name}:{stored.sequence}: not a commit: {error}") from error
    return [
        RecordedState(subscriber_id, stored.sequence, event.type, bytes(event.data), time_ns) for event in found.data
    ]


def _fold(initial: Subscriber, found: Subscriber | None, events: Iterable[SubscriberEvent]) -> Subscriber:
    subscriber = found or initial
    state, count, version, time_ns = subscriber.portfolio, subscriber.events, subscriber.version, subscriber.time_ns
    for event in events:
        portfolio.evolve(state, event.data)
        count, version, time_ns = count + 1, event.originator_version, event.time_ns
    return Subscriber(subscriber.id, state, count, version, time_ns)
