"""Verify: replay history into a scratch schema up to the positions of the live read models, and compare all rows.

The live rows are read in one snapshot together with their positions, so the engine may run meanwhile: the scratch
tables are loaded to exactly those positions. Postgres computes a digest over the text of every row, independent of
their order. Events that cannot be folded are skipped, as the engine dead-letters them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg

from projections.engine import positions
from projections.engine.bulk_load import OnSkipped
from projections.engine.errors import RebuildError, UnprocessableRowError
from projections.engine.event_decoder import Unreadable
from projections.engine.history_source import HistorySource, check_not_truncated, find_sources
from projections.engine.parallel_load import CHUNK, LONG, ReportProgress, no_progress
from projections.engine.projection import Projection
from projections.engine.schemas import Location
from projections.engine.sessions import INDEX_SECONDS, open_session
from projections.engine.staging_tables import StagingTables
from projections.engine.status import ProjectionStatus, projection_statuses
from projections.engine.table import Row, Table
from streams.connection import Connection, connect
from streams.envelope import Codec, Recorded

_PAGE = 5_000


class Difference(NamedTuple):
    """The first row by key that differs, and its first differing column. `column` is None when one side lacks the row;
    that side's value is None."""

    key: dict[str, Any]
    column: str | None
    live: Any
    replayed: Any


class TableCheck(NamedTuple):
    """One table: its rows and digest, and those of the replayed table."""

    table: str
    rows: int
    digest: str
    replayed_rows: int
    replayed_digest: str
    difference: Difference | None


class Check(NamedTuple):
    """The comparison of one projection at its live `positions`, by stream. `passed_over` events could not be folded.

    `unverifiable` is the reason when no comparison is possible: an age limit has removed events that rows were built
    from.
    """

    projection: str
    positions: dict[str, int]
    tables: list[TableCheck]
    passed_over: int
    unverifiable: str | None = None

    @property
    def equal(self) -> bool:
        return all(table.difference is None for table in self.tables)


async def verify(
    nats_url: str,
    dsn: str,
    codec: Codec,
    projections: Sequence[Projection],
    *,
    progress: ReportProgress = no_progress,
    chunk: int = CHUNK,
    long: int = LONG,
    archive: str | None = None,
    prefer_archive: bool = False,
) -> list[Check]:
    """Compare the live read models with a replay of history; one Check per projection. Drops the scratch schema.

    `archive` and `prefer_archive` as in `rebuild`. Raises RebuildError for a read model that another version of the
    code built, OtherLogError or DataLossError when the log is not the one that it was built from.
    """
    connection = await connect(nats_url, "vibe verify")
    scratch = f"rm_verify_{os.getpid()}_{time.monotonic_ns()}"
    sessions: list[asyncpg.Connection[Any]] = []
    try:
        sessions += [await open_session(dsn, INDEX_SECONDS), await open_session(dsn, INDEX_SECONDS)]
        verification = _Verification(nats_url, dsn, codec, connection, sessions, scratch, progress)
        verification.archive, verification.prefer_archive = archive, prefer_archive
        options = {"chunk": chunk, "long": long}
        try:
            return await verification.run(projections, None, options)
        except UnprocessableRowError:
            # Again, event by event: the engine has skipped such events too.
            await sessions[0].execute(f"DROP SCHEMA IF EXISTS {scratch} CASCADE")
            skipped: Counter[str] = Counter()
            unreadable: Counter[str] = Counter()

            async def on_skipped(projection: Projection | None, event: Recorded | Unreadable, why: str) -> None:
                if projection is not None:
                    skipped[projection.name] += 1
                else:
                    unreadable[event.stream] += 1

            checks = await verification.run(projections, on_skipped, options)
            # Every projection that reads a stream skips its unreadable events.
            totals = {
                each.name: skipped[each.name] + sum(unreadable[stream.name] for stream in each.reads)
                for each in projections
            }
            return [check._replace(passed_over=totals[check.projection]) for check in checks]
    finally:
        for session in sessions:
            session.terminate()
        await connection.close()
        last = await open_session(dsn, INDEX_SECONDS)
        await last.execute(f"DROP SCHEMA IF EXISTS {scratch} CASCADE")
        last.terminate()


