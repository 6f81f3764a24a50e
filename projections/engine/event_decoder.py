"""From stored bytes to decoded events and mapped rows: which projections process an event, and in which form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import compress
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import astuple

from projections.engine.mapping import Events, Maker, Mapped
from projections.engine.partial_structs import partial_struct
from projections.engine.projection import Projection
from projections.engine.table import Values
from streams.bulk_replay import Block
from streams.envelope import Codec, Recorded, commit_decoder, item_of
from streams.errors import UnprocessableError
from streams.writers import has_foreign, refuse_foreign

Wanting = tuple[Projection, ...]
_Rows = list[tuple[Any, int, int, str | None, str]]
"""Events of one type: facts, sequence, index, cause, time."""


class EventDecoder:
    """Decodes the events of one stream for some projections; the facts of other events are not decoded.

    Projections that map a type get a partial struct, all others the event's own struct, whichever projections run
    together: the rows of a projection never depend on the others.
    """

    def __init__(self, codec: Codec, stream: str, projections: Sequence[Projection]) -> None:
        self._codec = codec
        self.stream = stream
        self._projections = tuple(projections)
        self._parts = {name: self._part_of(name) for name in codec.catalogue}
        self._mapped = self._form("mapping")
        self._folded = self._form("folding")
        self._maps = any(part.maps for part in self._parts.values())
        self._folds = frozenset(name for name, part in self._parts.items() if part.folding)
        # Folded first: a block whose mapped rows are made is read in that form alone.
        self._forms = [self._folded, self._mapped] if self._maps else [self._folded]

    def _part_of(self, name: str) -> _Part:
        wanting, event = self.of_type(name), self._codec.catalogue[name]
        mapping = tuple(each for each in wanting if each.maps_of(name) is not None)
        folding = tuple(each for each in wanting if each.maps_of(name) is None)
        maps = [(each, mapped) for each in mapping for mapped in each.maps_of(name) or ()]
        beside = [mapped for each in self._projections for mapped in each.besides(event)]
        fields = {field for _, mapped in maps for field in mapped.fields}
        fields |= {field for mapped in beside for field in mapped.fields_of(event)}
        facts = partial_struct(event, fields) if maps or beside else None
        return _Part(name, event, facts, folding, mapping, tuple(maps))

    def _form(self, kind: str) -> _Form:
        """How whole messages are decoded for the projections that map types, or for those that fold them."""
        items = {}
        for name, part in self._parts.items():
            facts = part.facts if kind == "mapping" else part.event if part.folding else None
            items[item_of(name, facts or Raw)] = name
        return _Form(commit_decoder(items), items, {name: getattr(part, kind) for name, part in self._parts.items()})

    @cached_property
    def _alone(self) -> dict[Projection, EventDecoder]:
        """For each projection that maps types a decoder of its own, for what only other projections cannot decode."""
        mapping = {each for part in self._parts.values() for each in part.mapping}
        if len(mapping) == 1:
            return {}
        return {each: EventDecoder(self._codec, self.stream, [each]) for each in self._projections if each in mapping}

    @cached_property
    def _makers(self) -> dict[str, list[tuple[Projection, Mapped, Maker]]]:
        """The functions that make mapped rows, by stored name."""
        names_of = self._names_of
        return {
            name: [
                (projection, mapped, mapped.bind(mapped.names(names_of[part.event], names_of), self.stream, name))
                for projection, mapped in part.maps
            ]
            for name, part in self._parts.items()
        }

    def _apart(self, mapped: Mapped, event: type[Struct]) -> Callable[[Values], bool]:
        return mapped.apart(mapped.names(self._names_of[event], self._names_of))

    @cached_property
    def _names_of(self) -> dict[type[Struct], tuple[str, ...]]:
        """The fields of the partial structs, by event."""
        return {part.event: part.facts.__struct_fields__ for part in self._parts.values() if part.facts}

    def mapped(self, block: Block) -> tuple[list[Made], Block]:
        """The rows that `maps` make of a block, type by type, and the part of the block that projections have to fold.

        Raises what decoding and converting raise, before it returns anything: then process the whole block with
        `events`, which reports the faulty event.
        """
        if not self._maps:
            return [], block
        if has_foreign(self.stream, block.subjects):
            raise UnprocessableError(f"{self.stream} holds a message of another stream")
        rows_of: defaultdict[type, _Rows] = defaultdict(list)
        decode, rows, folded, folds = self._mapped.decode, block.sequences, list[int](), self._mapped_and_folded
        for row, (sequence, payload) in enumerate(zip(rows, block.payloads, strict=True)):
            commit = decode(payload)
            cause, time, fold = commit.causationid, commit.time, False
            for index, item in enumerate(commit.data):
                kind = type(item)
                rows_of[kind].append((item.data, sequence, index, cause, time))
                fold = fold or kind in folds
            if fold:
                folded.append(row)
        found = {self._mapped.names[kind]: rows for kind, rows in rows_of.items()}
        left = Block(
            [block.sequences[row] for row in folded],
            [block.subjects[row] for row in folded],
            [block.payloads[row] for row in folded],
        )
        return list(self._made(found)), left

    @cached_property
    def _mapped_and_folded(self) -> frozenset[type]:
        """The structs of the mapped form whose types projections fold too."""
        return frozenset(kind for kind, name in self._mapped.names.items() if name in self._folds)

    def _made(self, found: dict[str, _Rows]) -> Iterator[Made]:
        upserted: dict[tuple[str, str], tuple[Mapped, list[tuple[tuple[int, int], Values]]]] = {}
        columns_of = {
            self._parts[name].event: Events(*zip(*rows, strict=True))
            for name, rows in found.items()
            if self._parts[name].facts is not None
        }
        tuples_of = {event: list(map(astuple, columns.facts)) for event, columns in columns_of.items()}
        for name in found:
            event = self._parts[name].event
            for projection, mapped, make in self._makers[name]:
                columns = columns_of[event]
                facts: Sequence[Values] = tuples_of[event]
                for joined in mapped.joined:
                    keys = _in_commit(columns, joined.on)
                    none = (None,) * len(self._names_of[joined.event])
                    others = columns_of.get(joined.event)
                    of = (
                        dict(zip(_in_commit(others, joined.on), tuples_of[joined.event], strict=True)) if others else {}
                    )
                    facts = [own + of.get(key, none) for own, key in zip(facts, keys, strict=True)]
                columns = columns._replace(facts=facts)
                if mapped.unless is not None:
                    columns = _only(columns, map(self._apart(mapped, event), facts))
                rows = make(columns)
                if mapped.table.name in projection.upserted_by_several:
                    later = upserted.setdefault((projection.name, mapped.table.name), (mapped, []))[1]
                    later += zip(zip(columns.sequences, columns.indexes, strict=True), rows, strict=True)
                else:
                    yield Made(projection.name, mapped, rows)
        for (name, _), (mapped, placed) in upserted.items():
            placed.sort(key=itemgetter(0))  # the last event wins, of whichever type
            yield Made(name, mapped, [row for _, row in placed])

    def of_type(self, name: str) -> Wanting:
        """The projections that process a stored name."""
        return tuple(each for each in self._projections if not each.types or name in each.types)

    def events(
        self, stored: Iterable[tuple[int, bytes, bytes]], positions: dict[str, int], *, folded: bool = False
    ) -> Iterator[tuple[Recorded | Unreadable, Wanting]]:
        """The decoded events of (sequence, subject, payload), each with the projections that process it.

        `positions` are the projections' positions by name: events up to them are skipped. An event is yielded twice
        when some projections fold its own struct and others map its partial struct. A message that cannot be decoded is
        yielded once, as Unreadable, with the projections whose form of it cannot be decoded; when its types cannot be
        read, with the projections that process all types. `folded`: without the projections for which `mapped` has made
        rows.
        """
        behind = min(positions.values(), default=0)
        for sequence, subject, payload in stored:
            if sequence <= behind:
                continue
            failed: dict[Projection, None] = {}
            reason = ""
            for form in self._forms[:1] if folded else self._forms:
                try:
                    yield from self._of_commit(form, sequence, subject, payload, positions)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UnprocessableError) as error:
                    if form is self._mapped and self._alone:
                        for decoder in self._alone.values():
                            for event, wanting in decoder.mapped_events(sequence, subject, payload, positions):
                                if isinstance(event, Unreadable):
                                    failed |= dict.fromkeys(wanting)
                                    reason = event.reason
                                else:
                                    yield event, wanting
                        continue
                    failed |= dict.fromkeys(_behind(self._processing(form, payload), positions, sequence))
                    reason = self._what_is_wrong(payload, error)
            if reason:
                yield (
                    Unreadable(self.stream, sequence, subject.decode("utf-8", "replace"), payload, reason),
                    tuple(failed),
                )

    def mapped_events(
        self, sequence: int, subject: bytes, payload: bytes, positions: dict[str, int]
    ) -> Iterator[tuple[Recorded | Unreadable, Wanting]]:
        """The events of one message in the form of the projections that map them."""
        try:
            yield from self._of_commit(self._mapped, sequence, subject, payload, positions)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, UnprocessableError) as error:
            wanting = _behind(self._processing(self._mapped, payload), positions, sequence)
            reason = self._what_is_wrong(payload, error)
            yield Unreadable(self.stream, sequence, subject.decode("utf-8", "replace"), payload, reason), wanting

    def _of_commit(
        self, form: _Form, sequence: int, subject: bytes, payload: bytes, positions: dict[str, int]
    ) -> Iterator[tuple[Recorded, Wanting]]:
        commit = form.decode(payload)
        refuse_foreign(self.stream, subject.decode("utf-8", "replace"), commit.source)
        for index, item in enumerate(commit.data):
            name = form.names[type(item)]
            if wanting := _behind(form.wanting[name], positions, sequence):
                event = Recorded(
                    self.stream,
                    sequence,
                    subject.decode("utf-8", "replace"),
                    payload,
                    name,
                    item.id,
                    commit.time,
                    commit.source,
                    commit.correlationid,
                    commit.causationid,
                    item.data,
                    index,
                )
                yield event, wanting

    def _processing(self, form: _Form, payload: bytes) -> Wanting:
        """The projections that get this form of a type in a payload; those that process all types when the types cannot
        be read."""
        known = [name for name in self._codec.types(payload) if name in form.wanting]
        if not known:
            return tuple(each for each in self._projections if not each.types)
        return tuple(dict.fromkeys(each for name in known for each in form.wanting[name]))

    def _what_is_wrong(self, payload: bytes, error: Exception) -> str:
        if isinstance(error, UnprocessableError):
            return str(error)
        try:
            self._codec.decode(self.stream, 0, "", payload)
        except UnprocessableError as better:
            return str(better)
        return str(error)


class Made(NamedTuple):
    """The rows that one entry of a projection's `maps` made of the events of a block."""

    projection: str
    mapped: Mapped
    rows: list[Values]


