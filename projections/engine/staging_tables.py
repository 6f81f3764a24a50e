"""Staging tables: tables of read models that are created, loaded from history, and given their keys and indexes.

A rebuild uses them beside the live tables, `build_as_of` in a schema that the operator names, `verify` in a scratch
schema.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

import asyncpg

from projections.engine import positions, schemas
from projections.engine.bulk_load import BulkLoader, OnSkipped, job
from projections.engine.errors import RebuildError, UnprocessableRowError
from projections.engine.event_decoder import EventDecoder, Unreadable
from projections.engine.history_source import HistorySource
from projections.engine.parallel_load import CHUNK, LONG, ParallelLoad, ReportProgress, no_progress
from projections.engine.projection import Projection
from projections.engine.schemas import Location
from projections.engine.sessions import INDEX_SECONDS, LOAD_SECONDS, open_session
from projections.engine.status import ProjectionStatus
from projections.engine.table import Insert, Table
from streams.envelope import Codec

_INDEX_MEMORY = "256MB"
_INDEXERS = 2
_ANALYZED = 25
"""A quarter of the default sample: enough for the planner until autovacuum analyzes the table."""


class _Statement(NamedTuple):
    """A statement that creates one key or index, or analyzes one table."""

    projection: Projection
    table: Table
    statement: str


class StagingTables:
    """The staging tables of some projections, each in its location; the positions carry `generations`."""

    def __init__(
        self,
        nats_url: str,
        dsn: str,
        codec: Codec,
        projection_statuses: Sequence[ProjectionStatus],
        locations: Mapping[str, Location],
        generations: Mapping[str, int],
        *,
        inside: bool = True,
        on_skipped: OnSkipped | None = None,
        progress: ReportProgress = no_progress,
        chunk: int = CHUNK,
        long: int = LONG,
        sources: Mapping[str, HistorySource],
    ) -> None:
        """`sources`: where the history of each stream is read from. `on_skipped`: skip events that cannot be folded or
        stored instead of raising UnprocessableRowError. The rest: see `ParallelLoad`."""
        self.projections = [status.projection for status in projection_statuses]
        self.locations = dict(locations)
        self._nats_url = nats_url
        self._dsn = dsn
        self._codec = codec
        self._statuses = {status.name: status for status in projection_statuses}
        self._generations = dict(generations)
        self._on_skipped = on_skipped
        self._sources = dict(sources)
        self._archives = {stream: each.archive for stream, each in sources.items() if each.archive is not None}
        self._progress = progress
        self._options: dict[str, Any] = {"inside": inside, "on_skipped": on_skipped, "progress": progress}
        self._options |= {"chunk": chunk, "long": long}
        self._prepare_load()

    def _prepare_load(self) -> None:
        self._job = job(
            self._nats_url, self._dsn, self._codec, self.projections, self.locations, self._generations, self._archives
        )
        self._load = ParallelLoad(self._job, **self._options)

    def forget(self, name: str) -> None:
        """Leave out a projection whose tables have been swapped in."""
        self.projections = [each for each in self.projections if each.name != name]
        del self.locations[name], self._generations[name], self._statuses[name]
        self._prepare_load()

    async def prepare(self, session: asyncpg.Connection[Any], *, writer: bool, resume: bool) -> dict[str, int]:
        """Create empty tables and positions at zero, unless `resume` finds tables that it can continue.

        Returns how many events are loaded already, by projection.
        """
        found = {}
        async with session.transaction():
            for name, status in self._statuses.items():
                location, fresh = self.locations[name], status.initial_positions(self._generations[name])
                await session.execute(f"CREATE SCHEMA IF NOT EXISTS {location.schema}")
                await positions.prepare(session, location.schema)
                stored = await positions.positions(session, location.schema)
                mine = {stream: stored[name, stream] for stream in fresh if (name, stream) in stored}
                same = mine.keys() == fresh.keys() and all(
                    (mine[stream].version, mine[stream].shape, mine[stream].stream_created)
                    == (wanted.version, wanted.shape, wanted.stream_created)
                    for stream, wanted in fresh.items()
                )
                # Tables that were begun when less history was readable lack the events before that.
                first, begins = f"{location.schema}.{status.projection.tables[0].name}", self._begins(status)
                begun = await session.fetchval("SELECT obj_description(to_regclass($1), 'pg_class')", first)
                if not (resume and same and begun == begins):
                    mine = fresh
                    await self._recreate(session, location, status, writer=writer)
                    await session.execute(f"COMMENT ON TABLE {first} IS '{begins}'")
                    await positions.replace(session, location.schema, list(fresh.values()))
                found[name] = sum(position.position for position in mine.values())
        if self._on_skipped is not None:
            await self.finish()  # the keys reveal doubled rows
        return found

    def _begins(self, status: ProjectionStatus) -> str:
        begins = sorted(f"{stream}:{self._sources[stream].begins}" for stream in status.extents)
        return f"built from {', '.join(begins)} on"

    async def _recreate(
        self, session: asyncpg.Connection[Any], location: Location, status: ProjectionStatus, *, writer: bool
    ) -> None:
        for table in status.projection.tables:
            await session.execute(f"DROP TABLE IF EXISTS {location.schema}.{table.name}")
        await schemas.make_tables(session, location, status.projection, writer=writer, whole=False)

    async def fill(self, ends: Mapping[str, int], activity: str, *, only: Collection[str] = ()) -> None:
        """Load until every projection (of `only`, if given) has reached the ends of its streams, given in `ends`."""
        await self._load.to(ends, activity, only=only, alone=await self._keyed())

    async def _keyed(self) -> bool:
        """Whether an append-only table has its key already."""
        session = await open_session(self._dsn, LOAD_SECONDS)
        try:
            for projection in self.projections:
                for table in projection.tables:
                    left = await schemas.unfinished(session, self.locations[projection.name].schema, table)
                    if table.append_only and not any("PRIMARY KEY" in statement for statement in left):
                        return True
        finally:
            session.terminate()
        return False

    async def positions(self) -> dict[tuple[str, str], int]:
        return await self._load.positions()

    def remaining(self, reached: Mapping[tuple[str, str], int], ends: Mapping[str, int]) -> int:
        """How many events are between the reached positions and the ends."""
        streams = {stream for _, stream in reached}
        return sum(
            max(0, ends[stream] - min(at for (_, of), at in reached.items() if of == stream)) for stream in streams
        )

    async def finish(self, *, keys_only: bool = False) -> None:
        """Create the missing keys and indexes, keys first, several at a time.

        Raises UnprocessableRowError that names the event which inserts a row a second time.
        """
        session = await open_session(self._dsn, LOAD_SECONDS)
        keys: list[_Statement] = []
        others: list[_Statement] = []
        try:
            for projection in self.projections:
                for table in projection.tables:
                    for statement in await schemas.unfinished(session, self.locations[projection.name].schema, table):
                        made = _Statement(projection, table, statement)
                        (keys if "PRIMARY KEY" in statement else others).append(made)
        finally:
            session.terminate()
        statements = keys if keys_only else [*keys, *others]
        if not keys_only:
            statements += self._analyzing()
        left = deque(statements)
        indexers = [asyncio.create_task(self._index(left, len(left))) for _ in range(min(_INDEXERS, len(left)))]
        try:
            await asyncio.gather(*indexers)
        finally:
            for indexer in indexers:
                indexer.cancel()
            await asyncio.gather(*indexers, return_exceptions=True)

    def _analyzing(self) -> list[_Statement]:
        """The statements that give the planner statistics of the loaded tables."""
        return [
            # Partitions have statistics from their indexes, and autovacuum analyzes them, but never the parent table.
            _Statement(projection, table, f"ANALYZE {'ONLY ' if table.by_day else ''}{location.schema}.{table.name}")
            for projection in self.projections
            for table in projection.tables
            if (location := self.locations[projection.name])
        ]

    async def _index(self, left: deque[_Statement], total: int) -> None:
        session = await open_session(self._dsn, INDEX_SECONDS)
        try:
            await session.execute(f"SET maintenance_work_mem = '{_INDEX_MEMORY}'")
            await session.execute(
                "SET max_parallel_maintenance_workers = 0"
            )  # several indexes are built at once already
            await session.execute(f"SET default_statistics_target = {_ANALYZED}")
            await session.execute("SET synchronous_commit = off")
            # Compressing WAL that is written once costs more than it saves.
            with suppress(asyncpg.InsufficientPrivilegeError):
                await session.execute("SET wal_compression = off")
            while left:
                made = left.popleft()
                self._progress("indexes", total - len(left) - 1, total)
                try:
                    await session.execute(made.statement)
                except asyncpg.UniqueViolationError as error:
                    raise await self._find_second_insert(session, made.projection, made.table) from error
        finally:
            session.terminate()

    async def _find_second_insert(
        self, session: asyncpg.Connection[Any], projection: Projection, table: Table
    ) -> Exception:
        """An error that names the event which inserts a row a second time, found by folding the history again."""
        key = await session.fetchrow(
            f"SELECT {', '.join(table.key)} FROM {self.locations[projection.name].schema}.{table.name} "
            f"GROUP BY {', '.join(table.key)} HAVING count(*) > 1 LIMIT 1"
        )
        if key is None:
            return RebuildError(f"{table.name}: a duplicate key was reported and is not found; rebuild again")
        first = ""
        for stream, end in await self._ends(projection):
            decoder = EventDecoder(self._codec, stream, [projection])
            reader = self._job.reader(stream, 0, end)
            async with aclosing(reader.blocks()) as blocks:
                async for block in blocks:
                    for event, _ in decoder.events(zip(*block, strict=True), {projection.name: 0}):
                        if isinstance(event, Unreadable):
                            continue
                        for change in projection.changes(event):
                            if not isinstance(change, Insert) or change.table.name != table.name:
                                continue
                            if tuple(change.row[name] for name in table.key) != tuple(key):
                                continue
                            if first:
                                reason = f"{table.name} has a row {tuple(key)} already, from {first}"
                                label = f"{event.type} {event.id}"
                                return UnprocessableRowError(projection.name, stream, event.sequence, label, reason)
                            first = event.at
        return RebuildError(f"{table.name} holds two rows {tuple(key)}, but no two events insert it; rebuild again")

    async def _ends(self, projection: Projection) -> list[tuple[str, int]]:
        return [(stream, at) for (name, stream), at in (await self.positions()).items() if name == projection.name]

    async def loader(self, session: asyncpg.Connection[Any]) -> BulkLoader:
        """A bulk loader that works in the caller's transaction."""
        return await BulkLoader(self._job).open(session)