class _Verification:
    def __init__(
        self,
        nats_url: str,
        dsn: str,
        codec: Codec,
        connection: Connection,
        sessions: Sequence[asyncpg.Connection[Any]],
        scratch: str,
        progress: ReportProgress,
    ) -> None:
        self._nats_url = nats_url
        self._dsn = dsn
        self._codec = codec
        self._connection = connection
        self._live, self._replayed = sessions
        self._scratch = scratch
        self._progress = progress
        self.archive: str | None = None
        self.prefer_archive = False

    async def run(
        self, projections: Sequence[Projection], on_skipped: OnSkipped | None, options: dict[str, Any]
    ) -> list[Check]:
        statuses = await projection_statuses(self._connection, self._live, projections)
        for status in statuses:
            _check_verifiable(status)
        extents = {stream: extent for status in statuses for stream, extent in status.extents.items()}
        found = await find_sources(self._nats_url, self.archive, extents, prefer_archive=self.prefer_archive)
        unverifiable = [Check(each.name, {}, [], 0, why) for each in statuses if (why := _truncated(each, found))]
        statuses = [each for each in statuses if not _truncated(each, found)]
        if not statuses:
            return unverifiable
        staging = StagingTables(
            self._nats_url,
            self._dsn,
            self._codec,
            statuses,
            {each.name: Location(self._scratch, self._scratch) for each in statuses},
            {each.name: 1 for each in statuses},
            on_skipped=on_skipped,
            progress=self._progress,
            sources=found,
            **options,
        )
        await staging.prepare(self._replayed, writer=False, resume=False)
        await self._fill(staging, {
            (each.name, stream): position.position for each in statuses for stream, position in each.positions.items()
        })  # fmt: skip
        await staging.finish(keys_only=True)
        async with self._snapshot(statuses) as positions:
            await self._fill(staging, positions)
            now = await projection_statuses(self._connection, self._replayed, [each.projection for each in statuses])
            check_not_truncated(found, {stream: extent for each in now for stream, extent in each.extents.items()})
            checks: list[Check] = []
            for status in statuses:
                self._progress("comparing", len(checks), len(statuses))
                tables = [await self._compare(status.schema, table) for table in status.projection.tables]
                mine = {stream: at for (name, stream), at in positions.items() if name == status.name}
                checks.append(Check(status.name, mine, tables, 0))
        return checks + unverifiable

    async def _fill(self, staging: StagingTables, positions: dict[tuple[str, str], int]) -> None:
        """Load the scratch tables to exactly these positions; projections with different positions are loaded
        separately."""
        ends: dict[str, dict[str, int]] = {}
        for (name, stream), at in positions.items():
            ends.setdefault(name, {})[stream] = at
        alike: dict[tuple[tuple[str, int], ...], list[str]] = {}
        streams = {stream: max(e.get(stream, 0) for e in ends.values()) for e in ends.values() for stream in e}
        for name, mine in ends.items():
            same = all(streams[stream] == at for stream, at in mine.items())
            alike.setdefault(() if same else tuple(sorted(mine.items())), []).append(name)
        for group, names in alike.items():
            await staging.fill(dict(group) if group else streams, "replaying", only=names)

    @asynccontextmanager
    async def _snapshot(self, statuses: Sequence[ProjectionStatus]) -> AsyncIterator[dict[tuple[str, str], int]]:
        """A snapshot of the live rows for the duration of the block; yields the positions in it."""
        async with self._live.transaction(isolation="repeatable_read", readonly=True):
            # Locks before the snapshot, so that no swap happens between reads of two tables.
            tables = [f"{each.schema}.{table.name}" for each in statuses for table in each.projection.tables]
            for name in tables:
                await self._live.execute(f"LOCK TABLE ONLY {name} IN ACCESS SHARE MODE")
            await self._live.execute("SET LOCAL TimeZone = 'UTC'")
            stored = await positions.positions(self._live, statuses[0].schema)
            yield {
                (each.name, stream): stored[each.name, stream].position
                for each in statuses
                for stream in each.positions
            }

    async def _compare(self, schema: str, table: Table) -> TableCheck:
        await self._replayed.execute("SET TimeZone = 'UTC'")
        (rows, digest), (replayed_rows, replayed_digest) = await asyncio.gather(
            _digest(self._live, schema, table), _digest(self._replayed, self._scratch, table)
        )
        difference = None
        if (rows, digest) != (replayed_rows, replayed_digest):
            difference = await self._first_difference(schema, table)
        return TableCheck(table.name, rows, digest, replayed_rows, replayed_digest, difference)

    async def _first_difference(self, schema: str, table: Table) -> Difference:
        """Read both tables in key order up to the first difference."""
        async with self._replayed.transaction():
            live = _rows_by_key(self._live, schema, table)
            replayed = _rows_by_key(self._replayed, self._scratch, table)
            mine, theirs = await anext(live, None), await anext(replayed, None)
            while mine is not None and theirs is not None and mine == theirs:
                mine, theirs = await anext(live, None), await anext(replayed, None)
        if mine is None and theirs is None:
            raise RebuildError(f"{table.name}: the digests differ but no row does; verify again")
        first = mine if theirs is None or (mine is not None and _order(table, mine) < _order(table, theirs)) else theirs
        assert first is not None
        key = {name: first[name] for name in table.key}
        if mine is None or theirs is None or _order(table, mine) != _order(table, theirs):
            return Difference(key, None, mine if first is mine else None, theirs if first is theirs else None)
        column = next(name for name in table.columns if mine[name] != theirs[name])
        return Difference(key, column, mine[column], theirs[column])


