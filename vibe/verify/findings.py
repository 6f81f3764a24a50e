"""What a verification finds."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec

from streams.envelope import Codec, Recorded
from streams.errors import UnprocessableError
from streams.reader import Stored


class Different(NamedTuple):
    """An event that comes out otherwise: the first field that differs. `recomputed` is None when nothing comes out."""

    at: str
    type: str
    field: str
    stored: Any
    recomputed: Any


class Unproducible(NamedTuple):
    """An event that nothing in the log leads to."""

    at: str
    type: str
    why: str


class Findings:
    """The totals and the lists of a verification.

    `not_verifiable` counts events whose cause an age limit has removed, or that other rules decided.
    """

    def __init__(self) -> None:
        self.events = 0
        self.verified = 0
        self.not_verifiable = 0
        self.different: list[Different] = []
        self.unproducible: list[Unproducible] = []

    @property
    def ok(self) -> bool:
        return not self.different and not self.unproducible

    def compare(self, event: Recorded, recomputed: Any, recomputed_id: str) -> bool:
        """Count an event as verified, or as different in its first field that differs; whether it is equal."""
        difference = first_difference(event, recomputed, recomputed_id)
        if difference is None:
            self.verified += 1
        else:
            self.different.append(difference)
        return difference is None

    def events_of(self, codec: Codec, stream: str, stored: Stored) -> list[Recorded]:
        """The events of a stored message; a message that cannot be read, or that no writer of the stream stores, has
        none and is named."""
        try:
            return codec.decode(stream, stored.sequence, stored.subject, stored.payload)
        except UnprocessableError as error:
            self.unproducible.append(Unproducible(f"{stream}:{stored.sequence}", "message", str(error)))
            return []

    def cannot_be(self, event: Recorded, why: str) -> None:
        """Name an event that nothing leads to."""
        self.unproducible.append(Unproducible(event.at, event.type, why))


def first_difference(event: Recorded, recomputed: Any, recomputed_id: str) -> Different | None:
    """Where an event and what was recomputed differ, None when they are equal; ids are compared too."""
    if event.data != recomputed:
        for field in msgspec.structs.fields(type(event.data)):
            was, now = getattr(event.data, field.name), getattr(recomputed, field.name)
            if was != now:
                return Different(event.at, event.type, *narrowed(field.name, was, now))
    if event.id != recomputed_id:
        return Different(event.at, event.type, "id", event.id, recomputed_id)
    return None


def narrowed(name: str, was: Any, now: Any) -> tuple[str, Any, Any]:
    """Of two lists, the first items that differ; as values for JSON."""
    if isinstance(was, tuple) and isinstance(now, tuple):
        pairs = enumerate(zip_longest(was, now))
        number, (was, now) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
        name = f"{name}[{number}]"
    return name, msgspec.to_builtins(was), msgspec.to_builtins(now)