class _Form(NamedTuple):
    """A way to decode whole messages: the stored name of each struct of an event, and by name the projections that get
    events in this form."""

    decode: Callable[[bytes], Any]
    names: dict[type[Struct], str]
    wanting: dict[str, Wanting]


class _Part(NamedTuple):
    """A type of event: the partial struct of those who map it (None: none does), the projections that fold it, those
    that map it, and their maps."""

    name: str
    event: type[Struct]
    facts: type[Struct] | None
    folding: Wanting
    mapping: Wanting
    maps: tuple[tuple[Projection, Mapped], ...]


class Unreadable:
    """A stored message that cannot be decoded, and why."""

    def __init__(self, stream: str, sequence: int, subject: str, payload: bytes, reason: str) -> None:
        self.stream = stream
        self.sequence = sequence
        self.subject = subject
        self.payload = payload
        self.reason = reason


def _behind(wanting: Wanting, positions: dict[str, int], sequence: int) -> Wanting:
    """Those of `wanting` that have not read a sequence yet."""
    return tuple(each for each in wanting if sequence > positions[each.name])


def _in_commit(events: Events, field: str) -> Iterator[tuple[int, Any]]:
    """The sequence of each event and the value of a field: what joins events of one commit."""
    return zip(events.sequences, map(attrgetter(field), events.facts), strict=True)


def _only(events: Events, chosen: Iterable[bool]) -> Events:
    """The chosen ones of events."""
    selectors = list(chosen)
    return Events(*(list(compress(column, selectors)) for column in events))
