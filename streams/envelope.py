"""The envelope: CloudEvents 1.0 structured JSON around every event, so that `nats stream view` can be read.

`correlationid` is the signal group (the raw event before there is a group), `causationid` the 'STREAM:sequence' of
the event that led to this one. Events come back typed: the stored name in `type` finds the struct of `data`.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from time import gmtime, strftime
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from streams.errors import UnprocessableError

_SECOND = 1_000_000_000


class Envelope(Struct, frozen=True, omit_defaults=True):
    """The stored form. `type` is the second field, so that a reader can look at it without parsing the rest."""

    specversion: str
    type: str
    source: str
    id: str
    time: str
    data: Any
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None


class _Stored(Struct, frozen=True):
    type: str
    id: str
    time: str
    source: str
    data: Raw
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None


class Recorded(NamedTuple):
    """An event as it is stored: its facts (`data`), its envelope, and where it is in the log."""

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

    @property
    def at(self) -> str:
        return f"{self.stream}:{self.sequence}"


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


_TYPE_AT = len(b'{"specversion":"1.0","type":"')


def peek_type(payload: bytes) -> bytes:
    """The stored name in a payload, without decoding the rest; empty when it does not look like one of ours."""
    end = payload.find(b'"', _TYPE_AT)
    return payload[_TYPE_AT:end] if end > 0 else b""


class Codec:
    """Encodes and decodes the events of a catalogue (stored name -> struct type)."""

    def __init__(self, catalogue: Mapping[str, type[Struct]]) -> None:
        self._names = {event: name for name, event in catalogue.items()}
        self._decoders = {name: msgspec.json.Decoder(event) for name, event in catalogue.items()}
        self._stored = msgspec.json.Decoder(_Stored)
        self._encode = msgspec.json.Encoder().encode

    @property
    def catalogue(self) -> dict[str, type[Struct]]:
        """Stored name -> struct type."""
        return {name: event for event, name in self._names.items()}

    def name(self, event: Struct) -> str:
        return self._names[type(event)]

    def knows(self, name: str) -> bool:
        return name in self._decoders

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
        """The stored bytes of an event; `time_ns` is when it was recorded."""
        return self._encode(
            Envelope("1.0", self._names[type(event)], source, id, rfc3339(time_ns), event, correlation, causation)
        )

    def decode(self, stream: str, sequence: int, subject: str, payload: bytes) -> Recorded:
        """The event in a stored payload. Raises UnprocessableError when it is not one that the catalogue knows."""
        try:
            stored = self._stored.decode(payload)
            decoder = self._decoders.get(stored.type)
            if decoder is None:
                raise UnprocessableError(f"event type {stored.type!r} is not in the catalogue")
            data = decoder.decode(stored.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UnprocessableError(f"not a stored event: {error}") from error
        return Recorded(
            stream,
            sequence,
            subject,
            payload,
            stored.type,
            stored.id,
            stored.time,
            stored.source,
            stored.correlationid,
            stored.causationid,
            data,
        )
