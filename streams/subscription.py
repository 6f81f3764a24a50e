"""Subscriptions to a stream: what is stored from a sequence on, and then what is appended."""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from streams import metrics
from streams.connection import Connection
from streams.errors import LogError
from streams.lag_consumer import LagConsumer
from streams.temporary_reader import TemporaryReader

log = structlog.get_logger()

_PREFIX = re.compile(r"[^.*>]+\.[^.*>]+\.>")


class Stored(NamedTuple):
    """One message of a stream, still encoded."""

    sequence: int
    subject: str
    payload: bytes


class Subscription:
    """Messages that have arrived for one reader, in stream order. Subclasses bring them.

    With a `name`, a durable consumer of that name is kept at what was acknowledged with `ack`; it shows the reader's
    lag (lag_consumer.py). `wake` is set when something has arrived.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        filters: Sequence[str],
        name: str | None,
        description: str,
        metadata: dict[str, str] | None,
        wake: asyncio.Event | None,
    ) -> None:
        self._stream = stream
        self._name = name
        self._lag = LagConsumer(connection, stream, name, filters, description, metadata or {}) if name else None
        self._buffer: deque[Stored] = deque()
        self._failure: LogError | None = None
        self.wake = wake or asyncio.Event()
        self.wake_at: int | None = None
        """Set `wake` at this sequence too, even when nothing that matches has come."""

    @property
    def position(self) -> int:
        """The sequence up to which everything that matches has been received."""
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """How many messages have arrived and were not taken."""
        return len(self._buffer)

    async def close(self) -> None:
        raise NotImplementedError

    def take(self, limit: int) -> list[Stored]:
        """Up to `limit` messages that have arrived; never waits. Raises DataLossError at a hole."""
        buffer = self._buffer
        taken = [buffer.popleft() for _ in range(min(limit, len(buffer)))]
        self._on_taken(taken)
        if not taken and self._failure is not None:
            raise self._failure
        return taken

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until something has arrived or another task has set `wake`; False when the time passed."""
        if self._buffer or self._failure is not None:
            return True
        self.wake.clear()
        try:
            async with asyncio.timeout(timeout):
                await self.wake.wait()
        except TimeoutError:
            return False
        return True

    async def ack(self, message: Stored) -> None:
        """Acknowledge this message and all before it; the durable consumer of a name follows within a second."""
        if self._lag is not None:
            self._lag.acknowledged = message.sequence

    def _on_taken(self, taken: list[Stored]) -> None:
        raise NotImplementedError

    def _wake_if_due(self) -> None:
        if self._buffer or self._failure is not None or (self.wake_at is not None and self.position >= self.wake_at):
            self.wake.set()

    def _report_expired(self, first: int, last: int) -> None:
        if self._name is not None and 1 < first <= last:
            metrics.EXPIRED.labels(self._name).inc(last - first + 1)
            log.error(
                "subscription.inputs_expired",
                consumer=self._name,
                stream=self._stream,
                first=first,
                last=last,
                why="the stream's age limit removed them before this reader had read them",
            )


class StreamSubscription(Subscription):
    """The messages of a stream that match, in stream order, each once, from `after` + 1 on, by a reader of its own.

    temporary_reader.py describes what it survives. Unfiltered subscriptions also check that the stream's sequences are
    contiguous and raise DataLossError at a hole. With `newest`, a subscription that opens at 0 begins with only the
    newest message of each subject.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        filters: Sequence[str] = (),
        *,
        name: str | None = None,
        description: str = "",
        metadata: dict[str, str] | None = None,
        batch: int = 500,
        newest: bool = False,
        wake: asyncio.Event | None = None,
    ) -> None:
        super().__init__(connection, stream, filters, name, description, metadata, wake)
        self._batch = batch
        # The server compares each message with all filters of a consumer, so subjects that differ only in the partition
        # are read whole and sorted out here.
        self._matches = _matcher(filters)
        self.server_filters = [] if self._matches is not None else list(filters)
        """The filters that the server applies; none when it sends the whole stream."""
        self._reader = TemporaryReader(
            connection,
            stream,
            self.server_filters,
            self,
            reader=name or description,
            description=description or "reads",
            batch=batch,
            newest=newest,
        )

    @property
    def at_end(self) -> bool:
        """True when everything received was taken and the server had nothing more at the last delivery."""
        return not self._buffer and self._reader.remaining == 0

    @property
    def position(self) -> int:
        return self._reader.position

    @property
    def pending(self) -> int:
        """How many messages matched when the consumer was made."""
        return self._reader.pending

    async def open(self, after: int) -> "StreamSubscription":
        """Start behind sequence `after`; returns self. Raises LogError."""
        await self._reader.open(after)
        if self._lag is not None:
            await self._lag.open(after)
        return self

    async def close(self) -> None:
        await self._reader.close()
        if self._lag is not None:
            await self._lag.close()

    def on_messages(self, sequences: Sequence[int], subjects: list[bytes], payloads: list[bytes]) -> None:
        matches = self._matches
        self._buffer.extend(
            Stored(sequence, subject.decode(), payload)
            for sequence, subject, payload in zip(sequences, subjects, payloads, strict=True)
            if matches is None or matches(subject)
        )

    def on_read(self) -> None:
        self._failure = self._failure or self._reader.failure
        self._wake_if_due()

    def on_expired(self, first: int, last: int) -> None:
        self._report_expired(first, last)

    def has_space(self) -> bool:
        return len(self._buffer) <= 4 * self._batch

    def _on_taken(self, taken: list[Stored]) -> None:
        self._reader.has_space_again()


def _matcher(filters: Sequence[str]) -> Callable[[bytes], bool] | None:
    """A test for subjects when there are several filters, all of the form 'a.b.>'; None when the server filters."""
    if len(filters) < 2 or not all(_PREFIX.fullmatch(one) for one in filters):
        return None
    prefixes = frozenset(one[:-2].encode() for one in filters)

    def matches(subject: bytes) -> bool:
        first = subject.find(b".")
        return subject[: subject.find(b".", first + 1)] in prefixes

    return matches
