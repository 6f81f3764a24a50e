"""From stored bytes to decoded events and mapped rows: which projections process an event, and in which form."""

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
    """A stored event of a known type: envelope and facts, decoded in one pass."""

    type: str
    id: str
    time: str
    source: str
    data: T
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None


class OneByOneError(Exception):
    """A block holds events of mapped types that were not encoded by this system's `Codec`: process it event by
    event."""


class EventDecoder:
    """Decodes the events of one stream for some projections; events that no projection processes are not decoded.

    The type of an event is read at the position where `Codec` writes it; a payload of another form is decoded whole.
    Projections that map a type get a partial struct, all others the event's own struct, whichever projections run
    together: the rows of a projection never depend on the others.
    """

    def __init__(self, codec: Codec, stream: str, projections: Sequence[Projection]) -> None:
        self._codec = codec
        self.stream = stream
        self._projections = tuple(projections)
        self._catalogue = codec.catalogue
        # Keyed by all bytes up to the quote behind the type, so that a hit also proves the form of the beginning.
        self._known: dict[bytes, tuple[_Part, ...]] = {}

    def _parts(self, payload: bytes) -> tuple[_Part, ...]:
        """Which projections process an event, in which forms."""
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
            bound = tuple((name, mapped, mapped.bind(facts.__struct_fields__)) for name, mapped in maps)
            parts.append(_Part(_decoder(facts), mapping, bound))
        return tuple(parts)

    def mapped(self, block: Block) -> tuple[list[Made], Block]:
        """The rows that `maps` make of a block, type by type, and the part of the block that projections have to fold.

        Raises OneByOneError, or what decoding and converting raise, before it returns anything: then process the whole
        block with `events`, which reports the faulty event.
        """
        made: list[Made] = []
        left: list[int] = []
        rows_of: defaultdict[bytes, list[int]] = defaultdict(list)
        for row, payload in enumerate(block.payloads):
            rows_of[payload[: payload.find(b'"', _TYPE_AT)]].append(row)
        for beginning, found in rows_of.items():
            parts = self._parts(block.payloads[found[0]])
            if beginning not in self._known:
                # Not encoded by `Codec`: only event by event are such events in one order with the others.
                if any(part.maps for row in found for part in self._parts(block.payloads[row])):
                    raise OneByOneError
                left += found
                continue
            for decode, _, maps in parts:
                if decode is not None and maps:
                    events = [decode(block.payloads[row]) for row in found]
                    facts, causes = list(map(astuple, map(_FACTS, events))), list(map(_CAUSE, events))
                    sequences = [block.sequences[row] for row in found]
                    made += [Made(name, mapped, make(facts, sequences, causes)) for name, mapped, make in maps]
            if not all(part.maps for part in parts):
                left += found
        left.sort()
        return made, Block(
            [block.sequences[row] for row in left],
            [block.subjects[row] for row in left],
            [block.payloads[row] for row in left],
        )

    def of_type(self, name: str) -> tuple[Projection, ...]:
        """The projections that process a stored name."""
        return tuple(each for each in self._projections if not each.types or name in each.types)

    def _decode(
        self, decode: Callable[[bytes], Any] | None, sequence: int, subject: str, payload: bytes
    ) -> Recorded | Unreadable:
        if decode is not None:
            try:
                found = decode(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # the codec below reports what is wrong
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
        """The decoded events of (sequence, subject, payload), each with the projections that process it.

        `positions` are the projections' positions by name: events up to them are skipped. An event is yielded twice
        when some projections fold its own struct and others map its partial struct. An event that cannot be decoded is
        yielded once, as Unreadable, with the projections whose form of it cannot be decoded (possibly none); when even
        its type cannot be read, with the projections that process all types. `folded`: without the projections for
        which `mapped` has made rows.
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
            failed: list[Projection] = []
            for decode, wanting, maps in parts:
                if folded and maps:
                    continue
                event = self._decode(decode, sequence, subject.decode("utf-8", "replace"), payload)
                if not level:
                    wanting = tuple(each for each in wanting if sequence > positions[each.name])
                if isinstance(event, Unreadable):
                    unreadable = event
                    failed += wanting
                elif wanting:
                    yield event, wanting
            if unreadable is not None:
                yield unreadable, tuple(failed)


class Made(NamedTuple):
    """The rows that one entry of a projection's `maps` made of the events of a block."""

    projection: str
    mapped: Mapped
    rows: list[Values]


class _Part(NamedTuple):
    """How an event is decoded (None: by the codec), the projections that process this form, and their mapped rows."""

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
