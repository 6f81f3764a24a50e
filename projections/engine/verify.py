"""Verify: replay history into a scratch schema up to where the live read models stand, and compare.

The live rows are looked at in one snapshot together with their positions, so nothing has to stand still: the scratch
tables are then brought to exactly those positions. Digests are computed inside Postgres, from every row's text, and do
not depend on the order of rows. Events that cannot be folded are passed over, as the live runner passes over them.
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
from projections.engine.bulk_load import Refuse
from projections.engine.errors import RebuildError, UnprocessableRowError
from projections.engine.event_decoder import Unreadable
from projections.engine.history_source import History, check_front, histories
from projections.engine.parallel_load import CHUNK, LONG, Watch, unwatched
from projections.engine.projection import Projection
from projections.engine.schemas import Place
from projections.engine.staging_tables import StagingTables
from projections.engine.status import ProjectionStatus, projection_statuses
from projections.engine.table import Row, Table
from streams.connection import Connection, connect
from streams.envelope import Codec, Recorded

_PAGE = 5_000


class Difference(NamedTuple):
    """The first row, by its key, that differs. `column` is None when one side lacks the row: its value is None."""

    key: dict[str, Any]
    column: str | None
    live: Any
    replayed: Any


class TableCheck(NamedTuple):
    """One table: rows and digest of the live one, and those that the replay makes."""

    table: str
    rows: int
    digest: str
    replayed_rows: int
    replayed_digest: str
    difference: Difference | None


class Check(NamedTuple):
    """One projection, as of its live `positions` by stream. `passed_over` events could not be folded.

    `unverifiable` says why there is nothing to compare with: an age limit has removed what old rows were built from.
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
    watch: Watch = unwatched,
    chunk: int = CHUNK,
    long: int = LONG,
    archive: str | None = None,
    cold: bool = False,
) -> list[Check]:
    """Check the live read models against history. The scratch schema is dropped, whatever comes of it.

    `archive` and `cold` as in a rebuild. Raises RebuildError for a read model that is not of the code's version,
    OtherLogError or DataLossError for another log than it was built from.
    """
    connection = await connect(nats_url, "vibe verify")
    scratch = f"rm_verify_{os.getpid()}_{time.monotonic_ns()}"
    sessions: list[asyncpg.Connection[Any]] = []
    try:
        sessions += [await asyncpg.connect(dsn, timeout=10), await asyncpg.connect(dsn, timeout=10)]
        verification = _Verification(nats_url, dsn, codec, connection, sessions, scratch, watch)
        verification.archive, verification.cold = archive, cold
        how = {"chunk": chunk, "long": long}
        try:
            return await verification.run(projections, None, how)
        except UnprocessableRowError:
            # Once more, the slow way: the live runner has passed over such events too.
            await sessions[0].execute(f"DROP SCHEMA IF EXISTS {scratch} CASCADE")
            passed: Counter[str] = Counter()
            unreadable: Counter[str] = Counter()

            async def refuse(projection: Projection | None, event: Recorded | Unreadable, why: str) -> None:
                if projection is not None:
                    passed[projection.name] += 1
                else:
                    unreadable[event.stream] += 1

            checks = await verification.run(projections, refuse, how)
            # What nobody can read is passed over by all that read its stream.
            over = {
                each.name: passed[each.name] + sum(unreadable[stream.name] for stream in each.reads)
                for each in projections
            }
            return [check._replace(passed_over=over[check.projection]) for check in checks]
    finally:
        for session in sessions:
            session.terminate()
        await connection.close()
        last: asyncpg.Connection[Any] = await asyncpg.connect(dsn, timeout=10)
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
        watch: Watch,
    ) -> None:
        self._nats_url = nats_url
        self._dsn = dsn
        self._codec = codec
        self._connection = connection
        self._live, self._replayed = sessions
        self._scratch = scratch
        self._watch = watch
        self.archive: str | None = None
        self.cold = False

    async def run(self, projections: Sequence[Projection], refuse: Refuse | None, how: dict[str, Any]) -> list[Check]:
        stands = await projection_statuses(self._connection, self._live, projections)
        for standing in stands:
            _check_standing(standing)
        extents = {stream: extent for standing in stands for stream, extent in standing.extents.items()}
        found = await histories(self._nats_url, self.archive, extents, cold=self.cold)
        short = [Check(each.name, {}, [], 0, why) for each in stands if (why := _cut_off(each, found))]
        stands = [each for each in stands if not _cut_off(each, found)]
        if not stands:
            return short
        construction = StagingTables(
            self._nats_url,
            self._dsn,
            self._codec,
            stands,
            {each.name: Place(self._scratch, self._scratch) for each in stands},
            {each.name: 1 for each in stands},
            refuse=refuse,
            watch=self._watch,
            history=found,
            **how,
        )
        await construction.prepare(self._replayed, writer=False, resume=False)
        await self._fill(construction, stands, {
            (each.name, stream): position.position for each in stands for stream, position in each.positions.items()
        })  # fmt: skip
        await construction.finish(keys_only=True)
        async with self._snapshot(stands) as positions:
            await self._fill(construction, stands, positions)
            now = await projection_statuses(self._connection, self._replayed, [each.projection for each in stands])
            check_front(found, {stream: extent for each in now for stream, extent in each.extents.items()})
            checks: list[Check] = []
            for standing in stands:
                self._watch("comparing", len(checks), len(stands))
                tables = [await self._compare(standing.schema, table) for table in standing.projection.tables]
                mine = {stream: at for (name, stream), at in positions.items() if name == standing.name}
                checks.append(Check(standing.name, mine, tables, 0))
        return checks + short

    async def _fill(
        self, construction: StagingTables, stands: Sequence[ProjectionStatus], positions: dict[tuple[str, str], int]
    ) -> None:
        """Bring the scratch tables to exactly these positions; projections that stand apart are filled apart."""
        ends: dict[str, dict[str, int]] = {}
        for (name, stream), at in positions.items():
            ends.setdefault(name, {})[stream] = at
        alike: dict[tuple[tuple[str, int], ...], list[str]] = {}
        streams = {stream: max(e.get(stream, 0) for e in ends.values()) for e in ends.values() for stream in e}
        for name, mine in ends.items():
            same = all(streams[stream] == at for stream, at in mine.items())
            alike.setdefault(() if same else tuple(sorted(mine.items())), []).append(name)
        for group, names in alike.items():
            await construction.fill(dict(group) if group else streams, "replaying", only=names)

    @asynccontextmanager
    async def _snapshot(self, stands: Sequence[ProjectionStatus]) -> AsyncIterator[dict[tuple[str, str], int]]:
        """The live rows and positions as of one moment, for the time of the block."""
        async with self._live.transaction(isolation="repeatable_read", readonly=True):
            # Locks before the snapshot: a swap cannot come between what is seen of one table and of the next.
            tables = [f"{each.schema}.{table.name}" for each in stands for table in each.projection.tables]
            for name in tables:
                await self._live.execute(f"LOCK TABLE ONLY {name} IN ACCESS SHARE MODE")
            await self._live.execute("SET LOCAL TimeZone = 'UTC'")
            stored = await positions.positions(self._live, stands[0].schema)
            yield {
                (each.name, stream): stored[each.name, stream].position for each in stands for stream in each.positions
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
        """Walk both tables in the order of their key until they part."""
        async with self._replayed.transaction():
            live = _walk(self._live, schema, table)
            replayed = _walk(self._replayed, self._scratch, table)
            mine, theirs = await anext(live, None), await anext(replayed, None)
            while mine is not None and theirs is not None and mine == theirs:
                mine, theirs = await anext(live, None), await anext(replayed, None)
        if mine is None and theirs is None:
            raise RebuildError(f"{table.name}: the digests differ and no row does; verify again")
        first = mine if theirs is None or (mine is not None and _order(table, mine) < _order(table, theirs)) else theirs
        assert first is not None
        key = {name: first[name] for name in table.key}
        if mine is None or theirs is None or _order(table, mine) != _order(table, theirs):
            return Difference(key, None, mine if first is mine else None, theirs if first is theirs else None)
        column = next(name for name in table.columns if mine[name] != theirs[name])
        return Difference(key, column, mine[column], theirs[column])


def _check_standing(standing: ProjectionStatus) -> None:
    standing.check_log()
    if not standing.positions:
        raise RebuildError(f"{standing.name} has not been built yet: vibe run projections builds it")
    if standing.outdated is not None:
        raise RebuildError(
            f"{standing.name} cannot be verified: {standing.outdated}. It is rebuilt when the projections start, or "
            f"by: vibe projections rebuild {standing.name}"
        )


def _cut_off(standing: ProjectionStatus, found: Mapping[str, History]) -> str | None:
    for stream in standing.extents:
        if found[stream].begins > 1:
            return (
                f"{stream} begins at sequence {found[stream].begins:,}; what is older was removed by its age limit and "
                "is not in the archive, so rows built from it cannot be computed again"
            )
    return None


async def _digest(session: asyncpg.Connection[Any], schema: str, table: Table) -> tuple[int, str]:
    """(rows, 128 bits of a sum over two hashes of each row's text)."""
    row = await session.fetchrow(
        # OFFSET 0 keeps the planner from making the text twice.
        "SELECT count(*) AS rows, coalesce(sum(hashtextextended(r, 1)), 0)::text AS a, "
        "coalesce(sum(hashtextextended(r, 2)), 0)::text AS b "
        f"FROM (SELECT t::text AS r FROM {schema}.{table.name} t OFFSET 0) s"
    )
    assert row is not None
    return row["rows"], f"{int(row['a']) % 2**64:016x}{int(row['b']) % 2**64:016x}"


async def _walk(session: asyncpg.Connection[Any], schema: str, table: Table) -> AsyncIterator[Row]:
    order = ", ".join(
        f'{name} COLLATE "C"' if table.columns[name].removesuffix(" NULL") == "text" else name for name in table.key
    )
    columns = ", ".join(table.columns)
    async for row in session.cursor(f"SELECT {columns} FROM {schema}.{table.name} ORDER BY {order}", prefetch=_PAGE):
        yield dict(row)


def _order(table: Table, row: Row) -> tuple[Any, ...]:
    # As the "C" collation orders text: by its bytes.
    return tuple(value.encode() if isinstance(value, str) else value for value in map(row.get, table.key))
