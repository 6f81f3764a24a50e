"""Mapped rows: a declaration of which column comes from which field of an event.

Most folds only copy: a column is the event's field of the same name. A declaration needs no code, only the fields that
it names are decoded, and the rows of a thousand events are made at once:

    maps = {"order.filled": (insert(EXECUTABLE_FILL, OrderFilled, sequence=SEQUENCE),)}

Values are converted to their column's type: a time (ns) to timestamptz, an enumeration to its text, the value of a
json column is encoded. The result of a function is stored unchanged. A nullable column without a source stays NULL, an
amount without a source is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import cached_property
from itertools import islice, repeat
from operator import concat, itemgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import astuple

from domain.events.catalogue import STORED_NAME
from projections.engine.partial_structs import partial_struct
from projections.engine.recorded_at import minute_of
from projections.engine.table import Add, Change, Insert, Table, Upsert, Values, picking, timestamp
from streams.envelope import Recorded

_numbers = msgspec.json.Decoder(list[float])
_EVENTS_OF_A_SUM, _SAMPLE = 4, 64
"""From how many events of a key on summing them first is cheaper than a row for each; how many events show it."""


class Place(Enum):
    """What a column can hold of an event's place in the log and of its envelope. Names and values are part of `shape`,
    which is stored."""

    SEQUENCE = "the sequence of its commit"
    INDEX = "its place in its commit"
    CAUSE = "the sequence of the event that caused it, 0 without one"
    CAUSE_INDEX = "the place in its commit of the event that caused it, 0 without one"
    MINUTE = "the beginning of the minute in which it was recorded"
    STREAM = "the name of its stream"
    TYPE = "its stored name"


SEQUENCE, INDEX, CAUSE, CAUSE_INDEX = Place.SEQUENCE, Place.INDEX, Place.CAUSE, Place.CAUSE_INDEX
MINUTE, STREAM, TYPE = Place.MINUTE, Place.STREAM, Place.TYPE


class From(NamedTuple):
    """A field of the event, and a function to apply to its value."""

    field: str
    then: Callable[[Any], Any] | None = None


class FromEach(NamedTuple):
    """Some fields of the event, and the function that makes one value of theirs."""

    fields: tuple[str, ...]
    then: Callable[..., Any]


class Beside(NamedTuple):
    """A field of another event of the same commit: of the one of this type whose field `on` has the same value as this
    event's; NULL without one."""

    event: type[Struct]
    on: str
    field: str
    then: Callable[[Any], Any] | None = None

    @property
    def name(self) -> str:
        return _name_beside(self.event, self.field)


class Joined(NamedTuple):
    """Another event of the same commit, found by the value of a field that both have."""

    event: type[Struct]
    on: str


class AnyEvent(Struct, frozen=True, gc=False):
    """An event of which no field is needed."""


class Events(NamedTuple):
    """Events of one type, as parallel lists: their partial structs or the values of these, their places in the log,
    their causes ('STREAM:sequence.index' or None) and when they were recorded (RFC 3339)."""

    facts: Sequence[Any]
    sequences: Sequence[int]
    indexes: Sequence[int]
    causes: Sequence[str | None]
    times: Sequence[str]


Maker = Callable[[Events], list[Values]]
_Column = Callable[[Events], Iterable[Any]]
Source = Place | From | FromEach | Beside | str | int
"""The source of a column; text and numbers are constants."""


def insert(table: Table, event: type[Struct], unless: Joined | None = None, **columns: Source) -> Mapped:
    """A new row of an append-only table for each event; none for events beside which `unless` is in their commit."""
    return Mapped(Insert, table, event, columns, unless)


def upsert(table: Table, event: type[Struct], **columns: Source) -> Mapped:
    """The whole row of a key; no other entry may write the table."""
    return Mapped(Upsert, table, event, columns)


def add(table: Table, event: type[Struct], **columns: Source) -> Mapped:
    """Amounts added to the row of a key; every column outside the key is an amount, 0 without a source."""
    return Mapped(Add, table, event, columns)


class _Item(Struct, frozen=True, gc=False):
    type: str
    data: Raw


class _Commit(Struct, frozen=True, gc=False):
    data: list[_Item]


_commit = msgspec.json.Decoder(_Commit)


