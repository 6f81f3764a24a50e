"""Reading: one event by its place, the last one of a subject, a whole filtered history, or a live feed."""

import asyncio
import base64
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from nats.aio.msg import Msg

from streams.connection import NOT_FOUND, Connection
from streams.errors import DataLossError, LogError, RefusedError, UnavailableError

log = structlog.get_logger()

_PULL_SECONDS = 10.0
_MARK_SECONDS = 1.0
_SECOND = 1_000_000_000


class Stored(NamedTuple):
    """One message of a stream, still encoded."""

    sequence: int
    subject: str
    payload: bytes


async def get(connection: Connection, stream: str, sequence: int) -> Stored | None:
    """The message at a sequence, from the stream's leader; None when there is none."""
    return await _get(connection, stream, {"seq": sequence})


async def last(connection: Connection, stream: str, subject: str) -> Stored | None:
    """The newest message of a subject (wildcards allowed), from the stream's leader; None when there is none."""
    return await _get(connection, stream, {"last_by_subj": subject})


async def _get(connection: Connection, stream: str, body: dict[str, Any]) -> Stored | None:
    try:
        answer = await connection.api(f"STREAM.MSG.GET.{stream}", body)
    except RefusedError as error:
        if error.code in NOT_FOUND:
            return None
        raise
    message = answer["message"]
    return Stored(message["seq"], message["subject"], base64.b64decode(message.get("data", "")))


