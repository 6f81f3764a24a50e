"""From stored bytes to changes of rows: which projection wants an event, decoding it, folding it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from projections.engine.mapping import Maker, Mapped
from projections.engine.partial_structs import partial_struct
from projections.engine.projection import Projection
from projections.engine.table import Values
from streams.bulk_replay import Block
from streams.envelope import Codec, Recorded, peek_type
from streams.errors import UnprocessableError

_BEGINNING = b'{"specversion":"1.0","type":"'
_TYPE_AT = len(_BEGINNING)

_FACTS, _CAUSE = attrgetter("data"), attrgetter("causationid")

T = TypeVar("T")


class _Typed(Struct, Generic[T], frozen=True, gc=False):
    """A stored event whose type is known, envelope and facts in one pass."""

    type: str
    id: str
    time: str
    source: str
    data: T
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None


class OneByOneError(Exception):
    """A block holds events that others than our writers wrote, of types that are mapped."""


class EventDecoder:
    """Finds the projections that want an event of one stream, decoding only what is wanted.

    An event's type is read where our own writers put it; whatever does not look like theirs is decoded whole. Who maps
    a type gets lean facts, whoever else wants the event: so its rows are always made of the same.
    """

    def __init__(self, codec: Codec, stream: str, projections: Sequence[Projection]) -> None:
        self._codec = codec
        self.stream = stream
        self._projections = tuple(projections)
        self._catalogue = codec.catalogue
        # By everything in front of the quote behind the type, so that finding it proves the form of the beginning too.
        self._known: dict[bytes, tuple[_Part, ...]] = {}

    def _parts(self, payload: bytes) -> tuple[_Part, ...]:
        """Who is to get an event, in which forms."""
        beginning = payload[: payload.find(b'"', _TYPE_AT)]
        found = self._known.get(beginning)
        if found is not None:
            return found
        name = peek_type(payload).decode(errors="replace")
        if beginning.startswith(_BEGINNING) and self._codec.knows(name):
            found = self._known[beginning] = self._parts_of(name)
            return found
        try:
            return self._parts_of(self._codec.decode(self.stream, 0, "", payload).type)
        except UnprocessableError:
            return (_Part(None, self.of_type(name)),)

    def _parts_of(self, name: str) -> tuple[_Part, ...]:
        wanting, event = self.of_type(name), self._catalogue[name]
        mapping = tuple(each for each in wanting if name in each.maps)
        folding = tuple(each for each in wanting if name not in each.maps)
        parts = [_Part(_decoder(event), folding)] if folding else []
        if mapping:
            maps = [(each.name, mapped) for each in mapping for mapped in each.maps[name]]
            facts = partial_struct(event, {field for _, mapped in maps for field in mapped.fields})
            bound = tuple((who, mapped, mapped.bind(facts.__struct_fields__)) for who, mapped in maps)
            parts.append(_Part(_decoder(facts), mapping, bound))
        return tuple(parts)

    def mapped(self, block: Block) -> tuple[list[Made], Block]:
        """The rows that maps make of a block, type by type, and that of the block which somebody is to fold.

        Raises whatever decoding and converting raise, or OneByOneError, before anything is given: then all of the
        block is for `events`, which says what is wrong.
        """
        made: list[Made] = []
        left: list[int] = []
        places: defaultdict[bytes, list[int]] = defaultdict(list)
        for place, payload in enumerate(block.payloads):
            places[payload[: payload.find(b'"', _TYPE_AT)]].append(place)
        for beginning, found in places.items():
            parts = self._parts(block.payloads[found[0]])
            if beginning not in self._known:
                # Not of our own writers: in one order with the others only when all are taken one by one.
                if any(part.maps for place in found for part in self._parts(block.payloads[place])):
                    raise OneByOneError
                left += found
                continue
            for decode, _, maps in parts:
                if decode is not None and maps:
                    events = [decode(block.payloads[place]) for place in found]
                    facts, causes = list(map(astuple, map(_FACTS, events))), list(map(_CAUSE, events))
                    sequences = [block.sequences[place] for place in found]
                    made += [Made(name, mapped, rows(facts, sequences, causes)) for name, mapped, rows in maps]
            if not all(part.maps for part in parts):
                left += found
        left.sort()
        return made, Block(
            [block.sequences[place] for place in left],
            [block.subjects[place] for place in left],
            [block.payloads[place] for place in left],
        )

    def of_type(self, name: str) -> tuple[Projection, ...]:
        """The projections that want a stored name."""
        return tuple(each for each in self._projections if not each.types or name in each.types)

    def _decode(
        self, decode: Callable[[bytes], Any] | None, sequence: int, subject: str, payload: bytes
    ) -> Recorded | Unreadable:
        if decode is not None:
            try:
                found = decode(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # the codec says what is wrong with it
            else:
                return Recorded(
                    self.stream,
                    sequence,
                    subject,
                    payload,
                    found.type,
                    found.id,
                    found.time,
                    found.source,
                    found.correlationid,
                    found.causationid,
                    found.data,
                )
        try:
            return self._codec.decode(self.stream, sequence, subject, payload)
        except UnprocessableError as error:
            return Unreadable(self.stream, sequence, subject, payload, str(error))

    def events(
        self, stored: Iterable[tuple[int, bytes, bytes]], positions: dict[str, int], *, folded: bool = False
    ) -> Iterator[tuple[Recorded | Unreadable, tuple[Projection, ...]]]:
        """Every event (sequence, subject, payload) that is wanted behind the positions by name, with who wants it.

        An event comes twice when some want it whole and some its lean facts. What cannot be decoded comes once, as
        Unreadable with those that want it in a form in which it cannot, which may be nobody; when even the type cannot
        be read, with those that want every event. `folded`: without what `mapped` gives.
        """
        behind = min(positions.values(), default=0)
        level = all(position == behind for position in positions.values())
        known, quote, type_at = self._known, b'"', _TYPE_AT
        for sequence, subject, payload in stored:
            parts = known.get(payload[: payload.find(quote, type_at)])
            if parts is None:
                parts = self._parts(payload)
            if not parts or sequence <= behind:
                continue
            unreadable: Unreadable | None = None
            lost: list[Projection] = []
            for decode, wanting, maps in parts:
                if folded and maps:
                    continue
                event = self._decode(decode, sequence, subject.decode("utf-8", "replace"), payload)
                if not level:
                    wanting = tuple(each for each in wanting if sequence > positions[each.name])
                if isinstance(event, Unreadable):
                    unreadable = event
                    lost += wanting
                elif wanting:
                    yield event, wanting
            if unreadable is not None:
                yield unreadable, tuple(lost)


class Made(NamedTuple):
    """The rows that a projection's map made of the events of a block."""

    projection: str
    mapped: Mapped
    rows: list[Values]


class _Part(NamedTuple):
    """How an event is decoded (None: by the codec), who wants it so, and what rows they map it to."""

    decode: Callable[[bytes], Any] | None
    wanting: tuple[Projection, ...]
    maps: tuple[tuple[str, Mapped, Maker], ...] = ()


def _decoder(event: type[Struct]) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(_Typed[event]).decode  # type: ignore[valid-type]


class Unreadable:
    """A stored event that cannot be decoded, and why."""

    def __init__(self, stream: str, sequence: int, subject: str, payload: bytes, reason: str) -> None:
        self.stream = stream
        self.sequence = sequence
        self.subject = subject
        self.payload = payload
        self.reason = reason
