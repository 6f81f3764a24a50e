"""What a projection is: a name, a version, its tables, and a pure fold from one event to changes of rows."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import ClassVar

from projections.engine.mapping import From, Mapped
from projections.engine.table import Change, Table, Upsert
from streams.envelope import Recorded
from streams.topology import Stream


class Projection:
    """One read model: `maps` declares the rows of events that are only copied, `fold` computes what others change.

    Neither may depend on anything but the event: no clock, no database, no state.

    It may read several streams. Each is followed on its own, so what one stream's events do to a row must not depend
    on what another's did before; Add and a table per stream are safe.

    Whatever makes history fold to other rows raises `version`; the read model is then built anew from history, beside
    the old one. Changed tables, types, streams or maps do the same by themselves (`shape`).
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[Stream, ...]]
    types: ClassVar[frozenset[str]]
    """Stored names that the fold wants; empty for all."""
    tables: ClassVar[tuple[Table, ...]]
    maps: ClassVar[Mapping[str, tuple[Mapped, ...]]] = {}
    """For a stored name, all rows that its events make: reading history is several times as fast so."""

    def changes(self, event: Recorded) -> Iterable[Change]:
        """The changes that one event makes, by maps or by the fold."""
        maps = self.maps.get(event.type)
        return self.fold(event) if maps is None else [mapped.change(event) for mapped in maps]

    def fold(self, event: Recorded) -> Iterable[Change]:
        """The changes that one event makes, of a type that is not in `maps`."""
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        declared = [mapped for maps in cls.maps.values() for mapped in maps]
        for mapped in declared:
            if mapped.kind is Upsert and sum(each.table is mapped.table for each in declared) > 1:
                # Rows of a type are made together, so what two types say of a row would lose its order.
                raise ValueError(f"{cls.name}: {mapped.table.name} is upserted by several types; use a fold")


def shape(projection: Projection) -> str:
    """16 hex digits of what is declared: streams, types, tables and where mapped columns come from."""
    declared = [
        [stream.name for stream in projection.reads],
        sorted(projection.types),
        [(table.create(""), table.key, table.indexes, table.append_only, table.by_day) for table in projection.tables],
        [(name, [_declared(mapped) for mapped in maps]) for name, maps in sorted(projection.maps.items())],
    ]
    return blake2b(repr(declared).encode(), digest_size=8).hexdigest()


def _declared(mapped: Mapped) -> list[object]:
    sources = mapped.sources.items()
    # Of a function only its name is known: who changes what it does raises the version.
    said = [
        (name, (it.field, it.then and it.then.__qualname__) if isinstance(it, From) else it) for name, it in sources
    ]
    return [mapped.kind.__name__, mapped.table.name, said]
