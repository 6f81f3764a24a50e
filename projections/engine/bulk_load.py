"""The bulk loader: loads a chunk of history into staging tables, as fast as one process can.

A chunk is one transaction with its rows and its positions. New rows of append-only tables are copied while the chunk
is read; changes of other rows are merged in memory and written when it is the chunk's turn. So several loaders can work
on chunks at the same time, and the chunks still take effect in the order of the log.
"""

from __future__ import annotations

import gc
import pickle
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
from msgspec import Struct

from projections.engine import positions
from projections.engine.errors import ROW_ERRORS, RebuildError, UnprocessableRowError
from projections.engine.event_decoder import EventDecoder, Unreadable
from projections.engine.projection import Projection, shape
from projections.engine.recorded_at import recorded_at
from projections.engine.row_batch import RowBatch
from projections.engine.schemas import Location, Partitions
from projections.engine.sessions import LOAD_SECONDS, open_session
from streams.bulk_replay import Block, Replay
from streams.envelope import Codec, Recorded
from streams.errors import DataLossError

if TYPE_CHECKING:
    from streams.archive.archived_replay import ArchivedReplay

_BLOCK, _COPIED_AT_ONCE = 2_048, 16_384
"""Small enough that decoded rows are still in the processor's cache when they are copied."""

Turn = Callable[[], Awaitable[None]]
"""Waits until the chunks before this one have taken effect."""
OnRead = Callable[[int], None]
"""Called with the number of events read since the last call."""
OnSkipped = Callable[["Projection | None", "Recorded | Unreadable", str], Awaitable[None]]
"""Called for each event that is skipped: the projection that cannot process it (None: it cannot be decoded), the
event, and the reason."""


class Chunk(NamedTuple):
    """Sequences `after` + 1 to `until` of a stream, for the projections in `positions` (by name, where each is now)."""

    stream: str
    after: int
    until: int
    positions: dict[str, int]


class Job(NamedTuple):
    """Everything that a bulk loader needs; it can be pickled for another process."""

    nats_url: str
    dsn: str
    catalogue: dict[str, type[Struct]]
    projections: tuple[Projection, ...]
    locations: dict[str, Location]
    generations: dict[str, int]
    shapes: dict[str, str]
    archives: dict[str, str]
    """The archive's URL or folder, by stream, for streams whose history is read from there first."""

    def reader(self, stream: str, after: int, until: int, block: int = 4096) -> Replay | ArchivedReplay:
        """A reader of the sequences `after` + 1 to `until` of a stream."""
        archive = self.archives.get(stream)
        if archive is None:
            return Replay(self.nats_url, stream, after=after, until=until, block=block, exact=True)
        # Imported here because the Parquet reader needs as much memory as all the rest of the process.
        from streams.archive.archived_replay import ArchivedReplay
        from streams.archive.store import Archive

        store = Archive(archive)
        return ArchivedReplay(store, self.nats_url, stream, first=after + 1, until=until, block=block, across=True)

    def check_code(self) -> None:
        """Raises RebuildError when this process runs other code than the process that created the job."""
        for projection in self.projections:
            if shape(projection) != self.shapes[projection.name]:
                raise RebuildError(
                    f"the code of {projection.name} was changed while it was being rebuilt; start the rebuild again"
                )

    def pickled(self) -> bytes | None:
        """The job as bytes for another process; None when it cannot be pickled."""
        try:
            return pickle.dumps(self)
        except (pickle.PicklingError, AttributeError, TypeError):
            return None


def job(
    nats_url: str,
    dsn: str,
    codec: Codec,
    projections: Sequence[Projection],
    locations: Mapping[str, Location],
    generations: Mapping[str, int],
    archives: Mapping[str, str],
) -> Job:
    """`locations` and `generations` by projection name, `archives` by stream."""
    # The compiled decoders of a codec cannot be pickled; its catalogue can.
    catalogue = codec.catalogue
    shapes = {each.name: shape(each) for each in projections}
    return Job(nats_url, dsn, catalogue, tuple(projections), dict(locations), dict(generations), shapes, dict(archives))


