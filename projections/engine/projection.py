"""A projection: a name, a version, tables, and a pure function from one event to changes of rows."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import ClassVar

from msgspec import Struct

from projections.engine.mapping import Beside, From, FromEach, Mapped
from projections.engine.table import Change, Table, Upsert, View
from streams.envelope import Recorded
from streams.topology import Stream

ANY = "*"
"""The key of `maps` for the types that it does not name."""


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
    views: ClassVar[tuple[View, ...]] = ()
    """Further read models, computed from the tables."""
    maps: ClassVar[Mapping[str, tuple[Mapped, ...]]] = {}
    """By stored name (or ANY), all rows that events of this type make. Mapped types are read several times as fast as
    folded ones."""
    upserted_by_several: ClassVar[frozenset[str]] = frozenset()
    """The tables whose rows `maps` upserts for more than one type: the last event wins, of whichever type."""

    def maps_of(self, type: str) -> tuple[Mapped, ...] | None:
        """The maps of a stored name; None when events of this type are folded."""
        found = self.maps.get(type)
        return self.maps.get(ANY) if found is None else found

    def besides(self, event: type[Struct]) -> list[Mapped]:
        """The maps whose rows also hold fields of this type of event, where it is in the same commit."""
        found = [mapped for maps in self.maps.values() for mapped in maps]
        return [mapped for mapped in found if any(joined.event is event for joined in mapped.joined)]

    def changes(self, event: Recorded) -> Iterable[Change]:
        """The changes that one event makes, by `maps` or by `fold`."""
        maps = self.maps_of(event.type)
        if maps is None:
            return self.fold(event)
        return [change for mapped in maps if (change := mapped.change(event)) is not None]

    def fold(self, event: Recorded) -> Iterable[Change]:
        """The changes that an event makes whose type is not in `maps`."""
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        upserted = [mapped.table.name for maps in cls.maps.values() for mapped in maps if mapped.kind is Upsert]
        cls.upserted_by_several = frozenset(name for name in upserted if upserted.count(name) > 1)


def shape(projection: Projection) -> str:
    """16 hex digits over the declaration: streams, types, tables and the sources of mapped columns."""
    declared = [
        [stream.name for stream in projection.reads],
        sorted(projection.types),
        [view.create("") for view in projection.views],
        [(table.create(""), table.key, table.indexes, table.append_only, table.by_day) for table in projection.tables],
        [(name, [_declared(mapped) for mapped in maps]) for name, maps in sorted(projection.maps.items())],
    ]
    return blake2b(repr(declared).encode(), digest_size=8).hexdigest()


def _declared(mapped: Mapped) -> list[object]:
    sources = mapped.sources.items()
    # Only a function's name is known here: a change of its code needs a new `version`.
    declared = [(name, _source(source)) for name, source in sources]
    unless = mapped.unless and (mapped.unless.event.__name__, mapped.unless.on)
    return [mapped.kind.__name__, mapped.table.name, declared, unless]


def _source(source: object) -> object:
    match source:
        case From(field, then):
            return field, then and then.__qualname__
        case FromEach(fields, then):
            return fields, then.__qualname__
        case Beside(event, on, field, then):
            return event.__name__, on, field, then and then.__qualname__
    return source
