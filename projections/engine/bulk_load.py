"""Filling the tables of a build from a piece of history, as fast as one process can.

A piece is one transaction: its rows and its positions are there together or not at all. New rows of append-only
tables are copied as they come; what changes rows is merged in memory and written when it is the piece's turn, so
several pieces can be worked on at once and still take effect in the order of the log.
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
from projections.engine.errors import BAD_ROW, RebuildError, UnprocessableRowError
from projections.engine.event_decoder import EventDecoder, Unreadable
from projections.engine.follow import recorded_at
from projections.engine.projection import Projection, shape
from projections.engine.row_batch import RowBatch
from projections.engine.schemas import Partitions, Place
from streams.bulk_replay import Block, Replay
from streams.envelope import Codec, Recorded
from streams.errors import DataLossError

if TYPE_CHECKING:
    from streams.archive.archived_replay import ArchivedReplay

_BLOCK, _COPIED_AT_ONCE = 2_048, 16_384
"""Little at a time: what has just been read and decoded is still in the processor's cache when it is copied."""

Turn = Callable[[], Awaitable[None]]
Tell = Callable[[int], None]
Refuse = Callable[["Projection | None", "Recorded | Unreadable", str], Awaitable[None]]
"""Told of an event that is passed over: which projection could not take it (None: nobody can read it), and why."""


class Chunk(NamedTuple):
    """Sequences `after` + 1 to `until` of a stream, for the projections whose positions are given by name."""

    stream: str
    after: int
    until: int
    positions: dict[str, int]


class Job(NamedTuple):
    """What a filler needs to know; it can be sent to another process."""

    nats_url: str
    dsn: str
    catalogue: dict[str, type[Struct]]
    projections: tuple[Projection, ...]
    places: dict[str, Place]
    generations: dict[str, int]
    shapes: dict[str, str]
    archives: dict[str, str]
    """Where closed days are, of the streams whose history is read from there first."""

    def reader(self, stream: str, after: int, until: int, block: int = 4096) -> Replay | ArchivedReplay:
        """What reads a piece of a stream's history."""
        archive = self.archives.get(stream)
        if archive is None:
            return Replay(self.nats_url, stream, after=after, until=until, block=block, exact=True)
        # Only now, because what reads Parquet weighs as much as all the rest of the process.
        from streams.archive.archived_replay import ArchivedReplay
        from streams.archive.store import Archive

        cold, first = Archive(archive), after + 1
        return ArchivedReplay(cold, self.nats_url, stream, first=first, until=until, block=block, across=True)

    def check_code(self) -> None:
        """Raises RebuildError when this process has other code than the one that made the job."""
        for projection in self.projections:
            if shape(projection) != self.shapes[projection.name]:
                raise RebuildError(
                    f"the code of {projection.name} was changed while it was being rebuilt; restart what rebuilds it"
                )

    def pickled(self) -> bytes | None:
        """For another process; None when a class cannot be found by its name."""
        try:
            return pickle.dumps(self)
        except (pickle.PicklingError, AttributeError, TypeError):
            return None


def job(
    nats_url: str,
    dsn: str,
    codec: Codec,
    projections: Sequence[Projection],
    places: Mapping[str, Place],
    generations: Mapping[str, int],
    archives: Mapping[str, str],
) -> Job:
    """`places` and `generations` by the projections' names, `archives` by the streams'."""
    # A codec has compiled decoders, which cannot be sent; its catalogue can.
    catalogue = codec.catalogue
    shapes = {each.name: shape(each) for each in projections}
    return Job(nats_url, dsn, catalogue, tuple(projections), dict(places), dict(generations), shapes, dict(archives))


