"""A projection: a name, a version, tables, and a pure function from one event to changes of rows."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import ClassVar

from projections.engine.mapping import From, Mapped
from projections.engine.table import Change, Table, Upsert
from streams.envelope import Recorded
from streams.topology import Stream


class Projection:
    """One read model: `maps` declares rows that are copied from events, `fold` computes the changes of other events.

    Neither may depend on anything but the event: no clock, no database, no state.

    A projection may read several streams. The engine follows each stream separately, so the changes that one stream's
    events make to a row must not depend on changes by another stream. `Add` and one table per stream are safe.

    Raise `version` with every change of the code that makes the same events fold to other rows; the engine then
    rebuilds the read model from history. It detects changed tables, types, streams and maps by itself (`shape`).
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[Stream, ...]]
    types: ClassVar[frozenset[str]]
    """Stored names of the event types to process; empty for all."""
    tables: ClassVar[tuple[Table, ...]]
    maps: ClassVar[Mapping[str, tuple[Mapped, ...]]] = {}
    """By stored name, all rows that events of this type make. Mapped types are read several times as fast as folded
    ones."""

    def changes(self, event: Recorded) -> Iterable[Change]:
        """The changes that one event makes, by `maps` or by `fold`."""
        maps = self.maps.get(event.type)
        return self.fold(event) if maps is None else [mapped.change(event) for mapped in maps]

    def fold(self, event: Recorded) -> Iterable[Change]:
        """The changes that an event makes whose type is not in `maps`."""
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        declared = [mapped for maps in cls.maps.values() for mapped in maps]
        for mapped in declared:
            if mapped.kind is Upsert and sum(each.table is mapped.table for each in declared) > 1:
                # The rows of one type are made together, so changes of one row by two types would lose their order.
                raise ValueError(f"{cls.name}: {mapped.table.name} is upserted by several types; use a fold")


def shape(projection: Projection) -> str:
    """16 hex digits over the declaration: streams, types, tables and the sources of mapped columns."""
    declared = [
        [stream.name for stream in projection.reads],
        sorted(projection.types),
        [(table.create(""), table.key, table.indexes, table.append_only, table.by_day) for table in projection.tables],
        [(name, [_declared(mapped) for mapped in maps]) for name, maps in sorted(projection.maps.items())],
    ]
    return blake2b(repr(declared).encode(), digest_size=8).hexdigest()


def _declared(mapped: Mapped) -> list[object]:
    sources = mapped.sources.items()
    # Only a function's name is known here: a change of its code needs a new `version`.
    declared = [
        (name, (it.field, it.then and it.then.__qualname__) if isinstance(it, From) else it) for name, it in sources
    ]
    return [mapped.kind.__name__, mapped.table.name, declared]
