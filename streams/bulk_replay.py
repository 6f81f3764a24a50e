"""Replay: a stream's history in blocks, as fast as one core can take it, for rebuilds and for loading state.

It has a connection of its own (bulk_client.py), makes an ephemeral pull consumer, keeps pulls outstanding, and yields
every message once and in order, up to what was the end of the stream when it began.

What it guarantees, and what it does when something fails:

* A lost connection, a killed server, a deleted consumer or a lost delivery: it starts a new consumer behind the last
  message that it accepted, for ever, and counts `restarts`. Only the first connection is given up.
* Without filters every stream sequence must arrive. A missing one is a DataLossError that names the hole, raised after
  the last message before it, unless the stream begins behind the hole: what an age limit removed is not lost.
* A stream that ends before `after`, or before what was read before a restart, has lost its end (the server cuts a
  damaged store off at the damage): DataLossError.
* With filters sequences have gaps, so messages are counted: as many as the server counted at the start must arrive,
  else IncompleteError. When the stream's front moved into the range while reading, an age limit may have removed the
  missing ones: then they are only logged. What the server does not even count (it looks into the block that `after`
  lies in, and counts the others by an index) goes unnoticed: only an unfiltered read proves that nothing is missing.
* A stream that keeps only the newest messages of each subject removes from its middle: neither is checked.
* Memory: the server sends what pulls ask for, a pull asks for 10,000 messages or 8 MiB (more only when one message is
  larger), two are outstanding, and none is sent while the reader of the blocks is busy.
"""

import ssl
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

import structlog
from msgspec.structs import replace

from streams.bulk_client import BulkConnection, connect
from streams.errors import DataLossError, LogError, UnavailableError
from streams.nats_protocol import parse_reply, parse_status, stream_sequences
from streams.pull_window import DEFAULT_PULL, PullSettings, PullWindow
from streams.retry import RetryPolicy

log = structlog.get_logger()

_BLOCK_BYTES = 8 * 1024 * 1024
_EXPIRED_PULLS = 3
"""How many pulls in a row may expire while the server still counts messages."""
SHORT_ENDS = 6
"""How often a consumer may end at one sequence before the end, some seconds in all."""
_SECOND = 1_000_000_000
_RECONNECT = RetryPolicy(first_delay=0.05, longest_delay=2.0, jitter=0.5)


class Block(NamedTuple):
    """Messages in stream order, as parallel lists; payloads without headers, all still encoded."""

    sequences: list[int]
    subjects: list[bytes]
    payloads: list[bytes]