class BulkLoader:
    """Works on one chunk at a time, on connections of its own or on one that is given."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._codec = Codec(job.catalogue)
        self._projections = {each.name: each for each in job.projections}
        self._schemas = {table.name: job.places[each.name].schema for each in job.projections for table in each.tables}
        self._partitions = Partitions(job.places, job.projections)
        self._session: asyncpg.Connection[Any] | None = None
        self._owner: asyncpg.Connection[Any] | None = None

    async def open(self, session: asyncpg.Connection[Any] | None = None) -> BulkLoader:
        """Connect, or use a connection whose transaction is the caller's."""
        if session is not None:
            self._session = self._owner = session
        else:
            self._session = await asyncpg.connect(self._job.dsn, timeout=10)
            # What a crash of the server takes of the last chunks, it takes with their positions.
            await self._session.execute("SET synchronous_commit = off")
            # Partitions are made apart: a chunk that waits for its turn must not keep others from seeing them.
            self._owner = await asyncpg.connect(self._job.dsn, timeout=10)
        await self._partitions.load(self._session)
        return self

    def close(self) -> None:
        for session in {self._session, self._owner} - {None}:
            assert session is not None
            session.terminate()

    async def fill(self, chunk: Chunk, turn: Turn, tell: Tell) -> None:
        """Store a chunk, waiting for its `turn` before anything but new rows is written.

        Raises PoisonError for an event that cannot be folded or stored.
        """
        session = self._open
        try:
            async with session.transaction():
                await self.fill_within(chunk, turn, tell)
        except BAD_ROW as error:
            await self._locate(chunk)
            raise UnprocessableRowError(
                ", ".join(chunk.positions), chunk.stream, chunk.after + 1, f"or one up to {chunk.until}", str(error)
            ) from error

    async def fill_within(self, chunk: Chunk, turn: Turn, tell: Tell) -> None:
        """The same in the caller's transaction."""
        with _no_collecting():
            await self._fill(chunk, turn, tell)

    async def _fill(self, chunk: Chunk, turn: Turn, tell: Tell) -> None:
        folder, rows = self._folder(chunk), RowBatch(self._schemas)
        reader, event_time = self._job.reader(chunk.stream, chunk.after, chunk.until, _BLOCK), None
        async with aclosing(reader.blocks()) as blocks:
            async for block in blocks:
                self._take(folder, block, chunk, rows)
                tell(len(block.sequences))
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

    async def fill_leniently(self, chunk: Chunk, refuse: Refuse, tell: Tell) -> None:
        """Store a chunk block by block, passing over what cannot be folded or stored. The tables have their keys."""
        folder, positions = self._folder(chunk), dict(chunk.positions)
        reader = self._job.reader(chunk.stream, chunk.after, chunk.until)
        async with aclosing(reader.blocks()) as blocks:
            async for block in blocks:
                last = block.sequences[-1]
                async with self._open.transaction():
                    try:
                        async with self._open.transaction():
                            rows = RowBatch(self._schemas)
                            self._fold(folder, block, positions, rows)
                            await self._make_partitions(rows)
                            await rows.write(self._open)
                    except (UnprocessableRowError, *BAD_ROW):
                        await self._one_by_one(folder, block, positions, refuse)
                    await self._move(chunk.stream, positions, last, recorded_at(block.payloads[-1]))
                positions = {name: max(position, last) for name, position in positions.items()}
                tell(len(block.sequences))
        self._check_end(reader, chunk)
        if any(position < chunk.until for position in positions.values()):  # nothing is left of the chunk's end
            async with self._open.transaction():
                await self._move(chunk.stream, positions, chunk.until, None)

    def _folder(self, chunk: Chunk) -> EventDecoder:
        chosen = [self._projections[name] for name in chunk.positions]
        return EventDecoder(self._codec, chunk.stream, chosen)

    def _take(self, folder: EventDecoder, block: Block, chunk: Chunk, rows: RowBatch) -> None:
        """A block's rows, those of maps all at once."""
        if any(position != chunk.after for position in chunk.positions.values()):
            return self._fold(folder, block, chunk.positions, rows)
        try:
            made, left = folder.mapped(block)
        except Exception:  # one by one it is found which event is bad, and in what
            return self._fold(folder, block, chunk.positions, rows)
        for each in made:
            rows.take(each.mapped, each.rows)
        if left.sequences:
            self._fold(folder, left, chunk.positions, rows, mapped=True)
        return None

    def _fold(
        self, folder: EventDecoder, block: Block, positions: dict[str, int], rows: RowBatch, *, mapped: bool = False
    ) -> None:
        """A block's rows event by event; `mapped`: but for those that maps have made."""
        merge = rows.merge
        for event, projections in folder.events(zip(*block, strict=True), positions, folded=mapped):
            for projection in projections:
                if isinstance(event, Unreadable):
                    raise _poison(projection, folder.stream, event, event.reason)
                try:
                    merge(projection.changes(event))
                except Exception as error:
                    raise _poison(projection, folder.stream, event, f"{type(error).__name__}: {error}") from error

    async def _one_by_one(self, folder: EventDecoder, block: Block, positions: dict[str, int], refuse: Refuse) -> None:
        for event, projections in folder.events(zip(*block, strict=True), positions):
            if isinstance(event, Unreadable):
                if projections:
                    await refuse(None, event, event.reason)
                continue
            for projection in projections:
                if (reason := await self._alone(projection, event)) is not None:
                    await refuse(projection, event, reason)

    async def _alone(self, projection: Projection, event: Recorded) -> str | None:
        """Write one event's rows in a savepoint; why that cannot be done, or None."""
        rows = RowBatch(self._schemas)
        try:
            rows.apply(projection.changes(event))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        try:
            async with self._open.transaction():
                await self._make_partitions(rows)
                await rows.write(self._open)
        except BAD_ROW as error:
            return f"{type(error).__name__}: {error}"
        return None

    async def _locate(self, chunk: Chunk) -> None:
        """Find the event whose rows the database refuses, and raise it as a PoisonError; nothing stays written."""
        folder = self._folder(chunk)
        reader = self._job.reader(chunk.stream, chunk.after, chunk.until)
        transaction = self._open.transaction()
        await transaction.start()
        try:
            async with aclosing(reader.blocks()) as blocks:
                async for block in blocks:
                    try:
                        async with self._open.transaction():
                            rows = RowBatch(self._schemas)
                            self._fold(folder, block, chunk.positions, rows)
                            await self._make_partitions(rows)
                            await rows.write(self._open)
                    except BAD_ROW:
                        for event, projections in folder.events(zip(*block, strict=True), chunk.positions):
                            for projection in projections:
                                assert isinstance(event, Recorded)
                                if (reason := await self._alone(projection, event)) is not None:
                                    raise _poison(projection, chunk.stream, event, reason) from None
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
        for schema in {place.schema for place in self._job.places.values()}:
            places = {
                name: (position, self._job.generations[name])
                for name, position in reached.items()
                if position < until and self._job.places[name].schema == schema
            }
            if places:
                await positions.move(self._open, schema, stream, places, until, event_time=event_time, announce=False)

    def _check_end(self, reader: Replay | ArchivedReplay, chunk: Chunk) -> None:
        # Nothing read at all is right where an age limit has cut everything off.
        if reader.done and reader.position < chunk.until:
            raise DataLossError(chunk.stream, reader.position + 1, chunk.until)

    @property
    def _open(self) -> asyncpg.Connection[Any]:
        assert self._session is not None, "the filler is not open"
        return self._session


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Rows come and go by the thousands, none of them in cycles: looking for cycles would take a tenth of the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _poison(projection: Projection, stream: str, event: Recorded | Unreadable, reason: str) -> UnprocessableRowError:
    what = f"{event.type} {event.id}" if isinstance(event, Recorded) else "unreadable"
    return UnprocessableRowError(projection.name, stream, event.sequence, what, reason)
