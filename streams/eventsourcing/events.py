"""Events of aggregates: one literal subject per aggregate, whose last sequence is the expected version of an append.

As in the library's other recorders a version is unique within its aggregate; it need not be contiguous or the newest (a
snapshot may be taken of an old version).
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eventsourcing.persistence import AggregateRecorder, IntegrityError, StoredEvent

from streams.append import Record
from streams.eventsourcing import serialization
from streams.eventsourcing.recorder import Decide, StreamRecorder, check_size
from streams.reader import Stored


class _Versions:
    """The versions of one aggregate, as far as they are needed to add some."""

    def __init__(self, tail: Stored | None) -> None:
        self.sequence = tail.sequence if tail else 0
        self.newest = serialization.decode(tail.payload).newest_version if tail else None
        self.taken: set[int] = set()
        self.complete = tail is None
        self.appended = False

    def add(self, version: int) -> int:
        """Add a version; returns the newest one."""
        self.taken.add(version)
        self.newest = version if self.newest is None else max(self.newest, version)
        return self.newest


class JetStreamAggregateRecorder(StreamRecorder, AggregateRecorder):
    """Inserts and selects events; one insert is one atomic batch."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Raises IntegrityError when a version exists, ProgrammingError for more than 1,000 events."""
        self._insert(stored_events)
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events with gt < version <= lte, by version, including all earlier inserts."""
        return self.bridge.run(self._select(originator_id, gt, lte, desc, limit))

    def _insert(self, events: Sequence[StoredEvent], rows: Decide | None = None) -> list[int] | None:
        """Append events and, in the same batch, the records of `rows`; returns the sequences of the events."""
        if not events and rows is None:
            return None
        check_size(len(events) + (rows is not None))

        async def decide(commit: str) -> list[Record]:
            return await self._records(events, commit) + (await rows(commit) if rows else [])

        first = self.bridge.run(self._commit(decide))
        return list(range(first, first + len(events)))

    async def _records(self, events: Sequence[StoredEvent], commit: str) -> list[Record]:
        subjects = [serialization.event_subject(self.stream, event.originator_id) for event in events]
        distinct = list(dict.fromkeys(subjects))
        tails = await asyncio.gather(*map(self._io.last, distinct))
        aggregates = {subject: _Versions(tail) for subject, tail in zip(distinct, tails, strict=True)}
        records = []
        for subject, event in zip(subjects, events, strict=True):
            known, version = aggregates[subject], event.originator_version
            if known.newest is not None and version <= known.newest and not known.complete:
                stored = await self._io.read(subject, 0, known.sequence)
                known.taken.update(serialization.decode(found.payload).version for found in stored)
                known.complete = True
            if version in known.taken:
                raise IntegrityError(f"version {version} of {event.originator_id} is recorded already")
            payload = serialization.encode(event, self.stream, commit, known.add(version))
            records.append(Record(subject, payload, expected=None if known.appended else known.sequence))
            known.appended = True
        return records

    async def _select(
        self, originator_id: UUID | str, gt: int | None, lte: int | None, desc: bool, limit: int | None
    ) -> list[StoredEvent]:
        subject = serialization.event_subject(self.stream, originator_id)
        end = await self._io.last(subject)
        if end is None or limit == 0:
            return []
        last = serialization.decode(end.payload)
        if gt is not None and last.newest_version <= gt:
            return []
        if desc and limit == 1 and last.version == last.newest_version and (lte is None or last.version <= lte):
            return [last.event()]
        stored_events = [
            serialization.decode(stored.payload) for stored in await self._io.read(subject, 0, end.sequence)
        ]
        wanted = [f for f in stored_events if (gt is None or f.version > gt) and (lte is None or f.version <= lte)]
        wanted.sort(key=lambda f: f.version, reverse=desc)
        return [f.event() for f in wanted[:limit]]