class BulkLoader:
    """Loads one chunk at a time, on connections of its own or on the caller's."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._codec = Codec(job.catalogue)
        self._projections = {each.name: each for each in job.projections}
        self._schemas = {
            table.name: job.locations[each.name].schema for each in job.projections for table in each.tables
        }
        self._partitions = Partitions(job.locations, job.projections)
        self._session: asyncpg.Connection[Any] | None = None
        self._owner: asyncpg.Connection[Any] | None = None

    async def open(self, session: asyncpg.Connection[Any] | None = None) -> BulkLoader:
        """Connect, or use a session whose transaction the caller controls."""
        if session is not None:
            self._session = self._owner = session
        else:
            self._session = await open_session(self._job.dsn, LOAD_SECONDS)
            # A crash of Postgres loses the last chunks together with their positions.
            await self._session.execute("SET synchronous_commit = off")
            # Partitions are committed separately: other loaders must see them while a chunk waits for its turn.
            self._owner = await open_session(self._job.dsn, LOAD_SECONDS)
        await self._partitions.load(self._session)
        return self

    def close(self) -> None:
        for session in {self._session, self._owner} - {None}:
            assert session is not None
            session.terminate()

    async def fill(self, chunk: Chunk, turn: Turn, on_read: OnRead) -> None:
        """Load a chunk in one transaction; waits for its `turn` before it changes existing rows.

        Raises UnprocessableRowError for an event that cannot be folded or stored.
        """
        session = self._open
        try:
            async with session.transaction():
                await self.fill_within(chunk, turn, on_read)
        except ROW_ERRORS as error:
            await self._locate(chunk)
            raise UnprocessableRowError(
                ", ".join(chunk.positions), chunk.stream, chunk.after + 1, f"or one up to {chunk.until}", str(error)
            ) from error

    async def fill_within(self, chunk: Chunk, turn: Turn, on_read: OnRead) -> None:
        """Load a chunk in the caller's transaction."""
        with _no_garbage_collection():
            await self._fill(chunk, turn, on_read)

    async def _fill(self, chunk: Chunk, turn: Turn, on_read: OnRead) -> None:
        decoder, rows = self._decoder(chunk), RowBatch(self._schemas)
        reader, event_time = self._job.reader(chunk.stream, chunk.after, chunk.until, _BLOCK), None
        async with aclosing(reader.blocks()) as blocks:
            async for block in blocks:
                self._take(decoder, block, chunk, rows)
                on_read(len(block.sequences))
                event_time = recorded_at(block.payloads[-1])
                if rows.appended >= _COPIED_AT_ONCE:
                    await self._make_partitions(rows)
                    await rows.write_appended(self._open)
        await self._make_partitions(rows)
        await rows.write_appended(self._open)
        self._check_end(reader, chunk)
        await turn()
        await rows.write(self._open)
        await self._move(chunk.stream, chunk.positions, chunk.until, event_time)

    async def fill_leniently(self, chunk: Chunk, on_skipped: OnSkipped, on_read: OnRead) -> None:
        """Load a chunk block by block, skipping events that cannot be folded or stored. The tables must have their
        keys."""
        decoder, positions = self._decoder(chunk), dict(chunk.positions)
        reader = self._job.reader(chunk.stream, chunk.after, chunk.until)
        async with aclosing(reader.blocks()) as blocks:
            async for block in blocks:
                last = block.sequences[-1]
                async with self._open.transaction():
                    try:
                        async with self._open.transaction():
                            rows = RowBatch(self._schemas)
                            self._fold(decoder, block, positions, rows)
                            await self._make_partitions(rows)
                            await rows.write(self._open)
                    except (UnprocessableRowError, *ROW_ERRORS):
                        await self._event_by_event(decoder, block, positions, on_skipped)
                    await self._move(chunk.stream, positions, last, recorded_at(block.payloads[-1]))
                positions = {name: max(position, last) for name, position in positions.items()}
                on_read(len(block.sequences))
        self._check_end(reader, chunk)
        # The end of the chunk may hold no events any more.
        if any(position < chunk.until for position in positions.values()):
            async with self._open.transaction():
                await self._move(chunk.stream, positions, chunk.until, None)

    def _decoder(self, chunk: Chunk) -> EventDecoder:
        chosen = [self._projections[name] for name in chunk.positions]
        return EventDecoder(self._codec, chunk.stream, chosen)

    def _take(self, decoder: EventDecoder, block: Block, chunk: Chunk, rows: RowBatch) -> None:
        """Add a block's rows, mapped types all at once."""
        if any(position != chunk.after for position in chunk.positions.values()):
            return self._fold(decoder, block, chunk.positions, rows)
        try:
            made, left = decoder.mapped(block)
        except Exception:  # event by event the faulty one is found
            return self._fold(decoder, block, chunk.positions, rows)
        for each in made:
            rows.take(each.mapped, each.rows)
        if left.sequences:
            self._fold(decoder, left, chunk.positions, rows, mapped=True)
        return None

    def _fold(
        self, decoder: EventDecoder, block: Block, positions: dict[str, int], rows: RowBatch, *, mapped: bool = False
    ) -> None:
        """Add a block's rows event by event; `mapped`: without those of mapped types."""
        merge = rows.merge
        for event, projections in decoder.events(zip(*block, strict=True), positions, folded=mapped):
            for projection in projections:
                if isinstance(event, Unreadable):
                    raise _unprocessable(projection, decoder.stream, event, event.reason)
                try:
                    merge(projection.changes(event))
                except Exception as error:
                    raise _unprocessable(
                        projection, decoder.stream, event, f"{type(error).__name__}: {error}"
                    ) from error

    async def _event_by_event(
        self, decoder: EventDecoder, block: Block, positions: dict[str, int], on_skipped: OnSkipped
    ) -> None:
        for event, projections in decoder.events(zip(*block, strict=True), positions):
            if isinstance(event, Unreadable):
                if projections:
                    await on_skipped(None, event, event.reason)
                continue
            for projection in projections:
                if (reason := await self._write_one(projection, event)) is not None:
                    await on_skipped(projection, event, reason)

    async def _write_one(self, projection: Projection, event: Recorded) -> str | None:
        """Write one event's rows in a savepoint; returns why that failed, or None."""
        rows = RowBatch(self._schemas)
        try:
            rows.apply(projection.changes(event))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        try:
            async with self._open.transaction():
                await self._make_partitions(rows)
                await rows.write(self._open)
        except ROW_ERRORS as error:
            return f"{type(error).__name__}: {error}"
        return None

    async def _locate(self, chunk: Chunk) -> None:
        """Find the event whose rows Postgres rejects and raise UnprocessableRowError for it; all writes are rolled
        back."""
        decoder = self._decoder(chunk)
        reader = self._job.reader(chunk.stream, chunk.after, chunk.until)
        transaction = self._open.transaction()
        await transaction.start()
        try:
            async with aclosing(reader.blocks()) as blocks:
                async for block in blocks:
                    try:
                        async with self._open.transaction():
                            rows = RowBatch(self._schemas)
                            self._fold(decoder, block, chunk.positions, rows)
                            await self._make_partitions(rows)
                            await rows.write(self._open)
                    except ROW_ERRORS:
                        for event, projections in decoder.events(zip(*block, strict=True), chunk.positions):
                            for projection in projections:
                                assert isinstance(event, Recorded)
                                if (reason := await self._write_one(projection, event)) is not None:
                                    raise _unprocessable(projection, chunk.stream, event, reason) from None
        finally:
            await transaction.rollback()

    async def _make_partitions(self, rows: RowBatch) -> None:
        missing: dict[str, set[date]] = self._partitions.missing(rows.days())
        if not missing:
            return
        assert self._owner is not None
        async with self._owner.transaction():
            await self._partitions.make(self._owner, missing)
        if self._owner is not self._session:
            self._partitions.made(missing)

    async def _move(self, stream: str, reached: Mapping[str, int], until: int, event_time: Any) -> None:
        for schema in {location.schema for location in self._job.locations.values()}:
            expected = {
                name: (position, self._job.generations[name])
                for name, position in reached.items()
                if position < until and self._job.locations[name].schema == schema
            }
            if expected:
                await positions.move(self._open, schema, stream, expected, until, event_time=event_time, announce=False)

    def _check_end(self, reader: Replay | ArchivedReplay, chunk: Chunk) -> None:
        # Nothing was read: an age limit may have removed the whole chunk.
        if reader.done and reader.position < chunk.until:
            raise DataLossError(chunk.stream, reader.position + 1, chunk.until)

    @property
    def _open(self) -> asyncpg.Connection[Any]:
        assert self._session is not None, "the bulk loader is not open"
        return self._session


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Rows are allocated by the thousands and form no cycles: the collector would take a tenth of the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _unprocessable(
    projection: Projection, stream: str, event: Recorded | Unreadable, reason: str
) -> UnprocessableRowError:
    label = f"{event.type} {event.id}" if isinstance(event, Recorded) else "unreadable"
    return UnprocessableRowError(projection.name, stream, event.sequence, label, reason)
