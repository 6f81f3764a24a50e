"""From stored bytes to changes of rows: which projection wants an event, decoding it, folding it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from projections.projection import Projection
from streams.envelope import Codec, Recorded, peek_type
from streams.errors import UnprocessableError

_BEGINNING = b'{"specversion":"1.0","type":"'
_TYPE_AT = len(_BEGINNING)

T = TypeVar("T")


class _Typed(Struct, Generic[T], frozen=True):
    """A stored event whose type is known, envelope and facts in one pass."""

    type: str
    id: str
    time: str
    source: str
    data: T
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None


class Folder:
    """Finds the projections that want an event of one stream, decoding only what is wanted.

    An event's type is read where our own writers put it; whatever does not look like theirs is decoded whole. With a
    `catalogue` (stored name -> struct) decoding takes one pass instead of the codec's two.
    """

    def __init__(
        self,
        codec: Codec,
        stream: str,
        projections: Sequence[Projection],
        catalogue: Mapping[str, type[Struct]] | None = None,
    ) -> None:
        self._codec = codec
        self.stream = stream
        self._projections = tuple(projections)
        self._catalogue = catalogue or {}
        # By everything in front of the quote behind the type, so that finding it proves the form of the beginning too.
        self._known: dict[bytes, _Kind] = {}

    def _kind(self, payload: bytes) -> _Kind:
        """What is to be done with an event of its type."""
        beginning = payload[: payload.find(b'"', _TYPE_AT)]
        found = self._known.get(beginning)
        if found is not None:
            return found
        name = peek_type(payload).decode(errors="replace")
        if not beginning.startswith(_BEGINNING) or not self._codec.knows(name):
            return _Kind(None, self._projections)
        event = self._catalogue.get(name)
        decode = msgspec.json.Decoder(_Typed[event]).decode if event is not None else None  # type: ignore[valid-type]
        found = self._known[beginning] = _Kind(decode, self.of_type(name))
        return found

    def of_type(self, name: str) -> tuple[Projection, ...]:
        """The projections that want a stored name."""
        return tuple(each for each in self._projections if not each.types or name in each.types)

    def _decode(self, kind: _Kind, sequence: int, subject: str, payload: bytes) -> Recorded:
        if kind.decode is not None:
            try:
                found = kind.decode(payload)
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
        return self._codec.decode(self.stream, sequence, subject, payload)

    def events(
        self, stored: Iterable[tuple[int, bytes, bytes]], positions: dict[str, int]
    ) -> Iterator[tuple[Recorded | Unreadable, tuple[Projection, ...]]]:
        """Every event (sequence, subject, payload) that is wanted behind the positions by name, with who wants it.

        What cannot be decoded comes as Unreadable with those that want its type, which may be nobody; when even the
        type cannot be read, with those that want every event.
        """
        behind = min(positions.values(), default=0)
        level = all(position == behind for position in positions.values())
        known, quote, type_at = self._known, b'"', _TYPE_AT
        for sequence, subject, payload in stored:
            kind = known.get(payload[: payload.find(quote, type_at)]) or self._kind(payload)
            wanting = kind.wanting
            if not wanting or sequence <= behind:
                continue
            event: Recorded | Unreadable
            try:
                event = self._decode(kind, sequence, subject.decode("utf-8", "replace"), payload)
                if wanting is self._projections:  # its type may have become known only now
                    wanting = self.of_type(event.type)
            except UnprocessableError as error:
                event = Unreadable(self.stream, sequence, subject.decode("utf-8", "replace"), payload, str(error))
                if wanting is self._projections:
                    wanting = self.of_type(peek_type(payload).decode(errors="replace"))
            if not level:
                wanting = tuple(each for each in wanting if sequence > positions[each.name])
            if wanting or isinstance(event, Unreadable):
                yield event, wanting


class _Kind(NamedTuple):
    """How events of a type are decoded (None: by the codec), and who wants them."""

    decode: Callable[[bytes], Any] | None
    wanting: tuple[Projection, ...]


class Unreadable:
    """A stored event that cannot be decoded, and why."""

    def __init__(self, stream: str, sequence: int, subject: str, payload: bytes, reason: str) -> None:
        self.stream = stream
        self.sequence = sequence
        self.subject = subject
        self.payload = payload
        self.reason = reason
