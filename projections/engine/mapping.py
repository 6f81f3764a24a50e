"""Mapped rows: a declaration of which column comes from which field of an event.

Most folds only copy: a column is the event's field of the same name. A declaration needs no code, only the fields that
it names are decoded, and the rows of a thousand events are made at once:

    maps = {"order.filled": (insert(EXECUTABLE_FILL, OrderFilled, sequence=SEQUENCE),)}

Values are converted to their column's type: a time (ns) to timestamptz, an enumeration to its text, the value of a
json column is encoded. The result of a function is stored unchanged. A nullable column without a source stays NULL.
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

_numbers = msgspec.json.Decoder(list[float])


class Place(Enum):
    """What a column can hold of an event's place in the log. Names and values are part of `shape`, which is stored."""

    SEQUENCE = "its own sequence"
    CAUSE = "the sequence of the event that caused it, 0 without one"


SEQUENCE, CAUSE = Place.SEQUENCE, Place.CAUSE


class From(NamedTuple):
    """A field of the event, and a function to apply to its value."""

    field: str
    then: Callable[[Any], Any] | None = None


Maker = Callable[[Sequence[Values], Sequence[int], Sequence[str | None]], list[Values]]
_Maker = Callable[[Sequence[Values], Sequence[int], Sequence[str | None]], Iterable[Any]]
Source = Place | From | str | int
"""The source of a column; text and numbers are constants."""


def insert(table: Table, event: type[Struct], **columns: Source) -> Mapped:
    """A new row of an append-only table for each event."""
    return Mapped(Insert, table, event, columns)


def upsert(table: Table, event: type[Struct], **columns: Source) -> Mapped:
    """The whole row of a key; no other entry may write the table."""
    return Mapped(Upsert, table, event, columns)


def add(table: Table, event: type[Struct], **columns: Source) -> Mapped:
    """Amounts added to the row of a key; every column outside the key is an amount."""
    return Mapped(Add, table, event, columns)


class Mapped:
    """One row of one table for each event of a type. Raises ValueError for a column without a source."""

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
        partial_struct(event, self.fields)  # raises for unknown fields

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of the event that the row needs."""
        return tuple(dict.fromkeys(source.field for source in self.sources.values() if isinstance(source, From)))

    def bind(self, names: Sequence[str]) -> Maker:
        """A function that makes the rows of events, with values in the order of the table's columns.

        Its arguments: the values of each event's partial struct, whose fields are `names`, the events' sequences, and
        their causes ('STREAM:sequence' or None).
        """
        order: list[int] = []
        makers: list[_Maker] = []
        for name, source in self.sources.items():
            kind = self.table.columns[name]
            if isinstance(source, From) and source.then is None and kind not in _FORMS:
                order.append(names.index(source.field))
            else:
                order.append(len(names) + len(makers))
                makers.append(_maker(source, kind, names))
        in_order = picking(order)

        def rows(facts: Sequence[Values], sequences: Sequence[int], causes: Sequence[str | None]) -> list[Values]:
            # Column by column, so that nearly all of the work runs in C.
            columns = [make(facts, sequences, causes) for make in makers]
            made: Iterable[Values] = zip(*columns, strict=True) if columns else repeat((), len(facts))
            return list(map(in_order, map(concat, facts, made)))

        return rows

    def change(self, event: Recorded) -> Change:
        """The change for one event, as a fold would yield it."""
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


def sequence_of(address: str | None) -> int:
    """The sequence of an address 'STREAM:sequence.index'; 0 for None."""
    return int(address.rpartition(":")[2].partition(".")[0]) if address else 0


def sequences_of(addresses: Sequence[str | None]) -> Iterable[int]:
    """The sequences of many addresses; when all are of one stream, the usual case, they are decoded as one list."""
    if addresses and None not in addresses:
        stream = str(addresses[0]).rpartition(":")[0]
        numbers = f",{','.join(addresses)}".replace(f",{stream}:", ",")  # type: ignore[arg-type]
        with suppress(msgspec.DecodeError):  # of several streams
            # As decimal fractions: the index behind the point is cut off.
            found = _numbers.decode(f"[{numbers[1:]}]")
            if len(found) == len(addresses):
                return list(map(int, found))
    return map(sequence_of, addresses)


def _source(table: Table, event: type[Struct], name: str, given: Source | None) -> Source | None:
    if given is not None:
        return given
    if name in event.__struct_fields__:
        return From(name)
    if table.columns[name].endswith(" NULL"):
        return None
    raise ValueError(f"{table.name}.{name}: {event.__name__} has no such field; declare the source of this column")


def _maker(source: Source | None, kind: str, names: Sequence[str]) -> _Maker:
    """A function that makes the values of a column that is not a plain copy of a field."""
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