class Mapped:
    """One row of one table for each event of a type. Raises ValueError for a column without a source."""

    def __init__(
        self,
        kind: type[Insert | Upsert | Add],
        table: Table,
        event: type[Struct],
        columns: dict[str, Source],
        unless: Joined | None = None,
    ) -> None:
        if (kind is Insert) != table.append_only:
            raise ValueError(f"{table.name}: rows of append-only tables are inserted, of others upserted or added to")
        if unknown := columns.keys() - table.columns.keys():
            raise ValueError(f"{table.name} has no column {', '.join(sorted(unknown))}")
        self.kind = kind
        self.unless = unless
        self.table = table
        self.event = event
        self.sources = {name: _source(kind, table, event, name, columns.get(name)) for name in table.columns}
        self._bound: dict[tuple[tuple[str, ...], str, str], Maker] = {}
        partial_struct(event, self.fields)  # raises for unknown fields

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of the event that the row needs."""
        named: list[str] = []
        for source in self.sources.values():
            if isinstance(source, From):
                named.append(source.field)
            elif isinstance(source, FromEach):
                named += source.fields
        return tuple(dict.fromkeys([*named, *(joined.on for joined in self.joined)]))

    @cached_property
    def joined(self) -> tuple[Joined, ...]:
        """The other events of the commit that the row needs."""
        beside = [source for source in self.sources.values() if isinstance(source, Beside)]
        found = [Joined(source.event, source.on) for source in beside]
        return tuple(dict.fromkeys([*found, self.unless] if self.unless else found))

    def fields_of(self, event: type[Struct]) -> tuple[str, ...]:
        """The fields that the row needs of another event of the commit."""
        beside = [source for source in self.sources.values() if isinstance(source, Beside) and source.event is event]
        names = [name for source in beside for name in (source.on, source.field)]
        if self.unless is not None and self.unless.event is event:
            names.append(self.unless.on)
        return tuple(dict.fromkeys(names))

    def names(self, own: Sequence[str], names_of: Mapping[type[Struct], Sequence[str]]) -> list[str]:
        """What `bind` calls the values of an event with the fields `own`, followed by those of `joined` events."""
        return [*own, *(_name_beside(each.event, name) for each in self.joined for name in names_of[each.event])]

    def bind(self, names: Sequence[str], stream: str, type: str) -> Maker:
        """A function that makes the rows of events of one type, with values in the order of the table's columns.

        `names` are what `names` returns. Amounts of many events of few keys are summed before.
        """
        return (self._sums if self.kind is Add else self._rows)(names, stream, type)

    def _rows(self, names: Sequence[str], stream: str, type: str) -> Maker:
        order: list[int] = []
        makers: list[_Column] = []
        for name, source in self.sources.items():
            kind = self.table.columns[name]
            if isinstance(source, From | Beside) and source.then is None and kind not in _FORMS:
                order.append(names.index(source.field if isinstance(source, From) else source.name))
            else:
                order.append(len(names) + len(makers))
                makers.append(_column(source, kind, names, stream, type))
        in_order = picking(order)

        def rows(events: Events) -> list[Values]:
            # Column by column, so that nearly all of the work runs in C.
            columns = [make(events) for make in makers]
            made: Iterable[Values] = zip(*columns, strict=True) if columns else repeat((), len(events.facts))
            return list(map(in_order, map(concat, events.facts, made)))

        return rows

    def _sums(self, names: Sequence[str], stream: str, type: str) -> Maker:
        table, sources = self.table, self.sources
        one_by_one = self._rows(names, stream, type)
        fixed = {name: source for name in table.amounts if isinstance(source := sources[name], int)}
        summed = [name for name in table.amounts if name not in fixed]
        columns = {
            name: _column(sources[name], table.columns[name], names, stream, type) for name in (*table.key, *summed)
        }

        def rows(events: Events) -> list[Values]:
            keys = zip(*(columns[name](events) for name in table.key), strict=True)
            found = list(islice(keys, _SAMPLE))
            if len(set(found)) > len(found) // _EVENTS_OF_A_SUM:
                return one_by_one(events)
            found += keys
            counts = Counter(found)
            sums = {name: dict.fromkeys(counts, 0) for name in summed}
            for name, sum_of in sums.items():
                for key, amount in zip(found, columns[name](events), strict=True):
                    sum_of[key] += amount
            made = []
            for key, count in counts.items():
                row = dict(zip(table.key, key, strict=True))
                row |= {name: count * amount for name, amount in fixed.items()}
                row |= {name: sum_of[key] for name, sum_of in sums.items()}
                made.append(tuple(map(row.__getitem__, table.columns)))
            return made

        return rows

    def apart(self, names: Sequence[str]) -> Callable[[Values], bool]:
        """A test of the values that `names` names: whether the event makes a row."""
        if self.unless is None:
            return lambda values: True
        place = names.index(_name_beside(self.unless.event, self.unless.on))
        return lambda values: values[place] is None

    def change(self, event: Recorded) -> Change | None:
        """The change for one event, as a fold would yield it; None when it makes no row."""
        facts = self._decode(msgspec.json.encode(event.data)) if isinstance(event.data, self.event) else event.data
        values, names = astuple(facts), facts.__struct_fields__
        if self.joined:
            names = tuple(self.names(names, {each.event: self.fields_of(each.event) for each in self.joined}))
            for joined in self.joined:
                values += self._beside(joined, getattr(facts, joined.on), event.payload)
            if not self.apart(names)(values):
                return None
        make = self._bound.get((names, event.stream, event.type))
        if make is None:
            make = self._bound[names, event.stream, event.type] = self.bind(names, event.stream, event.type)
        (values,) = make(Events([values], [event.sequence], [event.index], [event.causation], [event.time]))
        row = dict(zip(self.table.columns, values, strict=True))
        if self.kind is Add:
            return Add(self.table, self.table.key_of(values), {name: row[name] for name in self.table.amounts})
        return self.kind(self.table, row)  # type: ignore[call-arg]

    def _beside(self, joined: Joined, value: object, payload: bytes) -> Values:
        """The values of `fields_of` a joined event, from the whole message."""
        names = self.fields_of(joined.event)
        facts = partial_struct(joined.event, names)
        name, found = STORED_NAME[joined.event], None  # type: ignore[index]
        for item in _commit.decode(payload).data:
            if item.type == name:
                other = msgspec.json.decode(item.data, type=facts)
                if getattr(other, joined.on) == value:
                    found = other
        return tuple(getattr(found, name, None) for name in names)

    @cached_property
    def _decode(self) -> Callable[[bytes], Any]:
        return msgspec.json.Decoder(partial_struct(self.event, self.fields)).decode


def _name_beside(event: type[Struct], field: str) -> str:
    return f"{event.__name__}.{field}"


def sequence_of(address: str | None) -> int:
    """The sequence of an address 'STREAM:sequence.index'; 0 for None."""
    return int(address.rpartition(":")[2].partition(".")[0]) if address else 0


def index_of(address: str | None) -> int:
    """The index of an address 'STREAM:sequence.index'; 0 for None and for one of a whole commit."""
    return int(address.partition(".")[2] or 0) if address else 0


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


def _source(kind: type, table: Table, event: type[Struct], name: str, given: Source | None) -> Source | None:
    if given is not None:
        return given
    if name in event.__struct_fields__:
        return From(name)
    if table.columns[name].endswith(" NULL"):
        return None
    if kind is Add and name not in table.key:
        return 0
    raise ValueError(f"{table.name}.{name}: {event.__name__} has no such field; declare the source of this column")


def _column(source: Source | None, kind: str, names: Sequence[str], stream: str, type: str) -> _Column:
    """A function that makes the values of a column."""
    match source:
        case Place.SEQUENCE:
            return lambda events: events.sequences
        case Place.INDEX:
            return lambda events: events.indexes
        case Place.CAUSE:
            return lambda events: sequences_of(events.causes)
        case Place.CAUSE_INDEX:
            return lambda events: map(index_of, events.causes)
        case Place.MINUTE:
            return lambda events: _minutes(events.times)
        case Place.STREAM | Place.TYPE:
            constant = stream if source is Place.STREAM else type
            return lambda events: repeat(constant, len(events.facts))
        case From() | Beside():
            place = names.index(source.field if isinstance(source, From) else source.name)
            value, form = itemgetter(place), source.then or _FORMS.get(kind)
            if form is None:
                return lambda events: map(value, events.facts)
            return lambda events: map(form, map(value, events.facts))
        case FromEach():
            fields = [itemgetter(names.index(field)) for field in source.fields]
            return lambda events: map(source.then, *(map(field, events.facts) for field in fields))
    return lambda events: repeat(source, len(events.facts))


def _minutes(times: Sequence[str]) -> Iterable[Any]:
    """The minutes of envelopes' times; nearly always one, whose text all of a block begin with."""
    if times and minute_of(min(times)) == minute_of(max(times)):
        return repeat(minute_of(times[0]), len(times))
    return map(minute_of, times)


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
