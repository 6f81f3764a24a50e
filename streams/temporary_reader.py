"""The temporary consumer through which this process reads a stream, made again whenever it or a delivery is lost."""

import asyncio
import os
import re
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

import msgspec
import structlog

from streams.connection import Connection
from streams.errors import DataLossError, LogError, UnavailableError
from streams.nats_protocol import Deliveries, parse_reply, parse_status, stream_sequences

log = structlog.get_logger()

_PULL_SECONDS = 10.0
_ERROR_PAUSE_SECONDS = 0.5
_CHECK_SECONDS = 0.25
_FORGOTTEN_SECONDS = 60.0
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")
_SECOND = 1_000_000_000


class Sink(Protocol):
    """What a reader delivers to."""

    def on_messages(self, sequences: Sequence[int], subjects: list[bytes], payloads: list[bytes]) -> None:
        """Take messages, as parallel lists in stream order."""

    def on_read(self) -> None:
        """Something arrived and was taken, or the reader has failed for good: see its `failure`."""

    def on_expired(self, first: int, last: int) -> None:
        """The stream's age limit has removed what was to be read next."""

    def has_space(self) -> bool:
        """False to ask the server for nothing more, until `TemporaryReader.has_space_again` is called."""


class TemporaryReader:
    """The messages of a stream that match, in stream order, each once, from a sequence on, for a `sink`.

    What a second reader does cannot make it miss a message, for the consumer is its own. After a lost delivery it
    starts again behind the last message that it received. Without filters it also checks that the stream's sequences
    are contiguous; a hole is a DataLossError in `failure` and ends it. With `newest`, a reader that opens at 0 begins
    with only the newest message of each subject. `reader` is in the consumer's name: `reader-<reader>-<random>`.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        filters: Sequence[str],
        sink: Sink,
        *,
        reader: str,
        description: str,
        batch: int,
        newest: bool = False,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._filters = list(filters)
        self._sink = sink
        self._reader = reader
        self._description = description
        self._batch = batch
        self._newest = newest
        self._consumer = ""
        self._subscription: Any = None
        self._inbox = ""
        self._delivered = 0
        self._credit = 0
        self._last_heard = 0.0
        self._pulled_at = 0.0
        self._reconnects = 0
        self._broken: str | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._pull_wanted = asyncio.Event()
        self.position = 0
        """The sequence of the last message received: everything that matches up to it was delivered."""
        self.remaining = -1
        """How many messages the server still had at the last delivery; -1 before the first."""
        self.pending = 0
        """How many messages matched when the consumer was made."""
        self.failure: DataLossError | None = None

    async def open(self, after: int) -> None:
        """Start behind sequence `after`. Raises LogError."""
        self.position = after
        await self._start()
        self._supervisor = asyncio.create_task(self._supervise())

    def open_in_background(self, after: int) -> None:
        """Start behind sequence `after`, again and again until the log answers."""
        self.position = after
        self._broken = "not started yet"
        self._pull_wanted.set()
        self._supervisor = asyncio.create_task(self._supervise())

    async def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        await self._stop()

    def has_space_again(self) -> None:
        """The sink has taken something: ask the server for more where little was asked for."""
        if self._credit < self._batch // 2:
            self._pull_wanted.set()

    async def _start(self) -> None:
        if not self._filters:
            await self._pass_over_expired()
        start: dict[str, Any] = {"deliver_policy": "by_start_sequence", "opt_start_seq": self.position + 1}
        if self._newest and not self.position:
            start = {"deliver_policy": "last_per_subject"}
        name = _temporary_name(self._reader)
        config: dict[str, Any] = {
            "name": name,
            "description": f"{self._description}: temporary reader of {self._connection.name}",
            **start,
            "replay_policy": "instant",
            "ack_policy": "none",
            "max_ack_pending": -1,
            "mem_storage": True,
            "inactive_threshold": int(_FORGOTTEN_SECONDS * _SECOND),
        }
        if self._filters:
            config["filter_subjects"] = self._filters
        answer = await self._connection.api(
            f"CONSUMER.CREATE.{self._stream}.{name}", {"stream_name": self._stream, "config": config}
        )
        self._consumer = answer["name"]
        self.pending = int(answer.get("num_pending", 0))
        self._delivered = 0
        self._credit = 0
        self._broken = None
        self._pulled_at = _now()
        self._reconnects = self._connection.reconnects
        self._inbox = self._connection.inbox()
        self._subscription = await self._connection.subscribe_blocks(self._inbox, self._on_block)
        await self._pull()

    async def _pass_over_expired(self) -> None:
        """Begin at the front of the stream when its age limit has passed the position: what it removed is not
        missing."""
        state = (await self._connection.api(f"STREAM.INFO.{self._stream}"))["state"]
        removed = int(state["first_seq"]) - 1
        if removed > self.position:
            self._sink.on_expired(self.position + 1, removed)
            self.position = removed

    async def _stop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await self._connection.unsubscribe_blocks(subscription)
                await self._connection.api(f"CONSUMER.DELETE.{self._stream}.{self._consumer}", timeout=1)
            except Exception as error:  # a best effort: the server forgets a temporary consumer by itself
                log.debug("reader.stop", stream=self._stream, error=str(error))

    async def _pull(self) -> None:
        wanted = self._batch - self._credit
        if wanted < self._batch // 2 or not self._sink.has_space():
            return
        if _now() - self._pulled_at > _FORGOTTEN_SECONDS - _PULL_SECONDS:
            self._broken = "nothing was asked for in so long that the server forgets the consumer"
            return
        self._credit += wanted
        self._last_heard = self._pulled_at = _now()
        body = msgspec.json.encode({"batch": wanted, "expires": int(_PULL_SECONDS * _SECOND)})
        await self._connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}", body, reply=self._inbox
        )

    def _on_block(self, deliveries: Deliveries) -> None:
        self._last_heard = _now()
        subjects, replies, payloads, statuses = deliveries
        self._credit -= len(replies)
        if replies and self._broken is None:
            self._receive(subjects, replies, payloads)
        for status in statuses:
            self._on_status(status)
        self._sink.on_read()
        if self._broken is not None or self._credit < self._batch // 2:
            self._pull_wanted.set()

    def _receive(self, subjects: list[bytes], replies: list[bytes], payloads: list[bytes]) -> None:
        count, first, last = len(replies), parse_reply(replies[0]), parse_reply(replies[-1])
        # Both numbers only rise, so of a block in order only the ends have to be looked at.
        is_next = first.sequence > self.position if self._filters else first.sequence == self.position + 1
        is_contiguous = bool(self._filters) or last.sequence - first.sequence == count - 1
        if is_next and is_contiguous and (first.number, last.number) == (self._delivered + 1, self._delivered + count):
            self._delivered, self.position, self.remaining = last.number, last.sequence, last.pending
            self._sink.on_messages(stream_sequences(replies, first.sequence, last.sequence), subjects, payloads)
        else:
            self._receive_one_by_one(subjects, replies, payloads)

    def _receive_one_by_one(self, subjects: list[bytes], replies: list[bytes], payloads: list[bytes]) -> None:
        """Take what is in order, up to a delivery that was lost or a hole."""
        received: list[tuple[int, bytes, bytes]] = []
        for subject, reply, payload in zip(subjects, replies, payloads, strict=True):
            sequence, number, remaining = parse_reply(reply)
            if number != self._delivered + 1:
                self._broken = f"delivery {number} came after {self._delivered}"
                break
            self._delivered += 1
            if sequence <= self.position:
                continue
            if not self._filters and self.position and sequence != self.position + 1:
                self.failure = DataLossError(self._stream, self.position + 1, sequence - 1)
                self._broken = str(self.failure)
                break
            self.position, self.remaining = sequence, remaining
            received.append((sequence, subject, payload))
        if received:
            self._sink.on_messages(*map(list, zip(*received, strict=True)))

    def _on_status(self, headers: bytes) -> None:
        status = parse_status(headers)
        if status.code == 100:  # a heartbeat
            return
        if status.code in (404, 408):
            self._credit = max(self._credit - (status.pending_messages or self._batch), 0)
            return
        self._broken = self._broken or f"the server ended a pull: {status.code} {status.text}".strip()

    async def _supervise(self) -> None:
        """Pull, and start again after a lost delivery, a deleted consumer or a silence longer than any pull."""
        while self.failure is None:
            try:
                async with asyncio.timeout(_CHECK_SECONDS):
                    await self._pull_wanted.wait()
            except TimeoutError:
                pass
            self._pull_wanted.clear()
            if self._broken is None and self._connection.reconnects != self._reconnects:
                self._broken = "the connection was lost, and with it what had been asked for"
            if not self._sink.has_space():
                self._last_heard = _now()  # nothing is asked for while so much waits to be taken
            if self._broken is None and _now() - self._last_heard < _PULL_SECONDS + 2:
                if self._credit < self._batch // 2:
                    await self._attempt(self._pull())
                continue
            if self.failure is not None:
                return
            if self._consumer:
                log.warning("reader.restart", stream=self._stream, consumer=self._consumer, why=self._broken)
            await self._attempt(self._restart())

    async def _restart(self) -> None:
        await self._stop()
        await self._start()

    async def _attempt(self, work: Awaitable[None]) -> None:
        """One attempt; a failure marks the reader as broken, so that the supervisor starts it again."""
        try:
            await work
        except LogError as error:
            self._broken = self._broken or str(error)
            if not isinstance(error, UnavailableError):
                log.warning("reader.error", stream=self._stream, error=str(error))
            # Not a backoff: a reader that is behind should be back as soon as the log is, and one request is cheap.
            await asyncio.sleep(_ERROR_PAUSE_SECONDS)


def _temporary_name(reader: str) -> str:
    """A consumer name that says who reads, such as `reader-plan-00-15-9f3ac2d1`."""
    return f"reader-{_NOT_IN_NAMES.sub('-', reader)[:60].strip('-') or 'unnamed'}-{os.urandom(4).hex()}"


def _now() -> float:
    return asyncio.get_running_loop().time()
