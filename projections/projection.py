"""What a projection is: a name, a version, its tables, and a pure fold from one event to changes of rows."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import ClassVar

from projections.table import Change, Table
from streams.envelope import Recorded
from streams.topology import Stream


class Projection:
    """One read model. `fold` must not depend on anything but the event: no clock, no database, no state.

    It may read several streams. Each is followed on its own, so what one stream's events do to a row must not depend
    on what another's did before; Add and a table per stream are safe.

    Whatever makes history fold to other rows raises `version`; the read model is then built anew from history, beside
    the old one. Changed tables, types or streams do the same by themselves (`shape`).
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[Stream, ...]]
    types: ClassVar[frozenset[str]]
    """Stored names that the fold wants; empty for all."""
    tables: ClassVar[tuple[Table, ...]]
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """For a stored name, the only fields of its facts that the fold reads: reading history is faster so (`lean`)."""

    def fold(self, event: Recorded) -> Iterable[Change]:
        """The changes that one event makes."""
        raise NotImplementedError


def shape(projection: Projection) -> str:
    """16 hex digits of what is declared: streams, types and tables."""
    declared = [
        [stream.name for stream in projection.reads],
        sorted(projection.types),
        [
            (table.name, table.key, list(table.columns.items()), table.indexes, table.append_only, table.by_day)
            for table in projection.tables
        ],
    ]
    return blake2b(repr(declared).encode(), digest_size=8).hexdigest()
