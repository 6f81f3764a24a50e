"""Reading: one event by its place, the last one of a subject, a whole filtered history, or a live feed."""

import asyncio
import base64
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog

from streams import metrics
from streams.connection import NOT_FOUND, Connection
from streams.errors import DataLossError, LogError, RefusedError, UnavailableError
from streams.nats_protocol import Delivery

log = structlog.get_logger()

_PULL_SECONDS = 10.0
_MARK_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 5.0
_PREFIX = re.compile(r"[^.*>]+\.[^.*>]+\.>")
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


class StreamSubscription:
    """The messages of a stream that match, in stream order, each once, from `after` + 1 on.

    Every feed reads through an ephemeral consumer of its own, re-made whenever the server forgot it: what a second
    reader or a zombie does cannot make it miss a message. A delivery that went missing makes the feed start again
    behind the last message it got. With a `name` it also keeps a durable consumer of that name at what was
    acknowledged with `ack`; nobody reads from that one, `nats consumer report` shows its lag. Unfiltered feeds also
    check that the stream's sequences are contiguous and raise DataLossError at a hole. With `newest`, a feed that
    opens at 0 begins with only the newest message of each subject.
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
        self._hungry = asyncio.Event()
        # The server looks at every subject of a block for every message when a consumer has many filters, so what
        # differs only in the partition is read whole and sorted out here.
        self._wanted = _matcher(self._filters)
        self._asked = [] if self._wanted is not None else self._filters
        self._whole = not self._asked
        self._newest = newest
        self._marked = -1
        self._marked_at = 0.0
        self.wake = wake or asyncio.Event()
        self.pending = 0
        self.until: int | None = None
        """Wake at this sequence too, when nothing that matches has come."""
        self._remaining = -1

    @property
    def at_end(self) -> bool:
        """True when everything received was taken and the server had nothing more at the last delivery."""
        return not self._buffer and self._remaining == 0

    @property
    def asked(self) -> list[str]:
        """The filters that the server applies; none when it sends the whole stream."""
        return self._asked

    @property
    def position(self) -> int:
        """The sequence of the last message that the feed has received."""
        return self._last

    @property
    def waiting(self) -> int:
        """How many messages have arrived and were not taken."""
        return len(self._buffer)

    async def open(self, after: int) -> "StreamSubscription":
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
        if self._credit < self._batch // 2:
            self._hungry.set()
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
        if self._whole:
            # What a stream's age limit has dropped is not missing.
            state = (await self._connection.api(f"STREAM.INFO.{self._stream}"))["state"]
            gone = int(state["first_seq"]) - 1
            if self._name is not None and 0 < self._last < gone:
                metrics.EXPIRED.labels(self._name).inc(gone - self._last)
                log.error(
                    "feed.inputs_expired",
                    consumer=self._name,
                    stream=self._stream,
                    first=self._last + 1,
                    last=gone,
                    why="the stream's age limit took them before this stage read them",
                )
            self._last = max(self._last, gone)
        start: dict[str, Any] = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._last + 1}
        if self._newest and not self._last:
            start = {"deliver_policy": "last_per_subject"}
        config: dict[str, Any] = {
            "description": f"{self._description} (reader)",
            **start,
            "replay_policy": "instant",
            "ack_policy": "none",
            "max_ack_pending": -1,
            "mem_storage": True,
            "inactive_threshold": 60 * _SECOND,
        }
        if self._asked:
            config["filter_subjects"] = self._asked
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
        self._subscription = await self._connection.subscribe_blocks(self._inbox, self._on_block)
        await self._pull()

    async def _stop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await self._connection.unsubscribe_blocks(subscription)
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

    def _on_block(self, deliveries: list[Delivery]) -> None:
        self._heard = asyncio.get_running_loop().time()
        wanted, buffer = self._wanted, self._buffer
        for delivery in deliveries:
            if not delivery.reply:
                self._on_status(delivery.headers)
                continue
            self._credit -= 1
            if self._broken is not None:
                continue
            # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>, from the right
            _, stream_sequence, number, _, remaining = delivery.reply.rsplit(b".", 4)
            if int(number) != self._delivered + 1:
                self._broken = f"delivery {int(number)} came after {self._delivered}"
                continue
            self._delivered += 1
            sequence = int(stream_sequence)
            if sequence <= self._last:
                continue
            if self._whole and self._last and sequence != self._last + 1:
                self._failure = DataLossError(self._stream, self._last + 1, sequence - 1)
                self._broken = str(self._failure)
                continue
            self._last = sequence
            self._remaining = int(remaining)
            if wanted is None or wanted(delivery.subject):
                buffer.append(Stored(sequence, delivery.subject.decode(), delivery.payload))
        if buffer or self._failure is not None or (self.until is not None and self._last >= self.until):
            self.wake.set()
        if self._broken is None and self._credit < self._batch // 2:
            self._hungry.set()

    def _on_status(self, block: bytes) -> None:
        lines = block.decode(errors="replace").split("\r\n")
        status, _, text = lines[0].removeprefix("NATS/1.0").strip().partition(" ")
        if status == "100":
            return
        if status in ("404", "408"):
            left = next((line.partition(":")[2] for line in lines if line.startswith("Nats-Pending-Messages")), "")
            self._credit = max(self._credit - int(left or self._batch), 0)
            return
        self._broken = f"{status} {text}".strip() or "the server does not know the consumer"

    async def _keep(self) -> None:
        """Start again after a broken delivery, a forgotten consumer or a silence longer than any pull."""
        while self._failure is None:
            try:
                async with asyncio.timeout(0.25):
                    await self._hungry.wait()
            except TimeoutError:
                pass
            self._hungry.clear()
            now = asyncio.get_running_loop().time()
            if self.at_end or now - self._marked_at >= _MARK_SECONDS:
                await self._mark()
            if self._broken is None and self._connection.reconnects != self._connected:
                self._broken = "the connection was lost, and with it what had been asked for"
            if len(self._buffer) > 4 * self._batch:
                self._heard = now  # nothing is asked for while so much waits to be taken
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


def _matcher(filters: Sequence[str]) -> Callable[[bytes], bool] | None:
    """A test for subjects when there are several filters, all of the form 'a.b.>'; None when the server filters."""
    if len(filters) < 2 or not all(_PREFIX.fullmatch(one) for one in filters):
        return None
    prefixes = frozenset(one[:-2].encode() for one in filters)

    def matches(subject: bytes) -> bool:
        first = subject.find(b".")
        return subject[: subject.find(b".", first + 1)] in prefixes

    return matches


async def read_all(
    connection: Connection,
    stream: str,
    filters: Sequence[str] = (),
    *,
    after: int = 0,
    batch: int = 5000,
    newest: bool = False,
) -> AsyncIterator[list[Stored]]:
    """Everything stored behind `after` that matches, in order, in lists; ends at what was the end at the start.

    With `newest`, only the newest message of each subject; needs a filter.
    """
    state = (await connection.api(f"STREAM.INFO.{stream}"))["state"]
    end = int(state["last_seq"])
    feed = StreamSubscription(connection, stream, filters, batch=batch, newest=newest, description="history")
    # Only the leader knows where the end is: a consumer may be served by a replica that is still catching up, and what
    # that one counts as left to deliver says nothing.
    feed.until = await _reach(connection, stream, feed.asked, end)
    if feed.until <= after:
        return
    await feed.open(after)
    try:
        while feed.position < feed.until or feed.waiting:
            if not await feed.wait(_LOOK_AGAIN_SECONDS):
                # An age limit may have taken meanwhile what is waited for.
                feed.until = min(feed.until, await _reach(connection, stream, feed.asked, end))
            taken = [stored for stored in feed.take(batch) if stored.sequence <= end]
            if taken:
                yield taken
    finally:
        await feed.close()


async def _reach(connection: Connection, stream: str, filters: Sequence[str], end: int) -> int:
    """The sequence behind which everything up to `end` that matches has come; 0 when nothing is there."""
    if not filters:
        state = (await connection.api(f"STREAM.INFO.{stream}"))["state"]
        return end if state["first_seq"] <= end else 0
    newest = [await last(connection, stream, one) for one in filters]
    return max((found.sequence for found in newest if found is not None), default=0)
