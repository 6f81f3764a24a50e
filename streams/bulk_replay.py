"""Replay: a stream's history in blocks, as fast as one core can take it, for rebuilds and for loading state.

A reader of its own on a connection of its own (`wire.py`). It makes an ephemeral pull consumer, keeps pulls
outstanding, and yields every message once and in order, up to what was the end when it began.

What it promises, and what it does otherwise:

* A lost connection, a killed server, a forgotten consumer or a delivery that went missing: it starts a new consumer
  behind the last message it accepted, for ever, and counts `restarts`. Only the first attempt gives up.
* Without filters every stream sequence must come. One that is missing is a DataLossError that names the hole, raised
  behind the last message before it, unless the stream begins behind the hole: what an age limit cut off is not lost.
* A stream that ends in front of `after`, or in front of what was read before a restart, has lost its end (a damaged
  store is cut off at the damage): DataLossError.
* With filters sequences have gaps, so messages are counted: as many as the server counted at the start must come, else
  IncompleteError. When the stream's front moved into the range while reading, an age limit may have taken the missing
  ones: then they are only logged. What the server does not even count (it looks into the block that `after` lies in,
  and counts the others by an index) goes unnoticed: only an unfiltered read proves that nothing is missing.
* A stream that keeps only the newest messages of each subject drops from its middle: neither is checked.
* Memory: the server sends what pulls ask for, a pull asks for 10,000 messages or 8 MiB (more only when one message is
  larger), two are outstanding, and none is sent while the reader of the blocks is busy.
"""

import asyncio
import random
import ssl
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog

from streams.bulk_client import BulkConnection, Status, connect
from streams.errors import DataLossError, LogError, RefusedError, UnavailableError

log = structlog.get_logger()

_PULL_MESSAGES = 10_000
_PULL_BYTES = 8 * 1024 * 1024
_BLOCK_BYTES = 8 * 1024 * 1024
_PULL_SECONDS = 10.0
_SILENCE_SECONDS = 0.1
_PATIENCE = 3
"""How many pulls in a row may run out while the server still counts messages."""
_SHORT = 6
"""How often a consumer may end at one place before the end, some seconds in all."""
_SECOND = 1_000_000_000

_integers = msgspec.json.Decoder(list[int])


class Block(NamedTuple):
    """Messages in stream order, as parallel lists; payloads without headers, all still encoded."""

    sequences: list[int]
    subjects: list[bytes]
    payloads: list[bytes]


class IncompleteError(DataLossError):
    """`missing` messages that the server counted somewhere in `first`..`last` were not delivered."""

    def __init__(self, stream: str, first: int, last: int, missing: int) -> None:
        LogError.__init__(
            self,
            f"{stream}: {missing} of the messages that match the filters in sequences {first}..{last} were counted "
            "when the reading began and not delivered; check the stream with an unfiltered replay",
        )
        self.stream = stream
        self.first = first
        self.last = last
        self.missing = missing


def replay(
    url: str, stream: str, filters: Sequence[str] = (), *, after: int = 0, until: int | None = None, block: int = 4096
) -> AsyncGenerator[Block, None]:
    """Everything stored behind `after` that matches, up to and with `until` or what is the end now, in blocks.

    A block has at most `block` messages. Raises DataLossError, RefusedError, or, when the server cannot be reached
    at the start, UnavailableError. Leave it early with `contextlib.aclosing`.
    """
    return Replay(url, stream, filters, after=after, until=until, block=block).blocks()