class Feed:
    """The messages of a stream that match, in stream order, each once, from `after` + 1 on.

    Every feed reads through an ephemeral consumer of its own, re-made whenever the server forgot it: what a second
    reader or a zombie does cannot make it miss a message. A delivery that went missing makes the feed start again
    behind the last message it got. With a `name` it also keeps a durable consumer of that name at what was
    acknowledged with `ack`; nobody reads from that one, `nats consumer report` shows its lag. Unfiltered feeds also
    check that the stream's sequences are contiguous and raise DataLossError at a hole.
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
        wake: asyncio.Event | None = None,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._filters = list(filters)
        self._name = name
        self._description = description
        self._metadata = metadata or {}
        self._batch = batch
        self._buffer: deque[Stored] = deque()
        self._consumer = ""
        self._subscription: Any = None
        self._inbox = ""
        self._last = 0
        self._delivered = 0
        self._credit = 0
        self._heard = 0.0
        self._connected = 0
        self._broken: str | None = None
        self._failure: LogError | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._acked = 0
        self._marked = -1
        self._marked_at = 0.0
        self.wake = wake or asyncio.Event()
        self.pending = 0
        self._remaining = -1

    @property
    def at_end(self) -> bool:
        """True when everything received was taken and the server had nothing more at the last delivery."""
        return not self._buffer and self._remaining == 0

    @property
    def position(self) -> int:
        """The sequence of the last message that the feed has received."""
        return self._last

    @property
    def waiting(self) -> int:
        """How many messages have arrived and were not taken."""
        return len(self._buffer)

    async def open(self, after: int) -> "Feed":
        """Start behind sequence `after`; returns self. `pending` says how many messages matched at that moment."""
        self._last = self._acked = after
        await self._start()
        await self._mark()
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._mark()
        await self._stop()

    def take(self, limit: int) -> list[Stored]:
        """Up to `limit` messages that have arrived; never waits. Raises DataLossError at a hole."""
        count = min(limit, len(self._buffer))
        taken = [self._buffer.popleft() for _ in range(count)]
        if not taken and self._failure is not None:
            raise self._failure
        return taken

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until something has arrived (or `wake` was set by others); False when the time passed."""
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
        """Acknowledge this message and all before it (named feeds); the durable consumer follows within a second."""
        self._acked = message.sequence

    async def _start(self) -> None:
        if not self._filters:
            # What a stream's age limit has dropped is not missing.
            state = (await self._connection.api(f"STREAM.INFO.{self._stream}"))["state"]
            self._last = max(self._last, int(state["first_seq"]) - 1)
        config: dict[str, Any] = {
            "description": f"{self._description} (reader)",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._last + 1,
            "replay_policy": "instant",
            "ack_policy": "none",
            "max_ack_pending": -1,
            "mem_storage": True,
            "inactive_threshold": 60 * _SECOND,
        }
        if self._filters:
            config["filter_subjects"] = self._filters
        answer = await self._connection.api(
            f"CONSUMER.CREATE.{self._stream}", {"stream_name": self._stream, "config": config}
        )
        self._consumer = answer["name"]
        self.pending = int(answer.get("num_pending", 0))
        self._delivered = 0
        self._credit = 0
        self._broken = None
        self._connected = self._connection.reconnects
        self._inbox = self._connection.inbox()
        self._subscription = await self._connection.subscribe(self._inbox, self._on_message)
        await self._pull()

    async def _stop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await subscription.unsubscribe()
                await self._connection.api(f"CONSUMER.DELETE.{self._stream}.{self._consumer}", timeout=1)
            except Exception as error:  # going away: the server forgets an ephemeral consumer by itself
                log.debug("feed.stop", stream=self._stream, error=str(error))

    async def _mark(self) -> None:
        """Put the durable consumer where the acknowledged messages end, making it when it is missing."""
        if self._name is None or self._acked == self._marked:
            return
        reached, self._marked_at = self._acked, asyncio.get_running_loop().time()
        config: dict[str, Any] = {
            "name": self._name,
            "durable_name": self._name,
            "description": self._description,
            "metadata": self._metadata,
            "deliver_policy": "all",
            "ack_policy": "all",
        }
        if self._filters:
            config["filter_subjects"] = self._filters
        try:
            subject = f"CONSUMER.CREATE.{self._stream}.{self._name}"
            await self._connection.api(subject, {"stream_name": self._stream, "config": config}, timeout=1)
            subject = f"CONSUMER.RESET.{self._stream}.{self._name}"
            await self._connection.api(subject, {"seq": reached + 1}, timeout=1)
            self._marked = reached
        except LogError as error:  # it is for the eyes only, so it can wait
            log.debug("feed.mark", stream=self._stream, consumer=self._name, error=str(error))

    async def _pull(self) -> None:
        wanted = self._batch - self._credit
        if wanted < self._batch // 2 or len(self._buffer) > 4 * self._batch:
            return
        self._credit += wanted
        self._heard = asyncio.get_running_loop().time()
        body = msgspec.json.encode({"batch": wanted, "expires": int(_PULL_SECONDS * _SECOND)})
        await self._connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}", body, reply=self._inbox
        )

    async def _on_message(self, message: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        if not message.reply:
            await self._on_status(message)
            return
        self._credit -= 1
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>, read from the right
        tokens = message.reply.split(".")
        sequence, delivery = int(tokens[-4]), int(tokens[-3])
        if self._broken is not None:
            return
        if delivery != self._delivered + 1:
            self._broken = f"delivery {delivery} came after {self._delivered}"
            return
        self._delivered = delivery
        if sequence > self._last:
            if not self._filters and self._last and sequence != self._last + 1:
                self._failure = DataLossError(self._stream, self._last + 1, sequence - 1)
                self._broken = str(self._failure)
                self.wake.set()
                return
            self._last = sequence
            self._remaining = int(tokens[-1])
            self._buffer.append(Stored(sequence, message.subject, message.data))
            self.wake.set()
        await self._pull()

    async def _on_status(self, message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status", "")
        if status == "100":
            return
        if status in ("404", "408"):
            self._credit -= int(headers.get("Nats-Pending-Messages", self._batch))
            self._credit = max(self._credit, 0)
            await self._pull()
            return
        self._broken = f"{status} {headers.get('Description', '')}".strip() or "the server does not know the consumer"

    async def _keep(self) -> None:
        """Start again after a broken delivery, a forgotten consumer or a silence longer than any pull."""
        while self._failure is None:
            await asyncio.sleep(0.25)
            now = asyncio.get_running_loop().time()
            if self.at_end or now - self._marked_at >= _MARK_SECONDS:
                await self._mark()
            if self._broken is None and self._connection.reconnects != self._connected:
                self._broken = "the connection was lost, and with it what had been asked for"
            if self._broken is None and now - self._heard < _PULL_SECONDS + 2:
                if self._credit < self._batch // 2:
                    await self._quietly(self._pull())
                continue
            if self._broken is not None:
                log.warning("feed.restart", stream=self._stream, consumer=self._consumer, why=self._broken)
            await self._quietly(self._restart())

    async def _restart(self) -> None:
        await self._stop()
        await self._start()

    async def _quietly(self, work: Any) -> None:
        try:
            await work
        except LogError as error:
            self._broken = self._broken or str(error)
            if not isinstance(error, UnavailableError):
                log.warning("feed.error", stream=self._stream, error=str(error))
            await asyncio.sleep(0.5)


async def history(
    connection: Connection, stream: str, filters: Sequence[str] = (), *, after: int = 0, batch: int = 2000
) -> AsyncIterator[list[Stored]]:
    """Everything stored behind `after` that matches, in order, in lists; ends at what was the end at the start."""
    feed = Feed(connection, stream, filters, batch=batch, description="history")
    await feed.open(after)
    try:
        left = feed.pending
        while left > 0:
            await feed.wait()
            taken = feed.take(left)
            left = 0 if feed.at_end else left - len(taken)
            if taken:
                yield taken
    finally:
        await feed.close()
