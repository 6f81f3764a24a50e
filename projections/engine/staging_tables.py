"""Read models under construction: their tables made somewhere, filled from history, given their keys and indexes.

A rebuild constructs beside the live tables, `--schema` in a schema of the caller's, a check in a scratch schema.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

import asyncpg

from projections.engine import positions, schemas
from projections.engine.bulk_load import BulkLoader, Refuse, job
from projections.engine.errors import RebuildError, UnprocessableRowError
from projections.engine.event_decoder import EventDecoder, Unreadable
from projections.engine.history_source import History
from projections.engine.parallel_load import CHUNK, LONG, ParallelLoad, Watch, unwatched
from projections.engine.projection import Projection
from projections.engine.schemas import Place
from projections.engine.status import ProjectionStatus
from projections.engine.table import Insert, Table
from streams.envelope import Codec

_INDEX_MEMORY = "256MB"
_INDEXERS = 2
_ANALYZED = 25
"""A quarter of the usual sample: enough to plan by, and autovacuum looks closer when it comes."""


class _Statement(NamedTuple):
    """What makes one key or index, or looks at what a table holds."""

    projection: Projection
    table: Table
    statement: str


class StagingTables:
    """Some projections being built, each in its place; `generations` are those that the positions will carry."""

    def __init__(
        self,
        nats_url: str,
        dsn: str,
        codec: Codec,
        projection_statuses: Sequence[ProjectionStatus],
        places: Mapping[str, Place],
        generations: Mapping[str, int],
        *,
        inside: bool = True,
        refuse: Refuse | None = None,
        watch: Watch = unwatched,
        chunk: int = CHUNK,
        long: int = LONG,
        history: Mapping[str, History],
    ) -> None:
        """`history`: where that of each stream is read from. `refuse`: pass over what cannot be folded rather than
        raise PoisonError. The rest: see Build."""
        self.projections = [standing.projection for standing in projection_statuses]
        self.places = dict(places)
        self._nats_url = nats_url
        self._dsn = dsn
        self._codec = codec
        self._standings = {standing.name: standing for standing in projection_statuses}
        self._generations = dict(generations)
        self._refuse = refuse
        self._history = dict(history)
        self._archives = {stream: each.archive for stream, each in history.items() if each.archive is not None}
        self._watch = watch
        self._how: dict[str, Any] = {"inside": inside, "refuse": refuse, "chunk": chunk, "long": long, "watch": watch}
        self._plan()

    def _plan(self) -> None:
        self._job = job(
            self._nats_url, self._dsn, self._codec, self.projections, self.places, self._generations, self._archives
        )
        self._build = ParallelLoad(self._job, **self._how)

    def forget(self, name: str) -> None:
        """One projection is no longer under construction."""
        self.projections = [each for each in self.projections if each.name != name]
        del self.places[name], self._generations[name], self._standings[name]
        self._plan()

    async def prepare(self, session: asyncpg.Connection[Any], *, writer: bool, resume: bool) -> dict[str, int]:
        """Make empty tables and positions at zero, unless `resume` finds what it can go on with.

        Returns how many events are in already, by projection.
        """
        found = {}
        async with session.transaction():
            for name, standing in self._standings.items():
                place, fresh = self.places[name], standing.fresh(self._generations[name])
                await session.execute(f"CREATE SCHEMA IF NOT EXISTS {place.schema}")
                await positions.prepare(session, place.schema)
                stored = await positions.positions(session, place.schema)
                mine = {stream: stored[name, stream] for stream in fresh if (name, stream) in stored}
                same = mine.keys() == fresh.keys() and all(
                    (mine[stream].version, mine[stream].shape, mine[stream].stream_created)
                    == (wanted.version, wanted.shape, wanted.stream_created)
                    for stream, wanted in fresh.items()
                )
                # What was begun from less history than there is now lacks what it began behind.
                first, begins = f"{place.schema}.{standing.projection.tables[0].name}", self._begins(standing)
                begun = await session.fetchval("SELECT obj_description(to_regclass($1), 'pg_class')", first)
                if not (resume and same and begun == begins):
                    mine = fresh
                    await self._remake(session, place, standing, writer=writer)
                    await session.execute(f"COMMENT ON TABLE {first} IS '{begins}'")
                    await positions.begin(session, place.schema, list(fresh.values()))
                found[name] = sum(position.position for position in mine.values())
        if self._refuse is not None:
            await self.finish()  # what is refused is found by the keys
        return found

    def _begins(self, standing: ProjectionStatus) -> str:
        places = sorted(f"{stream}:{self._history[stream].begins}" for stream in standing.extents)
        return f"built from {', '.join(places)} on"

    async def _remake(
        self, session: asyncpg.Connection[Any], place: Place, standing: ProjectionStatus, *, writer: bool
    ) -> None:
        for table in standing.projection.tables:
            await session.execute(f"DROP TABLE IF EXISTS {place.schema}.{table.name}")
        await schemas.make_tables(session, place, standing.projection, writer=writer, whole=False)

    async def fill(self, ends: Mapping[str, int], what: str, *, only: Collection[str] = ()) -> None:
        """Until every projection (of `only`, when given) stands at its streams' ends."""
        await self._build.to(ends, what, only=only, alone=await self._keyed())

    async def _keyed(self) -> bool:
        """Whether a table that is only appended to has its key already."""
        session = await asyncpg.connect(self._dsn, timeout=10)
        try:
            for projection in self.projections:
                for table in projection.tables:
                    left = await schemas.unfinished(session, self.places[projection.name].schema, table)
                    if table.append_only and not any("PRIMARY KEY" in statement for statement in left):
                        return True
        finally:
            session.terminate()
        return False

    async def positions(self) -> dict[tuple[str, str], int]:
        return await self._build.positions()

    def reaching(self, stands: Mapping[tuple[str, str], int], ends: Mapping[str, int]) -> int:
        """How many events are between where it stands and the ends."""
        streams = {stream for _, stream in stands}
        return sum(
            max(0, ends[stream] - min(at for (_, of), at in stands.items() if of == stream)) for stream in streams
        )

    async def finish(self, *, keys_only: bool = False) -> None:
        """Make the keys and indexes that are missing, keys first, several at a time.

        Raises PoisonError naming the event that inserts a row a second time.
        """
        session = await asyncpg.connect(self._dsn, timeout=10)
        keys: list[_Statement] = []
        others: list[_Statement] = []
        try:
            for projection in self.projections:
                for table in projection.tables:
                    for statement in await schemas.unfinished(session, self.places[projection.name].schema, table):
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
        """What lets the planner know a table that was filled."""
        return [
            # Of partitions the planner knows enough by their indexes; autovacuum looks at them, never at the whole.
            _Statement(projection, table, f"ANALYZE {'ONLY ' if table.by_day else ''}{place.schema}.{table.name}")
            for projection in self.projections
            for table in projection.tables
            if (place := self.places[projection.name])
        ]

    async def _index(self, left: deque[_Statement], total: int) -> None:
        session = await asyncpg.connect(self._dsn, timeout=10)
        try:
            await session.execute(f"SET maintenance_work_mem = '{_INDEX_MEMORY}'")
            await session.execute("SET max_parallel_maintenance_workers = 0")  # we are several ourselves
            await session.execute(f"SET default_statistics_target = {_ANALYZED}")
            await session.execute("SET synchronous_commit = off")
            with suppress(
                asyncpg.InsufficientPrivilegeError
            ):  # compressing what is written once costs more than it saves
                await session.execute("SET wal_compression = off")
            while left:
                made = left.popleft()
                self._watch("indexes", total - len(left) - 1, total)
                try:
                    await session.execute(made.statement)
                except asyncpg.UniqueViolationError as error:
                    raise await self._second_insert(session, made.projection, made.table) from error
        finally:
            session.terminate()

    async def _second_insert(self, session: asyncpg.Connection[Any], projection: Projection, table: Table) -> Exception:
        """Which event inserts a row that is there already: found by folding again, for the error's sake."""
        key = await session.fetchrow(
            f"SELECT {', '.join(table.key)} FROM {self.places[projection.name].schema}.{table.name} "
            f"GROUP BY {', '.join(table.key)} HAVING count(*) > 1 LIMIT 1"
        )
        if key is None:
            return RebuildError(f"{table.name}: a key was doubled and is no longer; rebuild again")
        first = ""
        for stream, end in await self._ends(projection):
            folder = EventDecoder(self._codec, stream, [projection])
            reader = self._job.reader(stream, 0, end)
            async with aclosing(reader.blocks()) as blocks:
                async for block in blocks:
                    for event, _ in folder.events(zip(*block, strict=True), {projection.name: 0}):
                        if isinstance(event, Unreadable):
                            continue
                        for change in projection.changes(event):
                            if not isinstance(change, Insert) or change.table.name != table.name:
                                continue
                            if tuple(change.row[name] for name in table.key) != tuple(key):
                                continue
                            if first:
                                why = f"{table.name} has a row {tuple(key)} already, from {first}"
                                what = f"{event.type} {event.id}"
                                return UnprocessableRowError(projection.name, stream, event.sequence, what, why)
                            first = event.at
        return RebuildError(f"{table.name} holds two rows {tuple(key)}, but no two events insert it; rebuild again")

    async def _ends(self, projection: Projection) -> list[tuple[str, int]]:
        return [(stream, at) for (name, stream), at in (await self.positions()).items() if name == projection.name]

    async def filler(self, session: asyncpg.Connection[Any]) -> BulkLoader:
        """A filler inside a transaction of the caller's."""
        return await BulkLoader(self._job).open(session)
