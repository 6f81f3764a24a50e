"""A report on every read model: state, positions, lag, rate and size, for `vibe projections list`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from projections.engine import positions, schemas
from projections.engine.projection import Projection
from projections.engine.runner import ENGINE_LOCK
from projections.engine.status import ProjectionStatus, projection_statuses
from projections.engine.table import Table
from streams.connection import Connection

_COUNTED = 1_000_000
"""Larger tables are not counted: the report gives the planner's estimate."""


class ProjectionReport(NamedTuple):
    """One read model. `positions` and `lag` (sequences not stored yet) by stream; `rate` in events per second.

    `state`: live, stopped (no engine runs), new, outdated (with the reason), or building. `rows` is an estimate where
    `estimated` is set; `bytes` includes indexes.
    """

    name: str
    version: int
    state: str
    positions: dict[str, int]
    lag: dict[str, int]
    rate: float
    rows: int
    estimated: bool
    bytes: int
    last_event: datetime | None


async def status_report(
    connection: Connection, session: asyncpg.Connection[Any], projections: Sequence[Projection]
) -> list[ProjectionReport]:
    """One report per projection, in order. Raises TopologyError for a stream that does not exist."""
    running = bool(
        await session.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            ENGINE_LOCK,
        )
    )
    now: datetime = await session.fetchval("SELECT now()")
    return [
        await _report(session, each, running, now)
        for each in await projection_statuses(connection, session, projections)
    ]


async def _report(
    session: asyncpg.Connection[Any], status: ProjectionStatus, running: bool, now: datetime
) -> ProjectionReport:
    positions = {stream: found.position for stream, found in status.positions.items()}
    lag = {stream: max(0, extent.last - positions.get(stream, 0)) for stream, extent in status.extents.items()}
    tables = [table for table in status.projection.tables if table.name not in status.missing]
    sizes = [await _size(session, status.schema, table) for table in tables]
    times = [found.event_time for found in status.positions.values() if found.event_time is not None]
    # A stored rate is as old as the last move of its position; after a while without a move the rate is 0.
    moved = max((found.moved_at for found in status.positions.values()), default=None)
    fresh = moved is not None and (now - moved).total_seconds() < 10
    return ProjectionReport(
        status.name,
        max((found.version for found in status.positions.values()), default=status.projection.version),
        await _state(session, status, running),
        positions,
        lag,
        round(sum(found.rate for found in status.positions.values()), 1) if fresh else 0.0,
        sum(rows for rows, _, _ in sizes),
        any(estimated for _, estimated, _ in sizes),
        sum(size for _, _, size in sizes),
        max(times, default=None),
    )


async def _state(session: asyncpg.Connection[Any], status: ProjectionStatus, running: bool) -> str:
    building = await positions.positions(session, schemas.build_schema(status.name, status.generation + 1))
    if building:
        done = sum(found.position for found in building.values())
        whole = sum(extent.last for extent in status.extents.values())
        return f"building, {100 * done // max(whole, 1)} %" + (f": {status.outdated}" if status.outdated else "")
    for stream, extent in status.extents.items():
        position = status.positions.get(stream)
        if position is not None and position.stream_created != extent.created:
            return "built from another log: vibe projections rebuild --all"
    if status.outdated is not None:
        return f"outdated: {status.outdated}"
    if not status.positions:
        return "new"
    return "live" if running else "stopped"


async def _size(session: asyncpg.Connection[Any], schema: str, table: Table) -> tuple[int, bool, int]:
    """(rows, whether they are estimated, bytes)."""
    row = await session.fetchrow(
        "WITH parts AS (SELECT relid FROM pg_partition_tree($1::text::regclass) UNION SELECT $1::text::regclass) "
        "SELECT coalesce(sum(greatest(c.reltuples, 0)) FILTER (WHERE c.relkind = 'r'), 0)::bigint AS rows, "
        "coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint AS bytes FROM parts JOIN pg_class c ON c.oid = relid",
        f"{schema}.{table.name}",
    )
    assert row is not None
    if row["rows"] > _COUNTED:
        return row["rows"], True, row["bytes"]
    counted: int = await session.fetchval(f"SELECT count(*) FROM {schema}.{table.name}")
    return counted, False, row["bytes"]