def _check_verifiable(status: ProjectionStatus) -> None:
    status.check_log()
    if not status.positions:
        raise RebuildError(f"{status.name} has not been built yet: vibe run projections builds it")
    if status.outdated is not None:
        raise RebuildError(
            f"{status.name} cannot be verified: {status.outdated}. It is rebuilt when the projections start, or "
            f"by: vibe projections rebuild {status.name}"
        )


def _truncated(status: ProjectionStatus, found: Mapping[str, HistorySource]) -> str | None:
    for stream in status.extents:
        if found[stream].begins > 1:
            return (
                f"{stream} begins at sequence {found[stream].begins:,}; older events were removed by its age limit and "
                "are not in the archive, so the rows built from them cannot be computed again"
            )
    return None


async def _digest(session: asyncpg.Connection[Any], schema: str, table: Table) -> tuple[int, str]:
    """(rows, 128 bits of a sum over two hashes of each row's text)."""
    row = await session.fetchrow(
        # OFFSET 0 prevents the planner from computing the text twice.
        "SELECT count(*) AS rows, coalesce(sum(hashtextextended(r, 1)), 0)::text AS a, "
        "coalesce(sum(hashtextextended(r, 2)), 0)::text AS b "
        f"FROM (SELECT t::text AS r FROM {schema}.{table.name} t OFFSET 0) s"
    )
    assert row is not None
    return row["rows"], f"{int(row['a']) % 2**64:016x}{int(row['b']) % 2**64:016x}"


async def _rows_by_key(session: asyncpg.Connection[Any], schema: str, table: Table) -> AsyncIterator[Row]:
    order = ", ".join(
        f'{name} COLLATE "C"' if table.columns[name].removesuffix(" NULL") == "text" else name for name in table.key
    )
    columns = ", ".join(table.columns)
    async for row in session.cursor(f"SELECT {columns} FROM {schema}.{table.name} ORDER BY {order}", prefetch=_PAGE):
        yield dict(row)


def _order(table: Table, row: Row) -> tuple[Any, ...]:
    # The "C" collation orders text by its bytes.
    return tuple(value.encode() if isinstance(value, str) else value for value in map(row.get, table.key))