class Replay:
    """One replay, to be iterated once: `async for block in Replay(...).blocks()`.

    `total` is how many messages there were to read when it began (0 before the first block), `done` how many have
    been accepted, `position` the sequence of the last one, `received` the bytes of all connections that were closed.
    """

    def __init__(
        self,
        url: str,
        stream: str,
        filters: Sequence[str] = (),
        *,
        after: int = 0,
        until: int | None = None,
        block: int = 4096,
        patience: float = 30.0,
        tls: ssl.SSLContext | None = None,
        exact: bool = False,
    ) -> None:
        """`patience`: seconds for the first connection; `tls`: see `wire.connect`; `exact`: ask for nothing behind
        `until`, which many short replays of a long stream would ask for in vain."""
        self._url = url
        self._stream = stream
        self._filters = list(filters)
        self._until = until
        self._block = block
        self._patience = patience
        self._tls = tls
        self._exact = exact
        self._after = after
        self._end: int | None = None
        self._front = 0
        self._thins = False
        self._consumer = ""
        self._delivered = 0
        self._credit = 0
        self._pull_messages = _PULL_MESSAGES
        self._pull_bytes = _PULL_BYTES
        self._expired = 0
        self._short = self._short_at = 0
        self._held = Block([], [], [])
        self._held_bytes = 0
        self._taken_bytes = 0
        self._finished = False
        self._failure: LogError | None = None
        self.position = after
        self.total = 0
        self.done = 0
        self.restarts = 0
        self.received = 0

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """The blocks. See the module's docstring for what it raises when."""
        pause = 0.05
        while not self._finished:
            wire, done = await self._connect(), self.done
            try:
                await self._start(wire)
                while not self._finished:
                    await self._hear(wire)
                    await self._accept(wire)
                    self._ask(wire)
                    while (ready := self._cut(whole=self._held_bytes >= _BLOCK_BYTES)) is not None:
                        yield ready
                await self._check_end(wire)
            except UnavailableError as error:
                if self._end is None:
                    raise
                self._finished = False
                self.restarts += 1
                pause = 0.05 if self.done > done else min(2 * pause, 2.0)
                log.info("replay.restart", stream=self._stream, position=self.position, why=str(error))
            finally:
                await self._stop(wire)
            if not self._finished:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        while (ready := self._cut(whole=True)) is not None:
            yield ready
        if self._failure is not None:
            raise self._failure

    async def _connect(self) -> BulkConnection:
        deadline = asyncio.get_running_loop().time() + self._patience
        pause = 0.05
        while True:
            try:
                return await connect(self._url, f"replay of {self._stream}", tls=self._tls)
            except UnavailableError:
                if self._end is None and asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, 2.0)

    async def _start(self, wire: BulkConnection) -> None:
        # First what the stream holds, then the consumer: so nothing that is counted can lie in front of `front`.
        info = await wire.api(f"STREAM.INFO.{self._stream}")
        state, self._thins = info["state"], info["config"].get("max_msgs_per_subject", -1) > 0
        if state["last_seq"] < self.position:
            self._end = self._end or self.position
            self._failure = DataLossError(self._stream, state["last_seq"] + 1, self.position)
            self._finished = True
            return
        made = await self._consume(wire, self.position + 1)
        self._consumer = made["name"]
        self._delivered = self._credit = self._expired = 0
        self._taken_bytes = wire.received
        self._pull_messages = min(_PULL_MESSAGES, made["config"].get("max_batch") or _PULL_MESSAGES)
        if self._end is None:
            end = min(state["last_seq"], self._until if self._until is not None else state["last_seq"])
            self._front = max(state["first_seq"], self._after + 1)
            # What was appended meanwhile is counted too, and so is what lies behind `until`.
            behind = await self._consume(wire, end + 1)
            await wire.api(f"CONSUMER.DELETE.{self._stream}.{behind['name']}")
            self.total = max(0, made["num_pending"] - behind["num_pending"])
            self._end = end
        self._finished = self.position >= self._end or (made["num_pending"] == 0 and self._is_end(self.position))
        if not self._finished:
            self._ask(wire)

    def _is_end(self, reached: int) -> bool:
        """Whether a consumer that has nothing more is to be believed.

        The leader says where the end is. A replica that is still catching up serves its consumers all the same, and
        catches up within moments; what is not there after some of them is lost.
        """
        if self._filters or self._thins:
            return True
        self._short = self._short + 1 if reached == self._short_at else 1
        self._short_at = reached
        if self._short > _SHORT:
            return True
        raise UnavailableError(f"consumer {self._consumer} ends at {reached} of {self._last}")

    async def _consume(self, wire: BulkConnection, first: int) -> dict[str, Any]:
        config = {
            "description": "replay",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": first,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 60 * _SECOND,
        }
        if self._filters:
            config["filter_subjects"] = self._filters
        body = {"stream_name": self._stream, "config": config}
        # Counting what matches takes the server long when a large stream is not in its memory.
        return await wire.api(f"CONSUMER.CREATE.{self._stream}", body, timeout=60)

    async def _stop(self, wire: BulkConnection) -> None:
        self.received += wire.received
        try:
            if self._consumer:
                await wire.api(f"CONSUMER.DELETE.{self._stream}.{self._consumer}", timeout=1)
        except LogError as error:  # the server forgets an ephemeral consumer by itself
            log.debug("replay.stop", stream=self._stream, error=str(error))
        finally:
            wire.close()
            self._consumer = ""

    def _ask(self, wire: BulkConnection) -> None:
        # The server takes turns among pulls, so when half a pull's messages are left the pull before it is used up:
        # two are outstanding and both bounds hold.
        messages = self._pull_messages
        if self._exact:
            messages = min(messages, self._last - self.position - self._credit)
        if messages > 0 and self._credit <= self._pull_messages // 2:
            self._credit += messages
            body = {
                "batch": messages,
                "max_bytes": self._pull_bytes,
                "expires": int(_PULL_SECONDS * _SECOND),
            }
            wire.pull(self._stream, self._consumer, body)

    async def _hear(self, wire: BulkConnection) -> None:
        """Wait for deliveries or statuses."""
        if await wire.wait(_SILENCE_SECONDS):
            return
        await self._recount(wire)
        if not await wire.wait(1.2 * _PULL_SECONDS):
            # A consumer that is there would have said that a pull ran out; one that is gone says nothing.
            raise UnavailableError(f"the pulls of consumer {self._consumer} are not answered")

    async def _recount(self, wire: BulkConnection) -> None:
        # When a message takes a pull's bytes to the last one, the server ends the pull without a word (2.15), and what
        # else was asked for would stay in our credit. So whoever hears nothing looks whether a pull is waiting at all.
        try:
            info = await wire.api(f"CONSUMER.INFO.{self._stream}.{self._consumer}")
        except RefusedError as error:
            raise UnavailableError(str(error)) from error
        if not info["num_waiting"] and not wire.heard:
            self._credit = 0
            self._ask(wire)

    async def _accept(self, wire: BulkConnection) -> None:
        subjects, replies, payloads = wire.take()
        statuses, wire.statuses = wire.statuses, []
        if replies:
            first, last = _place(replies[0]), _place(replies[-1])
            if (first.delivery, last.delivery) != (self._delivered + 1, self._delivered + len(replies)):
                raise UnavailableError(f"deliveries {first.delivery}..{last.delivery} came after {self._delivered}")
            self._delivered = last.delivery
            self._credit -= len(replies)
            self._expired = 0
            self._finished = last.sequence >= self._last
            sequences = _sequences(replies, first.sequence, last.sequence)
            count = bisect_right(sequences, self._last)
            if not self._filters and not self._thins:
                count = await self._contiguous(wire, sequences[:count])
            if count < len(sequences):
                sequences, subjects, payloads = sequences[:count], subjects[:count], payloads[:count]
            if count:
                self._held.sequences.extend(sequences)
                self._held.subjects.extend(subjects)
                self._held.payloads.extend(payloads)
                self._held_bytes += wire.received - self._taken_bytes
                self._taken_bytes = wire.received
                self.position = sequences[-1]
                self.done += count
            if not self._finished and last.pending == 0:
                self._finished = self._is_end(last.sequence)
        for status in statuses:
            self._on_status(status)

    def _on_status(self, status: Status) -> None:
        self._credit -= status.pending_messages
        if status.code == 408:
            # Messages that the server counts and does not deliver: a damaged store. `_check_end` names what is missing.
            self._expired += 1
            self._finished = self._finished or self._expired > _PATIENCE
        elif status.code == 409 and "MaxBytes" in status.text:
            if status.pending_bytes >= self._pull_bytes:
                self._pull_bytes *= 2  # the next message is larger than a whole pull
        elif status.code == 409 and status.text != "Batch Completed":
            raise UnavailableError(f"the server ended a pull: {status.code} {status.text}")

    async def _contiguous(self, wire: BulkConnection, sequences: list[int]) -> int:
        expected = self.position + 1
        if not sequences or (sequences[0], sequences[-1]) == (expected, self.position + len(sequences)):
            return len(sequences)
        for index, sequence in enumerate(sequences):
            if sequence != expected and await self._begins_at(wire) < sequence:
                self._failure = DataLossError(self._stream, expected, sequence - 1)
                self._finished = True
                return index
            expected = sequence + 1
        return len(sequences)

    async def _check_end(self, wire: BulkConnection) -> None:
        if self._failure is not None or self._thins:
            return
        missing = self.total - self.done
        if not self._filters:
            if self.position < self._last and await self._begins_at(wire) <= self._last:
                self._failure = DataLossError(self._stream, self.position + 1, self._last)
        elif missing > 0:
            if await self._begins_at(wire) > self._front:
                log.warning("replay.front_moved", stream=self._stream, missing=missing)
            else:
                self._failure = IncompleteError(self._stream, self._after + 1, self._last, missing)

    def _cut(self, *, whole: bool) -> Block | None:
        held, size = self._held, self._block
        if not held.sequences or (len(held.sequences) < size and not whole):
            return None
        self._held = Block(held.sequences[size:], held.subjects[size:], held.payloads[size:])
        self._held_bytes = 0
        return Block(held.sequences[:size], held.subjects[:size], held.payloads[:size])

    @property
    def _last(self) -> int:
        assert self._end is not None
        return self._end

    async def _begins_at(self, wire: BulkConnection) -> int:
        return int((await wire.api(f"STREAM.INFO.{self._stream}"))["state"]["first_seq"])


class _Place(NamedTuple):
    sequence: int
    delivery: int
    pending: int


def _place(reply: bytes) -> _Place:
    """$JS.ACK.<stream>.<consumer>.<times>.<stream sequence>.<consumer sequence>.<time>.<pending>, from the right."""
    _, sequence, delivery, _, pending = reply.rsplit(b".", 4)
    return _Place(int(sequence), int(delivery), int(pending))


def _sequences(replies: list[bytes], first: int, last: int) -> list[int]:
    # A consumer's sequences only rise. So where the ends are as far apart as there are messages nothing is missing, and
    # else the numbers of all replies, which begin alike, are decoded as one list, five times as fast as one by one.
    if last - first == len(replies) - 1:
        return list(range(first, last + 1))
    same = replies[0].rsplit(b".", 4)[0] + b"."
    return _integers.decode(b"[%b]" % b",".join(replies).replace(same, b"").replace(b".", b","))[::4]
