"""From configuration events to the records of one atomic batch.

Up to 1,000 events are a message each, on the subject of what they configure. More are staged: messages of many events
each on the subject of the import, and at last `import.activated`. A reader of the configuration puts what is staged in
force when it reads the activation; the server stores the whole batch or nothing of it.
"""

from collections.abc import Iterator, Sequence

from domain.events import ControlChanged, Event, ImportActivated, PolicyMaterialized
from domain.ids import derived
from handlers.live.configuration import IMPORT
from handlers.live.event_codec import codec
from handlers.services.config_file import key_of
from streams import subjects
from streams.append import MAX_BATCH, Record
from streams.errors import RefusedError

_CODEC = codec()
_SOURCE = "vibe/config"
_STAGED_AT_ONCE = 500
"""Events in one message of an import, some 150 kB; more of a file that would not fit into one batch otherwise."""
_ENVELOPE_BYTES = 4_096
"""Room for the headers and the envelope of a message."""


def pack(events: Sequence[Event], now: int, *, actor: str, after: int, largest: int) -> list[Record]:
    """The records of a batch that stores these events, in their order.

    `now` is the time in ns, `after` the CONFIG sequence that they follow, and `largest` the bytes that a message may
    have. Raises RefusedError for more than a batch holds.
    """
    if len(events) <= MAX_BATCH:
        return [_single(event, now) for event in events]
    import_id = derived("imp", actor, now, after)
    subject = subjects.config(IMPORT, import_id)
    activated = ImportActivated(import_id=import_id, events=len(events), actor=actor)
    at_once = max(_STAGED_AT_ONCE, -(-len(events) // (MAX_BATCH // 2)))
    payloads = [
        payload
        for start in range(0, len(events), at_once)
        for payload in _staged(events[start : start + at_once], now, import_id, largest - _ENVELOPE_BYTES)
    ]
    payloads.append(_encoded([(import_id, activated)], now, import_id))
    if len(payloads) > MAX_BATCH:
        raise RefusedError(
            f"{len(events):,} changes are {sum(map(len, payloads)):,} bytes, more than one import can hold; "
            "split the file"
        )
    return [Record(subject, payload) for payload in payloads]


def kind_of(event: Event) -> str:
    """The kind of a configuration event, as `domain.configuration.Kind` names it."""
    return _key_of(event)[0]


def _key_of(event: Event) -> tuple[str, str]:
    match event:
        case PolicyMaterialized():
            return "policy", event.hash
        case ControlChanged():
            return "control", f"{event.target.value}:{event.id}"
    return key_of(event)


def _named(event: Event, now: int) -> tuple[str, Event]:
    kind, key = _key_of(event)
    return f"{kind}:{key}@{now}", event


def _single(event: Event, now: int) -> Record:
    kind, key = _key_of(event)
    return Record(subjects.config(kind, key), _encoded([_named(event, now)], now, key))


def _staged(events: Sequence[Event], now: int, import_id: str, largest: int) -> Iterator[bytes]:
    """The messages of some events: one, or as many as it takes for none to be too large."""
    payload = _encoded([_named(event, now) for event in events], now, import_id)
    if len(payload) <= largest or len(events) == 1:
        yield payload
        return
    half = len(events) // 2
    yield from _staged(events[:half], now, import_id, largest)
    yield from _staged(events[half:], now, import_id, largest)


def _encoded(events: Sequence[tuple[str, Event]], now: int, correlation: str) -> bytes:
    return _CODEC.encode_commit(events, source=_SOURCE, time_ns=now, correlation=correlation)
