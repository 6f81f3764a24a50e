"""The library's ProjectionRunner over events of this system, to measure what a read model built with it would cost.

Only for the comparison in `vibe bench projections`; `projections/` builds the read models.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Event as Flag
from typing import Any

import msgspec
from eventsourcing.application import Application
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    JSONTranscoder,
    Mapper,
    NotSupportedError,
    StoredEvent,
    Tracking,
    TrackingRecorder,
    Transcoder,
)
from eventsourcing.projection import Projection, ProjectionRunner

from domain.events import CATALOGUE, Event

_BATCH = 500

Store = Callable[[int, Event], None]
"""Stores the rows of one event together with its position, in one transaction."""


class Fact:
    """An event as the library passes it to a projection."""

    def __init__(self, originator_id: str, originator_version: int, data: Event) -> None:
        self.originator_id = originator_id
        self.originator_version = originator_version
        self.data = data


class _Mapper(Mapper[str]):
    _decoders = {name: msgspec.json.Decoder(event) for name, event in CATALOGUE.items()}  # noqa: RUF012

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        raise NotSupportedError("events are recorded in their stored form")

    def to_domain_event(self, stored_event: StoredEvent) -> Fact:
        data = self._decoders[stored_event.topic].decode(stored_event.state)
        return Fact(str(stored_event.originator_id), stored_event.originator_version, data)


class Facts(Application[str]):
    """An application whose events are events of this system."""

    def construct_mapper(self, mapper_class: type[Mapper[str]] | None = None) -> Mapper[str]:
        return _Mapper(self.construct_transcoder())

    def construct_transcoder(self) -> Transcoder:
        return JSONTranscoder()


def project(url: str, name: str, facts: Sequence[tuple[str, str, bytes]], store: Store) -> float:
    """Record events (aggregate, stored name, data) and project them; returns the seconds that the projection took.

    Blocks. Creates a stream `<name>_facts_events`, which the caller has to delete.
    """
    environment = {"PERSISTENCE_MODULE": "streams.eventsourcing", "NATS_URL": url, "NATS_STREAM": name}
    versions: Counter[str] = Counter()
    with Facts(environment) as application:
        for start in range(0, len(facts), _BATCH):
            events = []
            for aggregate, kind, data in facts[start : start + _BATCH]:
                versions[aggregate] += 1
                events.append(StoredEvent(aggregate, versions[aggregate], kind, data))
            application.recorder.insert_events(events)
    done = Flag()

    class View(TrackingRecorder):
        """Counts tracked positions; `store` keeps the rows."""

        def __init__(self, *_: Any) -> None:
            self._reached: int | None = None
            self._count = 0

        def insert_tracking(self, tracking: Tracking) -> None:
            self._reached = tracking.notification_id
            self._count += 1
            if self._count == len(facts):
                done.set()

        def max_tracking_id(self, application_name: str) -> int | None:
            return self._reached

    class Rows(Projection[View]):
        name = "rows"

        def process_event(self, domain_event: Fact, tracking: Tracking) -> None:
            store(tracking.notification_id, domain_event.data)
            self.view.insert_tracking(tracking)

    begun = time.perf_counter()
    with ProjectionRunner(application_class=Facts, projection_class=Rows, view_class=View, env=environment) as runner:
        while not done.wait(0.05):
            if runner.is_interrupted.is_set():
                break
        return time.perf_counter() - begun
