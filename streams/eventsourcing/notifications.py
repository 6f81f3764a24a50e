"""The application sequence: all events of a stream in order; the stream sequence is the notification id."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from eventsourcing.persistence import ApplicationRecorder, Notification, StoredEvent, Subscription

from streams.eventsourcing import serialization
from streams.eventsourcing.events import JetStreamAggregateRecorder
from streams.eventsourcing.stream_io import PAGE
from streams.reader import Stored, StreamSubscription
from streams.retry import retry_until_available


class JetStreamApplicationRecorder(JetStreamAggregateRecorder, ApplicationRecorder):
    """Ids increase without gaps, except that tracking rows in the stream of a process use some of them."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """The ids of the events. Raises like the aggregate recorder."""
        return self._insert(stored_events)

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Up to `limit` notifications with start <= id <= stop. Raises OperationalError when events are missing."""
        after = 0 if start is None else start - inclusive_of_start
        return self.bridge.run(self._notifications(max(after, 0), limit, stop, frozenset(topics)))

    def max_notification_id(self) -> int | None:
        """The id of the newest event, from the stream's leader; None without events."""
        return self.bridge.run(self._max_id())

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """An iterator over the notifications with id > gt, which waits for new ones until it is stopped."""
        return JetStreamSubscription(self, gt=gt, topics=topics)

    def notification(self, stored: Stored, topics: frozenset[str]) -> Notification | None:
        """The notification in a message; None for a tracking row or another topic."""
        if not stored.subject.startswith(f"es.{self.stream}.event."):
            return None
        found = serialization.decode(stored.payload)
        if topics and found.type not in topics:
            return None
        return Notification(found.originator_id, found.version, found.type, found.state, stored.sequence)

    async def _max_id(self) -> int | None:
        last = await self._io.last(f"es.{self.stream}.event.>")
        return last.sequence if last else None

    async def _notifications(
        self, after: int, limit: int, stop: int | None, topics: frozenset[str]
    ) -> list[Notification]:
        end = await self._max_id() or 0
        if stop is not None:
            end = min(end, stop)
        chosen: list[Notification] = []
        while after < end and len(chosen) < limit:
            page = await self._io.read(None, after, end, PAGE if topics else min(PAGE, limit - len(chosen)))
            after = page[-1].sequence
            chosen += [found for stored in page if (found := self.notification(stored, topics))]
        return chosen[:limit]


class JetStreamSubscription(Subscription[JetStreamApplicationRecorder]):
    """Reads through its own stream subscription; any thread may call `stop`, also while another one waits."""

    def __init__(self, recorder: JetStreamApplicationRecorder, gt: int | None = None, topics: Sequence[str] = ()):
        super().__init__(recorder, gt, topics)
        self._bridge = recorder.bridge
        self._arrived: deque[Notification] = deque()
        self._subscription: StreamSubscription | None = None

    def __next__(self) -> Notification:
        while not self._has_been_stopped:
            if self._arrived:
                notification = self._arrived.popleft()
                self._last_notification_id = notification.id
                return notification
            self._arrived.extend(self._bridge.run(self._more()))
        raise StopIteration

    def stop(self) -> None:
        """End the iteration at once."""
        if not self._has_been_stopped:
            super().stop()
            self._bridge.start(self._close())

    async def _more(self) -> list[Notification]:
        if self._subscription is None:
            self._subscription = await retry_until_available(self._open)
        subscription = self._subscription
        if not self._has_been_stopped:
            await subscription.wait()
        if self._has_been_stopped:
            await self._close()  # `stop` may have been called before the subscription was opened
            return []
        wanted = frozenset(self._topics)
        return [found for stored in subscription.take(PAGE) if (found := self._recorder.notification(stored, wanted))]

    async def _open(self) -> StreamSubscription:
        subscription = StreamSubscription(self._bridge.connection, self._recorder.stream, description="subscription")
        try:
            return await subscription.open(self._last_notification_id or 0)
        except BaseException:
            await subscription.close()
            raise

    async def _close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.wake.set()
            await subscription.close()
