"""Tracking rows: how far the events of other applications have been processed, one subject per application."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from eventsourcing.persistence import IntegrityError, ProcessRecorder, StoredEvent, Tracking, TrackingRecorder

from streams.append import Record
from streams.eventsourcing import serialization
from streams.eventsourcing.notifications import JetStreamApplicationRecorder
from streams.eventsourcing.recorder import StreamRecorder


class JetStreamTrackingRecorder(StreamRecorder, TrackingRecorder):
    """Positions only increase: a row that is not above the last one is refused."""

    def insert_tracking(self, tracking: Tracking) -> None:
        """Raises IntegrityError when this notification or a later one has been tracked."""
        self.bridge.run(self._commit(partial(self._rows, tracking)))

    def max_tracking_id(self, application_name: str) -> int | None:
        """The newest position in an application's sequence, from the stream's leader."""
        return self.bridge.run(self._tracked(application_name))[0]

    async def _rows(self, tracking: Tracking, commit: str) -> list[Record]:
        reached, expected = await self._tracked(tracking.application_name)
        if reached is not None and reached >= tracking.notification_id:
            raise IntegrityError(
                f"{tracking.application_name} has been processed up to {reached}; expected a position below "
                f"{tracking.notification_id}"
            )
        row = serialization.TrackingRow(
            application=tracking.application_name, notification_id=tracking.notification_id, commit=commit
        )
        subject = serialization.tracking_subject(self.stream, tracking.application_name)
        return [Record(subject, msgspec.json.encode(row), expected=expected)]

    async def _tracked(self, application_name: str) -> tuple[int | None, int]:
        last = await self._io.last(serialization.tracking_subject(self.stream, application_name))
        if last is None:
            return None, 0
        return serialization.decode_row(last.payload).notification_id, last.sequence


class JetStreamProcessRecorder(JetStreamTrackingRecorder, JetStreamApplicationRecorder, ProcessRecorder):
    """Events and the tracking row of the event that caused them, in one atomic batch of one stream."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """With `tracking=`, inserts that row too. Raises like both recorders; the row counts toward the 1,000
        events."""
        tracking: Tracking | None = kwargs.get("tracking")
        return self._insert(stored_events, partial(self._rows, tracking) if tracking else None)
