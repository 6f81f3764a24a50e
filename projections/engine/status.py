"""The status of each read model: its stored positions compared with the code's declaration and the log's extent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg

from projections.engine import positions, schemas
from projections.engine.errors import OtherLogError
from projections.engine.positions import StoredPosition
from projections.engine.projection import Projection, shape
from projections.engine.schemas import Location
from streams import topology
from streams.connection import Connection
from streams.errors import DataLossError, TopologyError


class Extent(NamedTuple):
    """A stream holds the sequences `first`..`last`; `last` is `first` - 1 when it is empty."""

    created: datetime
    first: int
    last: int


@dataclass(frozen=True)
class ProjectionStatus:
    """The status of one projection. `positions` and `extents` by stream; `schema` holds its live tables."""

    projection: Projection
    schema: str
    positions: Mapping[str, StoredPosition]
    extents: Mapping[str, Extent]
    missing: tuple[str, ...]
    """The names of the projection's tables and views that do not exist."""
    outdated: str | None
    """Why the stored rows differ from what the code would build; None when they do not, or when nothing is stored."""

    @property
    def name(self) -> str:
        return self.projection.name

    @property
    def absent(self) -> bool:
        """Neither positions nor tables exist."""
        return not self.positions and _all(self.missing, self.projection)

    @property
    def unread(self) -> bool:
        """Positions exist, and no event was stored yet."""
        return bool(self.positions) and all(each.position == 0 for each in self.positions.values())

    @property
    def generation(self) -> int:
        return max((each.generation for each in self.positions.values()), default=0)

    @property
    def location(self) -> Location:
        """The schemas of the live tables and of their partitions."""
        return Location(self.schema, schemas.build_schema(self.name, self.generation))

    @property
    def pending(self) -> int:
        """How many sequences of its streams are not stored yet."""
        return sum(
            max(0, extent.last - (self.positions[name].position if name in self.positions else 0))
            for name, extent in self.extents.items()
        )

    def as_outdated(self, reason: str) -> ProjectionStatus:
        """The same status with a reason to rebuild."""
        return replace(self, outdated=reason)

    def check_log(self) -> None:
        """Raises OtherLogError when the rows were built from another log, DataLossError when the log ends before a
        stored position."""
        for name, position in self.positions.items():
            extent = self.extents.get(name)
            if extent is not None and extent.created != position.stream_created:
                raise OtherLogError(name, extent.created, position.stream_created)
            if extent is not None and position.position > extent.last:
                raise DataLossError(name, extent.last + 1, position.position)

    async def create(self, session: asyncpg.Connection[Any], *, writer: bool) -> ProjectionStatus:
        """Create empty tables and positions at zero; returns the status afterwards."""
        created = replace(self, positions=self.initial_positions(1), missing=())
        async with session.transaction():
            # An operator may have dropped the tables and left their partitions.
            await session.execute(f"DROP SCHEMA IF EXISTS {created.location.parts} CASCADE")
            await schemas.make_tables(session, created.location, self.projection, writer=writer, whole=True)
            await positions.replace(session, self.schema, list(created.positions.values()))
        return created

    def initial_positions(self, generation: int) -> dict[str, StoredPosition]:
        """Positions at zero, by stream, for tables that are to be built."""
        return {
            name: StoredPosition(
                self.name,
                name,
                self.projection.version,
                shape(self.projection),
                generation,
                extent.created,
                0,
                None,
                0.0,
                datetime.now(UTC),
            )
            for name, extent in self.extents.items()
        }


async def projection_statuses(
    connection: Connection, session: asyncpg.Connection[Any], projections: Sequence[Projection]
) -> list[ProjectionStatus]:
    """The status of each projection, in order. Raises TopologyError for a stream that does not exist."""
    schema = await schemas.live_schema(session)
    stored = await positions.positions(session, schema)
    # After the positions: another runner may move them past an end of the log that was read earlier.
    extents = await _extents(connection, session, {stream.name for each in projections for stream in each.reads})
    found = []
    for projection in projections:
        held = {stream: position for (name, stream), position in stored.items() if name == projection.name}
        missing = await schemas.missing_tables(session, schema, projection)
        found.append(
            ProjectionStatus(
                projection,
                schema,
                held,
                {stream.name: extents[stream.name] for stream in projection.reads},
                tuple(missing),
                _outdated(projection, held, missing),
            )
        )
    return found


def _all(missing: Sequence[str], projection: Projection) -> bool:
    return len(missing) == len(projection.tables) + len(projection.views)


def _outdated(projection: Projection, held: Mapping[str, StoredPosition], missing: Sequence[str]) -> str | None:
    if not held:
        return None if _all(missing, projection) else "its tables have no stored position"
    if missing:
        return f"{missing[0]} is missing"
    for position in held.values():
        if position.version != projection.version:
            return f"it was built by version {position.version}, the code is version {projection.version}"
        if position.shape != shape(projection):
            return "its streams, types or tables have changed"
    if {stream.name for stream in projection.reads} != held.keys():
        return "the streams it reads have changed"
    return None


async def _extents(connection: Connection, session: asyncpg.Connection[Any], streams: set[str]) -> dict[str, Extent]:
    found = {}
    for name in streams:
        about = await topology.info(connection, name)
        if about is None:
            raise TopologyError(f"stream {name} does not exist; run: vibe streams apply")
        # Converted by Postgres, to the microseconds that it keeps.
        created: datetime = await session.fetchval("SELECT $1::text::timestamptz", about["created"])
        # The server reports first_seq 0 for a stream that never held a message.
        found[name] = Extent(created, max(1, int(about["state"]["first_seq"])), int(about["state"]["last_seq"]))
    return found
