"""Where each read model stands: its stored positions beside what the code declares and what the log holds."""

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
from projections.engine.schemas import Place
from streams import topology
from streams.connection import Connection
from streams.errors import DataLossError, TopologyError


class Extent(NamedTuple):
    """What a stream holds: sequences `first`..`last`; `last` is `first` - 1 when it is empty."""

    created: datetime
    first: int
    last: int


@dataclass(frozen=True)
class ProjectionStatus:
    """One projection. `positions` and `extents` by stream; `schema` is the live one."""

    projection: Projection
    schema: str
    positions: Mapping[str, StoredPosition]
    extents: Mapping[str, Extent]
    missing: tuple[str, ...]
    """Tables of the projection that do not exist."""
    outdated: str | None
    """Why the stored rows are not what the code would build; None when they are, or when there is nothing yet."""

    @property
    def name(self) -> str:
        return self.projection.name

    @property
    def absent(self) -> bool:
        """Nothing of it is there: neither positions nor tables."""
        return not self.positions and len(self.missing) == len(self.projection.tables)

    @property
    def untouched(self) -> bool:
        """No event was stored yet."""
        return bool(self.positions) and all(each.position == 0 for each in self.positions.values())

    @property
    def generation(self) -> int:
        return max((each.generation for each in self.positions.values()), default=0)

    @property
    def place(self) -> Place:
        """Where the live tables and their partitions are."""
        return Place(self.schema, schemas.build_schema(self.name, self.generation))

    @property
    def waiting(self) -> int:
        """How many sequences of its streams are not stored yet."""
        return sum(
            max(0, extent.last - (self.positions[name].position if name in self.positions else 0))
            for name, extent in self.extents.items()
        )

    def marked(self, why: str) -> ProjectionStatus:
        """The same, to be rebuilt for a reason."""
        return replace(self, outdated=why)

    def check_log(self) -> None:
        """Raises OtherLogError when the log is another one than the rows were built from, DataLossError when it ends
        in front of what was read."""
        for name, position in self.positions.items():
            extent = self.extents.get(name)
            if extent is not None and extent.created != position.stream_created:
                raise OtherLogError(name, extent.created, position.stream_created)
            if extent is not None and position.position > extent.last:
                raise DataLossError(name, extent.last + 1, position.position)

    async def create(self, session: asyncpg.Connection[Any], *, writer: bool) -> ProjectionStatus:
        """Make empty tables and positions at zero."""
        fresh = replace(self, positions=self.fresh(1), missing=())
        async with session.transaction():
            # Partitions of an earlier life, whose tables somebody dropped.
            await session.execute(f"DROP SCHEMA IF EXISTS {fresh.place.parts} CASCADE")
            await schemas.make_tables(session, fresh.place, self.projection, writer=writer, whole=True)
            await positions.begin(session, self.schema, list(fresh.positions.values()))
        return fresh

    def fresh(self, generation: int) -> dict[str, StoredPosition]:
        """Positions at zero, by stream, of tables that are to be built."""
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
    """Each projection's standing. Raises TopologyError for a stream that does not exist."""
    schema = await schemas.live_schema(session)
    stored = await positions.positions(session, schema)
    # After the positions, because another runner may move them past what the log held a moment ago.
    extents = await _extents(connection, session, {stream.name for each in projections for stream in each.reads})
    found = []
    for projection in projections:
        held = {stream: position for (name, stream), position in stored.items() if name == projection.name}
        missing = await schemas.missing_tables(session, schema, projection.tables)
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


def _outdated(projection: Projection, held: Mapping[str, StoredPosition], missing: Sequence[str]) -> str | None:
    if not held:
        return None if len(missing) == len(projection.tables) else "its tables have no position"
    if missing:
        return f"the table {missing[0]} is missing"
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
        # To the microsecond that Postgres keeps, as it keeps it.
        created: datetime = await session.fetchval("SELECT $1::text::timestamptz", about["created"])
        # A stream that has never held anything says that it begins at 0.
        found[name] = Extent(created, max(1, int(about["state"]["first_seq"])), int(about["state"]["last_seq"]))
    return found
