"""The writer of RAW: stores events in the order of `put`, in atomic batches, each event once.

Every event carries its id for the server's deduplication. A batch whose outcome is unknown is sent again as it is;
one that contains a stored id is sent event by event. Both keep the order: one writer, one batch at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog

from domain.events import RawReceived
from handlers import metrics
from handlers.ingest.dead_letters import DeadLetters
from handlers.live.event_codec import codec
from streams import subjects, topology
from streams.append import Record, append
from streams.connection import Connection
from streams.errors import (
    ConflictError,
    DuplicateError,
    RefusedError,
    UnavailableError,
    UnknownOutcomeError,
    UnprocessableError,
)
from streams.reader import Stored, get, read_all
from streams.retry import RetryPolicy
from streams.topology import RAW

log = structlog.get_logger()

_RETRIES = RetryPolicy(first_delay=0.05, longest_delay=2.0)

_BATCH = 500
_EMPTY = {"first_seq": 1, "last_seq": 0}


class RawWriter:
    """An ordered queue in front of RAW; it is bounded, so that a slow log slows its callers down."""

    def __init__(self, connection: Connection, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._clock = clock
        self._codec = codec()
        self._dead_letters = DeadLetters(connection, clock, RAW.name)
        self._queue: asyncio.Queue[RawReceived | None] = asyncio.Queue(maxsize=20_000)
        self.on_the_way = set[str]()
        """Ids of the events that were put and are not stored yet."""

    async def newest(self, pattern: str) -> list[RawReceived]:
        """The newest stored raw event of each subject that matches, oldest first."""
        found = []
        async for batch in read_all(self._connection, RAW.name, [pattern], newest=True):
            found += [raw for stored in batch if (raw := self._read(stored)) is not None]
        return found

    async def since(self, pattern: str, at_ns: int) -> AsyncIterator[RawReceived]:
        """The stored raw events that match and were detected since a time (ns), oldest first."""
        async for batch in read_all(self._connection, RAW.name, [pattern], after=await self._before(at_ns)):
            for stored in batch:
                if (raw := self._read(stored)) is not None:
                    yield raw

    async def _before(self, at_ns: int) -> int:
        """The last sequence before a time, by bisection: events are stored in the order of their detection."""
        state = ((await topology.info(self._connection, RAW.name)) or {"state": _EMPTY})["state"]
        low, high = max(int(state["first_seq"]) - 1, 0), int(state["last_seq"])
        while low < high:
            middle = (low + high + 1) // 2
            stored = await get(self._connection, RAW.name, middle)
            raw = self._read(stored) if stored is not None else None
            # An unreadable event counts as newer: then more is read, and nothing is missed.
            if stored is None or (raw is not None and raw.detect_time < at_ns):
                low = middle
            else:
                high = middle - 1
        return low

    def _read(self, stored: Stored) -> RawReceived | None:
        try:
            (event,) = self._codec.decode(RAW.name, stored.sequence, stored.subject, stored.payload)
        except UnprocessableError as error:
            log.warning("raw.unreadable", sequence=stored.sequence, error=str(error))
            return None
        found: RawReceived = event.data
        return found

    async def put(self, raw: RawReceived) -> None:
        """Queue an event; waits while the queue is full."""
        self.on_the_way.add(raw.raw_id)
        await self._queue.put(raw)

    async def finish(self) -> None:
        """No more events follow: `run` returns once everything is stored."""
        await self._queue.put(None)

    async def run(self) -> None:
        """Store what is queued, until `finish`."""
        finished = False
        while not finished:
            first = await self._queue.get()
            batch: list[RawReceived | None] = [first]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            finished = None in batch
            events = [raw for raw in batch if raw is not None]
            if events:
                await self._store([self._record(raw) for raw in events])
                self.on_the_way.difference_update(raw.raw_id for raw in events)
                oldest = min(raw.detect_time for raw in events)
                metrics.RAW_SECONDS.observe(max(0, self._clock() - oldest) / 1e9)

    def _record(self, raw: RawReceived) -> Record:
        subject = subjects.raw(raw.influencer_id, raw.venue.value, raw.channel, raw.address)
        payload = self._codec.encode(
            raw, id=raw.raw_id, source="vibe/ingest", time_ns=self._clock(), correlation=raw.raw_id
        )
        return Record(subject, payload, raw.raw_id)

    async def _store(self, records: list[Record]) -> None:
        backoff = _RETRIES.start()
        while True:
            try:
                await append(self._connection, records)
                metrics.RECORDED.inc(len(records))
                return
            except (DuplicateError, RefusedError) as error:
                log.info("raw.one_by_one", events=len(records), why=str(error))
                for record in records:
                    await self._store_one(record)
                return
            except (ConflictError, UnknownOutcomeError, UnavailableError) as error:
                delay = backoff.next_delay()
                log.warning("raw.retry", events=len(records), error=str(error), in_seconds=delay)
                await asyncio.sleep(delay)

    async def _store_one(self, record: Record) -> None:
        while True:
            try:
                stored = await append(self._connection, [record])
                (metrics.REPLAYED if stored.duplicate else metrics.RECORDED).inc()
                return
            except RefusedError as error:
                error_text = f"the log refused the event: {error}"
                key = record.dedup_id or record.subject
                await self._dead_letters.write(key, subject=record.subject, payload=record.payload, error=error_text)
                return
            except (ConflictError, UnknownOutcomeError, UnavailableError) as error:
                log.warning("raw.retry", events=1, error=str(error))
                await asyncio.sleep(0.5)