class IncompleteError(DataLossError):
    """`missing` messages that the server counted in sequences `first`..`last` were not delivered."""

    def __init__(self, stream: str, first: int, last: int, missing: int) -> None:
        LogError.__init__(
            self,
            f"{stream}: the server counted {missing} more messages that match the filters in sequences {first}..{last} "
            "than it delivered; check the stream with an unfiltered replay",
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
        connect_within: float = 30.0,
        tls: ssl.SSLContext | None = None,
        exact: bool = False,
        pull: PullSettings = DEFAULT_PULL,
    ) -> None:
        """`connect_within`: seconds to retry the first connection; `tls`: see `bulk_client.connect`; `exact`: ask for
        nothing behind `until`, which many short replays of a long stream would ask for in vain."""
        self._url = url
        self._stream = stream
        self._filters = list(filters)
        self._until = until
        self._block = block
        self._first_connection = replace(_RECONNECT, give_up_after=connect_within)
        self._tls = tls
        self._exact = exact
        self._pull_settings = pull
        self._after = after
        self._end: int | None = None
        self._front = 0
        self._keeps_newest = False
        self._consumer = ""
        self._delivered = 0
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
        backoff = _RECONNECT.start()
        while not self._finished:
            connection, done = await self._connect(), self.done
            try:
                pulls = await self._start(connection)
                while pulls is not None and not self._finished:
                    await pulls.wait(self._wanted)
                    await self._accept(connection, pulls)
                    pulls.request(self._wanted)
                    while (ready := self._next_block(partial=self._held_bytes >= _BLOCK_BYTES)) is not None:
                        yield ready
                await self._check_end(connection)
            except UnavailableError as error:
                if self._end is None:
                    raise
                self._finished = False
                self.restarts += 1
                if self.done > done:
                    backoff.reset()
                log.info("replay.restart", stream=self._stream, position=self.position, why=str(error))
            finally:
                await self._stop(connection)
            if not self._finished:
                await backoff.sleep()
        while (ready := self._next_block(partial=True)) is not None:
            yield ready
        if self._failure is not None:
            raise self._failure

    async def _connect(self) -> BulkConnection:
        backoff = self._first_connection.start()
        while True:
            try:
                return await connect(self._url, f"replay of {self._stream}", tls=self._tls)
            except UnavailableError:
                if self._end is None and backoff.is_over:
                    raise
            await backoff.sleep()

    async def _start(self, connection: BulkConnection) -> PullWindow | None:
        """Make a consumer and pull from it; None when there is nothing to read."""
        # First what the stream holds, then the consumer: so nothing that is counted can lie in front of `front`.
        info = await connection.api(f"STREAM.INFO.{self._stream}")
        state, self._keeps_newest = info["state"], info["config"].get("max_msgs_per_subject", -1) > 0
        if state["last_seq"] < self.position:
            self._end = self._end or self.position
            self._failure = DataLossError(self._stream, state["last_seq"] + 1, self.position)
            self._finished = True
            return None
        made = await self._consume(connection, self.position + 1)
        self._consumer = made["name"]
        self._delivered = 0
        self._taken_bytes = connection.received
        if self._end is None:
            end = min(state["last_seq"], self._until if self._until is not None else state["last_seq"])
            self._front = max(state["first_seq"], self._after + 1)
            # What was appended meanwhile was counted too, and so was what lies behind `until`.
            behind = await self._consume(connection, end + 1)
            await connection.api(f"CONSUMER.DELETE.{self._stream}.{behind['name']}")
            self.total = max(0, made["num_pending"] - behind["num_pending"])
            self._end = end
        self._finished = self.position >= self._end or (made["num_pending"] == 0 and self._is_end(self.position))
        if self._finished:
            return None
        settings = self._pull_settings
        settings = replace(
            settings, messages=min(settings.messages, made["config"].get("max_batch") or settings.messages)
        )
        pulls = PullWindow(connection, self._stream, self._consumer, settings)
        pulls.request(self._wanted)
        return pulls

    @property
    def _wanted(self) -> int | None:
        """How many messages are left to read at most, when no more may be asked for."""
        return self._last - self.position if self._exact else None

    def _is_end(self, reached: int) -> bool:
        """True when a consumer that has nothing more is at the end; raises UnavailableError while it may lag behind.

        The leader knows where the end is. A replica that is still catching up serves its consumers all the same, and
        catches up soon; what is not there after some attempts is lost.
        """
        if self._filters or self._keeps_newest:
            return True
        self._short = self._short + 1 if reached == self._short_at else 1
        self._short_at = reached
        if self._short > SHORT_ENDS:
            return True
        raise UnavailableError(f"consumer {self._consumer} ends at {reached} of {self._last}")

    async def _consume(self, connection: BulkConnection, first: int) -> dict[str, Any]:
        config = {
            "description": f"replay of {self._stream} from {first}, temporary",
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
        # Counting the messages that match takes the server long when a large stream is not in its memory.
        return await connection.api(f"CONSUMER.CREATE.{self._stream}", body, timeout=60)

    async def _stop(self, connection: BulkConnection) -> None:
        self.received += connection.received
        try:
            if self._consumer:
                await connection.api(f"CONSUMER.DELETE.{self._stream}.{self._consumer}", timeout=1)
        except LogError as error:  # the server forgets an ephemeral consumer by itself
            log.debug("replay.stop", stream=self._stream, error=str(error))
        finally:
            connection.close()
            self._consumer = ""

    async def _accept(self, connection: BulkConnection, pulls: PullWindow) -> None:
        subjects, replies, payloads, statuses = connection.take()
        if replies:
            first, last = parse_reply(replies[0]), parse_reply(replies[-1])
            if (first.number, last.number) != (self._delivered + 1, self._delivered + len(replies)):
                raise UnavailableError(f"deliveries {first.number}..{last.number} came after {self._delivered}")
            self._delivered = last.number
            pulls.on_delivered(len(replies))
            self._finished = last.sequence >= self._last
            sequences = stream_sequences(replies, first.sequence, last.sequence)
            count = bisect_right(sequences, self._last)
            if not self._filters and not self._keeps_newest:
                count = await self._contiguous(connection, sequences[:count])
            if count < len(sequences):
                sequences, subjects, payloads = sequences[:count], subjects[:count], payloads[:count]
            if count:
                self._held.sequences.extend(sequences)
                self._held.subjects.extend(subjects)
                self._held.payloads.extend(payloads)
                self._held_bytes += connection.received - self._taken_bytes
                self._taken_bytes = connection.received
                self.position = sequences[-1]
                self.done += count
            if not self._finished and last.pending == 0:
                self._finished = self._is_end(last.sequence)
        for status in statuses:
            pulls.on_status(parse_status(status))
        # Pulls that expire although the server counts messages: a damaged store. `_check_end` names what is missing.
        self._finished = self._finished or pulls.expired > _EXPIRED_PULLS

    async def _contiguous(self, connection: BulkConnection, sequences: list[int]) -> int:
        expected = self.position + 1
        if not sequences or (sequences[0], sequences[-1]) == (expected, self.position + len(sequences)):
            return len(sequences)
        for index, sequence in enumerate(sequences):
            if sequence != expected and await self._front_of(connection) < sequence:
                self._failure = DataLossError(self._stream, expected, sequence - 1)
                self._finished = True
                return index
            expected = sequence + 1
        return len(sequences)

    async def _check_end(self, connection: BulkConnection) -> None:
        if self._failure is not None or self._keeps_newest:
            return
        missing = self.total - self.done
        if not self._filters:
            if self.position < self._last and await self._front_of(connection) <= self._last:
                self._failure = DataLossError(self._stream, self.position + 1, self._last)
        elif missing > 0:
            if await self._front_of(connection) > self._front:
                log.warning("replay.front_moved", stream=self._stream, missing=missing)
            else:
                self._failure = IncompleteError(self._stream, self._after + 1, self._last, missing)

    def _next_block(self, *, partial: bool) -> Block | None:
        """The next block of the messages that are held; None when they do not fill one and it may not be `partial`."""
        held, size = self._held, self._block
        if not held.sequences or (len(held.sequences) < size and not partial):
            return None
        self._held = Block(held.sequences[size:], held.subjects[size:], held.payloads[size:])
        self._held_bytes = 0
        return Block(held.sequences[:size], held.subjects[:size], held.payloads[:size])

    @property
    def _last(self) -> int:
        assert self._end is not None
        return self._end

    async def _front_of(self, connection: BulkConnection) -> int:
        return int((await connection.api(f"STREAM.INFO.{self._stream}"))["state"]["first_seq"])
