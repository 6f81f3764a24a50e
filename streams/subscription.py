"""A subscription to a stream: what is stored from a sequence on, and then what is appended."""

import asyncio
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog

from streams import metrics
from streams.connection import Connection
from streams.errors import DataLossError, LogError, UnavailableError
from streams.lag_consumer import LagConsumer
from streams.nats_protocol import Deliveries, parse_status

log = structlog.get_logger()

_PULL_SECONDS = 10.0
_ERROR_PAUSE_SECONDS = 0.5
_PREFIX = re.compile(r"[^.*>]+\.[^.*>]+\.>")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")
_SECOND = 1_000_000_000


class Stored(NamedTuple):
    """One message of a stream, still encoded."""

    sequence: int
    subject: str
    payload: bytes


class StreamSubscription:
    """The messages of a stream that match, in stream order, each once, from `after` + 1 on.

    It reads through a temporary consumer of its own, made again whenever the server has deleted it: what a second
    reader or an instance that lost its lane does cannot make it miss a message. After a lost delivery it starts again
    behind the last message that it received. With a `name` it also keeps a durable consumer of that name at what was
    acknowledged with `ack`, which shows its lag (lag_consumer.py). Unfiltered subscriptions also check that the
    stream's sequences are contiguous and raise DataLossError at a hole. With `newest`, a subscription that opens at 0
    begins with only the newest message of each subject. `wake` is set when something has arrived.
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
        self._connection = connection
        self._stream = stream
        self._name = name
        self._description = description
        self._batch = batch
        self._newest = newest
        self._lag = LagConsumer(connection, stream, name, filters, description, metadata or {}) if name else None
        # The server compares each message with all filters of a consumer, so subjects that differ only in the partition
        # are read whole and sorted out here.
        self._matches = _matcher(filters)
        self._server_filters = [] if self._matches is not None else list(filters)
        self._is_unfiltered = not self._server_filters
        self._buffer: deque[Stored] = deque()
        self._consumer = ""
        self._subscription: Any = None
        self._inbox = ""
        self._last = 0
        self._delivered = 0
        self._remaining = -1
        self._credit = 0
        self._last_heard = 0.0
        self._reconnects = 0
        self._broken: str | None = None
        self._failure: LogError | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._pull_wanted = asyncio.Event()
        self.wake = wake or asyncio.Event()
        self.pending = 0
        """How many messages matched when the consumer was made."""
        self.wake_at: int | None = None
        """Set `wake` at this sequence too, even when nothing that matches has come."""

    @property
    def at_end(self) -> bool:
        """True when everything received was taken and the server had nothing more at the last delivery."""
        return not self._buffer and self._remaining == 0

    @property
    def server_filters(self) -> list[str]:
        """The filters that the server applies; none when it sends the whole stream."""
        return self._server_filters

    @property
    def position(self) -> int:
        """The sequence of the last message received."""
        return self._last

    @property
    def waiting(self) -> int:
        """How many messages have arrived and were not taken."""
        return len(self._buffer)

    async def open(self, after: int) -> "StreamSubscription":
        """Start behind sequence `after`; returns self."""
        self._last = after
        await self._start()
        if self._lag is not None:
            self._lag.acknowledged = after
            await self._lag.move()
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            if self._lag is not None:
                await self._lag.move()
        await self._stop()

    def take(self, limit: int) -> list[Stored]:
        """Up to `limit` messages that have arrived; never waits. Raises DataLossError at a hole."""
        count = min(limit, len(self._buffer))
        taken = [self._buffer.popleft() for _ in range(count)]
        if self._credit < self._batch // 2:
            self._pull_wanted.set()
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

    async def _start(self) -> None:
        if self._is_unfiltered:
            await self._pass_over_expired()
        start: dict[str, Any] = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._last + 1}
        if self._newest and not self._last:
            start = {"deliver_policy": "last_per_subject"}
        name = _temporary_name(self._name or self._description)
        config: dict[str, Any] = {
            "name": name,
            "description": f"{self._description or 'reads'}: temporary reader of {self._connection.name}",
            **start,
            "replay_policy": "instant",
            "ack_policy": "none",
            "max_ack_pending": -1,
            "mem_storage": True,
            "inactive_threshold": 60 * _SECOND,
        }
        if self._server_filters:
            config["filter_subjects"] = self._server_filters
        answer = await self._connection.api(
            f"CONSUMER.CREATE.{self._stream}.{name}", {"stream_name": self._stream, "config": config}
        )
        self._consumer = answer["name"]
        self.pending = int(answer.get("num_pending", 0))
        self._delivered = 0
        self._credit = 0
        self._broken = None
        self._reconnects = self._connection.reconnects
        self._inbox = self._connection.inbox()
        self._subscription = await self._connection.subscribe_blocks(self._inbox, self._on_block)
        await self._pull()

    async def _pass_over_expired(self) -> None:
        """Begin at the front of the stream when its age limit has passed `after`: what it removed is not missing."""
        state = (await self._connection.api(f"STREAM.INFO.{self._stream}"))["state"]
        removed = int(state["first_seq"]) - 1
        if self._name is not None and 0 < self._last < removed:
            metrics.EXPIRED.labels(self._name).inc(removed - self._last)
            log.error(
                "subscription.inputs_expired",
                consumer=self._name,
                stream=self._stream,
                first=self._last + 1,
                last=removed,
                why="the stream's age limit removed them before this reader had read them",
            )
        self._last = max(self._last, removed)

    async def _stop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await self._connection.unsubscribe_blocks(subscription)
                await self._connection.api(f"CONSUMER.DELETE.{self._stream}.{self._consumer}", timeout=1)
            except Exception as error:  # a best effort: the server forgets a temporary consumer by itself
                log.debug("subscription.stop", stream=self._stream, error=str(error))

    async def _pull(self) -> None:
        wanted = self._batch - self._credit
        if wanted < self._batch // 2 or len(self._buffer) > 4 * self._batch:
            return
        self._credit += wanted
        self._last_heard = asyncio.get_running_loop().time()
        body = msgspec.json.encode({"batch": wanted, "expires": int(_PULL_SECONDS * _SECOND)})
        await self._connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}", body, reply=self._inbox
        )

    def _on_block(self, deliveries: Deliveries) -> None:
        self._last_heard = asyncio.get_running_loop().time()
        matches, buffer = self._matches, self._buffer
        subjects, replies, payloads, statuses = deliveries
        self._credit -= len(replies)
        for subject, reply, payload in zip(subjects, replies, payloads, strict=True):
            if self._broken is not None:
                break
            # The fields of `nats_protocol.parse_reply`; this loop runs once a message.
            _, stream_sequence, number, _, remaining = reply.rsplit(b".", 4)
            if int(number) != self._delivered + 1:
                self._broken = f"delivery {int(number)} came after {self._delivered}"
                break
            self._delivered += 1
            sequence = int(stream_sequence)
            if sequence <= self._last:
                continue
            if self._is_unfiltered and self._last and sequence != self._last + 1:
                self._failure = DataLossError(self._stream, self._last + 1, sequence - 1)
                self._broken = str(self._failure)
                break
            self._last = sequence
            self._remaining = int(remaining)
            if matches is None or matches(subject):
                buffer.append(Stored(sequence, subject.decode(), payload))
        for status in statuses:
            self._on_status(status)
        if buffer or self._failure is not None or (self.wake_at is not None and self._last >= self.wake_at):
            self.wake.set()
        if self._broken is None and self._credit < self._batch // 2:
            self._pull_wanted.set()

    def _on_status(self, headers: bytes) -> None:
        status = parse_status(headers)
        if status.code == 100:  # a heartbeat
            return
        if status.code in (404, 408):
            self._credit = max(self._credit - (status.pending_messages or self._batch), 0)
            return
        self._broken = f"the server ended a pull: {status.code} {status.text}".strip()

    async def _supervise(self) -> None:
        """Pull, and start again after a lost delivery, a deleted consumer or a silence longer than any pull."""
        while self._failure is None:
            try:
                async with asyncio.timeout(0.25):
                    await self._pull_wanted.wait()
            except TimeoutError:
                pass
            self._pull_wanted.clear()
            if self._lag is not None and (self.at_end or self._lag.is_due):
                await self._lag.move()
            if self._broken is None and self._connection.reconnects != self._reconnects:
                self._broken = "the connection was lost, and with it what had been asked for"
            now = asyncio.get_running_loop().time()
            if len(self._buffer) > 4 * self._batch:
                self._last_heard = now  # nothing is asked for while so much waits to be taken
            if self._broken is None and now - self._last_heard < _PULL_SECONDS + 2:
                if self._credit < self._batch // 2:
                    await self._attempt(self._pull())
                continue
            if self._broken is not None:
                log.warning("subscription.restart", stream=self._stream, consumer=self._consumer, why=self._broken)
            await self._attempt(self._restart())

    async def _restart(self) -> None:
        await self._stop()
        await self._start()

    async def _attempt(self, work: Awaitable[None]) -> None:
        """One attempt; a failure marks the subscription as broken, so that the supervisor starts it again."""
        try:
            await work
        except LogError as error:
            self._broken = self._broken or str(error)
            if not isinstance(error, UnavailableError):
                log.warning("subscription.error", stream=self._stream, error=str(error))
            # Not a backoff: a reader that is behind should be back as soon as the log is, and one request is cheap.
            await asyncio.sleep(_ERROR_PAUSE_SECONDS)


def _temporary_name(reader: str) -> str:
    """A consumer name that says who reads, such as `reader-plan-00-15-9f3ac2d1`."""
    return f"reader-{_NOT_IN_NAMES.sub('-', reader)[:60].strip('-') or 'unnamed'}-{os.urandom(4).hex()}"


def _matcher(filters: Sequence[str]) -> Callable[[bytes], bool] | None:
    """A test for subjects when there are several filters, all of the form 'a.b.>'; None when the server filters."""
    if len(filters) < 2 or not all(_PREFIX.fullmatch(one) for one in filters):
        return None
    prefixes = frozenset(one[:-2].encode() for one in filters)

    def matches(subject: bytes) -> bool:
        first = subject.find(b".")
        return subject[: subject.find(b".", first + 1)] in prefixes

    return matches
