"""The envelope: CloudEvents 1.0 structured JSON around every commit, so that `nats stream view` can be read.

A message of the log is a commit: the events that one cause led to on one subject, in order. Its `data` is the list of
them, each with its own stored name and id; an event's address is 'STREAM:sequence.index'. `correlationid` is the signal
group (the raw event before there is a group), `causationid` the address of the event that led to this commit. Events
come back typed: the stored name finds the struct of the facts.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from time import gmtime, strftime
from typing import Any, NamedTuple, Union

import msgspec
from msgspec import Raw, Struct, defstruct

from streams.errors import UnprocessableError

FORMAT = 2
"""The version of the stored form; streams carry it in their metadata (streams/topology.py)."""
COMMIT_TYPE = "vibe.commit"
"""The CloudEvents type of every message."""

_SECOND = 1_000_000_000


class Envelope(Struct, frozen=True, omit_defaults=True):
    """The stored form of a commit; `id` is the id of its first event. Each of `data` has `type`, `id` and `data`."""

    specversion: str
    type: str
    source: str
    id: str
    time: str
    data: list[Any]
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None


class Recorded(NamedTuple):
    """An event as it is stored: its facts (`data`), its commit's envelope, and where it is in the log.

    `payload` is the whole message. `head` is the facts of the commit's first event: what its other events share.
    """

    stream: str
    sequence: int
    subject: str
    payload: bytes
    type: str
    id: str
    time: str
    source: str
    correlation: str | None
    causation: str | None
    data: Any
    index: int = 0  # type: ignore[assignment]
    head: Any = None

    @property
    def at(self) -> str:
        return address(self.stream, self.sequence, self.index)


def address(stream: str, sequence: int, index: int = 0) -> str:
    """The address of an event, such as 'EXECUTIONS:14.0'."""
    return f"{stream}:{sequence}.{index}"


class Address(NamedTuple):
    """Where an event is: the stream, the sequence of its message, its place in the commit (None: the whole commit)."""

    stream: str
    sequence: int
    index: int | None  # type: ignore[assignment]


def parse_address(text: str | None) -> Address | None:
    """The inverse of `address`, also for 'STREAM:sequence'; None for any other text."""
    stream, _, place = (text or "").partition(":")
    sequence, dot, index = place.partition(".")
    if not sequence.isdecimal() or bool(dot) != index.isdecimal():
        return None
    return Address(stream, int(sequence), int(index) if dot else None)


@lru_cache(maxsize=64)
def _seconds(second: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))


def rfc3339(nanoseconds: int) -> str:
    """UTC with microseconds, e.g. 2026-11-20T06:15:04.123456Z."""
    second, rest = divmod(nanoseconds, _SECOND)
    return f"{_seconds(second)}.{rest // 1000:06d}Z"


def nanoseconds(text: str) -> int:
    """The inverse of `rfc3339`, to the microsecond."""
    time = msgspec.convert(text, type=datetime)
    return int(time.timestamp()) * _SECOND + time.microsecond * 1000


class _Named(Struct, frozen=True, gc=False):
    """An event whose facts are not decoded."""

    type: str
    id: str
    data: Raw


class Codec:
    """Encodes and decodes commits of the events of a catalogue (stored name -> struct type)."""

    def __init__(
        self, catalogue: Mapping[str, type[Struct]], check: Callable[[str, str, str], None] | None = None
    ) -> None:
        """`check` gets the stream, the subject and the source of each message that is decoded, and raises
        UnprocessableError for one that does not belong there."""
        self._check = check
        self._catalogue = dict(catalogue)
        self._names = {event: name for name, event in catalogue.items()}
        self._items = {name: item_of(name, event) for name, event in catalogue.items()}
        self._item_of = {event: self._items[name] for name, event in catalogue.items()}
        self._decode_all = commit_decoder(self._items.values())
        self._decode_some: dict[frozenset[str], Any] = {}
        self._decode_names: Any = msgspec.json.Decoder(_commit_of(_Named)).decode
        self._encode = msgspec.json.Encoder().encode

    @property
    def catalogue(self) -> dict[str, type[Struct]]:
        """Stored name -> struct type."""
        return self._catalogue

    def name(self, event: Struct) -> str:
        return self._names[type(event)]

    def knows(self, name: str) -> bool:
        return name in self._items

    def encode(
        self,
        event: Struct,
        *,
        id: str,
        source: str,
        time_ns: int,
        correlation: str | None = None,
        causation: str | None = None,
    ) -> bytes:
        """The stored bytes of a commit of one event; `time_ns` is when it was recorded."""
        return self.encode_commit(
            [(id, event)], source=source, time_ns=time_ns, correlation=correlation, causation=causation
        )

    def encode_commit(
        self,
        events: Sequence[tuple[str, Struct]],
        *,
        source: str,
        time_ns: int,
        correlation: str | None = None,
        causation: str | None = None,
    ) -> bytes:
        """The stored bytes of a commit of (id, event) in order; `time_ns` is when it was recorded."""
        items = self._item_of
        data = [items[type(event)](event_id, event) for event_id, event in events]
        return self._encode(
            Envelope("1.0", COMMIT_TYPE, source, events[0][0], rfc3339(time_ns), data, correlation, causation)
        )

    def decode(
        self, stream: str, sequence: int, subject: str, payload: bytes, types: Collection[str] | None = None
    ) -> list[Recorded]:
        """The events in a stored payload, in order, or only those of `types`.

        Raises UnprocessableError when it is no commit of events that the catalogue knows, or one that does not belong
        there. With `types`, the facts of other events are not looked at (and a `head` among them is msgspec.Raw).
        """
        try:
            decode = self._decode_all if types is None else self._decoder_of(frozenset(types))
            commit = decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UnprocessableError(self._what_is_wrong(payload, error)) from error
        time, source, correlation, causation = commit.time, commit.source, commit.correlationid, commit.causationid
        if self._check is not None:
            self._check(stream, subject, source)
        items = commit.data
        head = items[0].data if items else None
        return [
            Recorded(
                stream,
                sequence,
                subject,
                payload,
                item.__struct_config__.tag,
                item.id,
                time,
                source,
                correlation,
                causation,
                item.data,
                index,
                head,
            )
            for index, item in enumerate(items)
            if types is None or item.__struct_config__.tag in types
        ]

    def types(self, payload: bytes) -> list[str]:
        """The stored names in a payload, without their facts; empty when it is no commit."""
        try:
            return [item.type for item in self._decode_names(payload).data]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return []

    def _decoder_of(self, types: frozenset[str]) -> Any:
        found = self._decode_some.get(types)
        if found is None:
            items = (item if name in types else _skipped(name) for name, item in self._items.items())
            found = self._decode_some[types] = commit_decoder(items)
        return found

    def _what_is_wrong(self, payload: bytes, error: Exception) -> str:
        unknown = [name for name in self.types(payload) if name not in self._items]
        if unknown:
            return f"event type {unknown[0]!r} is not in the catalogue"
        return f"not a commit of stored events: {error}"


def item_of(name: str, event: Any) -> type[Struct]:
    """The struct of one event in a commit, `(id, data)`, tagged with its stored name; `event` is the type of `data`."""
    return defstruct(
        f"Stored_{name}".replace(".", "_"),
        [("id", str), ("data", event)],
        frozen=True,
        gc=False,
        tag=name,
        tag_field="type",
    )


@lru_cache(maxsize=1024)
def _skipped(name: str) -> type[Struct]:
    return item_of(name, Raw)


def commit_decoder(items: Any) -> Any:
    """A decoder of whole payloads for the given structs of `item_of`; the result has the envelope's fields."""
    return msgspec.json.Decoder(_commit_of(Union[tuple(items)])).decode  # noqa: UP007


def _commit_of(item: Any) -> type[Struct]:
    return defstruct(
        "StoredCommit",
        [
            ("id", str),
            ("time", str),
            ("source", str),
            ("data", list[item]),
            ("correlationid", str | None, None),
            ("causationid", str | None, None),
            ("traceparent", str | None, None),
        ],
        frozen=True,
        gc=False,
    )
