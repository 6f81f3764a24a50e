"""Rows by declaration: which column comes from which field of an event.

Most folds only copy: a column is the event's field of the same name. Declared, they need no code, only the fields that
they name are decoded, and the rows of a thousand events are made at once:

    maps = {"order.filled": (insert(EXECUTABLE_FILL, OrderFilled, sequence=SEQUENCE),)}

A field becomes what its column wants: a time (ns) a timestamptz, an enumeration its text, what a json column is to
hold is encoded; what a function makes of it is taken as it is. A nullable column without a field stays NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum
from functools import cached_property
from itertools import repeat
from operator import concat, itemgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import astuple

from projections.engine.partial_structs import partial_struct
from projections.engine.table import Add, Change, Insert, Table, Upsert, Values, picking, timestamp
from streams.envelope import Recorded

_integers = msgspec.json.Decoder(list[int])


class Place(Enum):
    """What a column can hold of an event's place in the log."""

    SEQUENCE = "its own sequence"
    CAUSE = "the sequence of the event that caused it, 0 without one"


SEQUENCE, CAUSE = Place.SEQUENCE, Place.CAUSE


class From(NamedTuple):
    """A field by its name, and what a function makes of it."""

    field: str
    then: Callable[[Any], Any] | None = None


Maker = Callable[[Sequence[Values], Sequence[int], Sequence[str | None]], list[Values]]
_Maker = Callable[[Sequence[Values], Sequence[int], Sequence[str | None]], Iterable[Any]]
Source = Place | From | str | int
"""Where a column comes from; text and numbers stand for themselves."""


def insert(table: Table, event: type[Struct], **columns: Source) -> Mapped:
    """A new row of an append-only table for each event."""
    return Mapped(Insert, table, event, columns)


def upsert(table: Table, event: type[Struct], **columns: Source) -> Mapped:
    """The whole row as it is now; nothing else may write the table."""
    return Mapped(Upsert, table, event, columns)


def add(table: Table, event: type[Struct], **columns: Source) -> Mapped:
    """Amounts added to the row of a key; every column that is not of the key is an amount."""
    return Mapped(Add, table, event, columns)


class Mapped:
    """One row of one table for each event of a type. Raises ValueError for a column that comes from nowhere."""

    def __init__(
        self, kind: type[Insert | Upsert | Add], table: Table, event: type[Struct], columns: dict[str, Source]
    ) -> None:
        if (kind is Insert) != table.append_only:
            raise ValueError(f"{table.name}: rows of append-only tables are inserted, of others upserted or added to")
        if unknown := columns.keys() - table.columns.keys():
            raise ValueError(f"{table.name} has no column {', '.join(sorted(unknown))}")
        self.kind = kind
        self.table = table
        self.event = event
        self.sources = {name: _source(table, event, name, columns.get(name)) for name in table.columns}
        self._bound: dict[tuple[str, ...], Maker] = {}
        partial_struct(event, self.fields)  # refuses fields that there are not

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of the event that are read."""
        return tuple(dict.fromkeys(source.field for source in self.sources.values() if isinstance(source, From)))

    def bind(self, names: Sequence[str]) -> Maker:
        """What makes the rows of events, in the order of the table's columns.

        It is given the facts of each event as values of lean fields, whose names these are, their sequences, and what
        caused them.
        """
        places: list[int] = []
        makers: list[_Maker] = []
        for name, source in self.sources.items():
            kind = self.table.columns[name]
            if isinstance(source, From) and source.then is None and kind not in _FORMS:
                places.append(names.index(source.field))
            else:
                places.append(len(names) + len(makers))
                makers.append(_maker(source, kind, names))
        in_order = picking(places)

        def rows(facts: Sequence[Values], sequences: Sequence[int], causes: Sequence[str | None]) -> list[Values]:
            # Column by column, so that nearly all of it runs outside the interpreter.
            columns = [make(facts, sequences, causes) for make in makers]
            made: Iterable[Values] = zip(*columns, strict=True) if columns else repeat((), len(facts))
            return list(map(in_order, map(concat, facts, made)))

        return rows

    def change(self, event: Recorded) -> Change:
        """The same for one event, as a fold gives it."""
        facts = self._decode(msgspec.json.encode(event.data)) if isinstance(event.data, self.event) else event.data
        names = facts.__struct_fields__
        make = self._bound.get(names)
        if make is None:
            make = self._bound[names] = self.bind(names)
        (values,) = make([astuple(facts)], [event.sequence], [event.causation])
        row = dict(zip(self.table.columns, values, strict=True))
        if self.kind is Add:
            return Add(self.table, self.table.key_of(values), {name: row[name] for name in self.table.amounts})
        return self.kind(self.table, row)  # type: ignore[call-arg]

    @cached_property
    def _decode(self) -> Callable[[bytes], Any]:
        return msgspec.json.Decoder(partial_struct(self.event, self.fields)).decode


def sequence_of(place: str | None) -> int:
    """The sequence in a 'STREAM:sequence'; 0 when there is none."""
    return int(place.rpartition(":")[2]) if place else 0


def sequences_of(places: Sequence[str | None]) -> Iterable[int]:
    """The same of many: those of one stream, as mostly, are decoded as one list."""
    if places and None not in places:
        stream = str(places[0]).rpartition(":")[0]
        numbers = f",{','.join(places)}".replace(f",{stream}:", ",")  # type: ignore[arg-type]
        with suppress(msgspec.DecodeError):  # of several streams
            found = _integers.decode(f"[{numbers[1:]}]")
            if len(found) == len(places):
                return found
    return map(sequence_of, places)


def _source(table: Table, event: type[Struct], name: str, given: Source | None) -> Source | None:
    if given is not None:
        return given
    if name in event.__struct_fields__:
        return From(name)
    if table.columns[name].endswith(" NULL"):
        return None
    raise ValueError(f"{table.name}.{name}: {event.__name__} has no such field, so say where it comes from")


def _maker(source: Source | None, kind: str, names: Sequence[str]) -> _Maker:
    """What makes a column that is not just a field."""
    match source:
        case Place.SEQUENCE:
            return lambda _, sequences, __: sequences
        case Place.CAUSE:
            return lambda _, __, causes: sequences_of(causes)
        case From():
            value, form = itemgetter(names.index(source.field)), source.then or _FORMS[kind]
            return lambda facts, _, __: map(form, map(value, facts))
    return lambda facts, _, __: repeat(source, len(facts))


def _time(value: int | None) -> Any:
    return None if value is None else timestamp(value)


def _json(value: Any) -> str:
    return str(value, "utf-8") if isinstance(value, Raw) else msgspec.json.encode(value).decode()


def _json_or_null(value: Any) -> str | None:
    return None if value is None else _json(value)


_FORMS: dict[str, Callable[[Any], Any]] = {
    "timestamptz": timestamp,
    "timestamptz NULL": _time,
    "json": _json,
    "json NULL": _json_or_null,
    "jsonb": _json,
    "jsonb NULL": _json_or_null,
}
