"""Dead letters: events that a stage could not handle, kept whole in DEAD with their origin and the error.

A stage stores one with `dead_letter`. Operators list them, retry them or drop them; each of these steps is an event in
DEAD too. A retry is read by the stage's processor as a second input: its outputs and the position of the retry are one
commit, so it is run exactly once, whatever crashes. A dead letter is closed once: its retry and its drop share one
message id, and the server keeps one event under it.
"""

import base64
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import structlog
from msgspec import Struct, field, structs

from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.envelope import Codec, address
from streams.errors import RefusedError, UnprocessableError
from streams.reader import read_all
from streams.subjects import partition_of
from streams.topology import DEAD

log = structlog.get_logger()

DEAD_TYPE = "event.dead_lettered"
RETRIED_TYPE = "dead_letter.retried"
DROPPED_TYPE = "dead_letter.dropped"

TICK_PREFIX = "tick."
"""What the subject of a dead letter begins with that is of a stage's tick in a lane, and of no event."""
MAX_PAYLOAD = 5_500_000
"""Bytes kept of an event; with envelope and base64 they fit the server's max_payload of 8 MB."""
MAX_ID, MAX_ERROR = 300, 2_000
"""Characters kept of an id and of an error: both may quote what came from outside, at any length."""


class DeadLettered(Struct, frozen=True, kw_only=True):
    """An event could not be handled. `payload` is its whole message, as text where it is UTF-8, base64 otherwise
    (`encoding`); `index` is the event's place in it, None when the message could not be read at all."""

    dead_id: str
    stage: str
    stream: str
    sequence: int
    subject: str
    error: str
    payload: str
    encoding: str
    dead_at: int
    index: int | None = None

    @property
    def origin(self) -> str:
        """The address of the event."""
        return origin_of(self.stream, self.sequence, self.index)


class DeadLetterRetried(Struct, frozen=True, kw_only=True):
    """A dead letter goes through its stage again. Carries the whole message: its origin may be gone by then."""

    dead_id: str
    dead_sequence: int = field(name="letter_sequence")
    stage: str
    stream: str
    sequence: int
    subject: str
    payload: str
    encoding: str
    actor: str
    index: int | None = None


class DeadLetterDropped(Struct, frozen=True, kw_only=True):
    """An operator decided that a dead letter needs no further work. Carries the whole message where the stage is to
    complete what waits for the event; empty otherwise."""

    dead_id: str
    dead_sequence: int = field(name="letter_sequence")
    stage: str
    why: str
    actor: str
    stream: str = ""
    sequence: int = 0
    subject: str = ""
    payload: str = ""
    encoding: str = ""
    index: int | None = None


class DeadLetter(NamedTuple):
    """A dead letter with its sequence in DEAD, and its state: 'open', 'retried' or 'dropped'."""

    sequence: int
    time: str
    facts: DeadLettered
    state: str


_CODEC = Codec({DEAD_TYPE: DeadLettered})


def origin_of(stream: str, sequence: int, index: int | None) -> str:
    """The address of an event, 'STREAM:sequence.index', or of a whole message, 'STREAM:sequence'."""
    return f"{stream}:{sequence}" if index is None else address(stream, sequence, index)


async def dead_letter(
    connection: Connection,
    *,
    stage: str,
    stream: str,
    sequence: int,
    subject: str,
    payload: bytes,
    error: str,
    now: int,
    dead_id: str | None = None,
    index: int | None = None,
) -> None:
    """Store one dead letter; the same event of the same stage is stored once (deduplicated by its id).

    `payload` is the event's whole message, `index` its place in it (None: the message could not be read); `sequence` is
    0 when the event was in no stream yet; `now` is in ns. What is too large is cut, and `error` says so.
    Raises UnavailableError or UnknownOutcomeError; doing it again is safe.
    """
    if len(payload) > MAX_PAYLOAD:
        error = f"{error[:MAX_ERROR]} (payload of {len(payload):,} bytes cut to its first {MAX_PAYLOAD:,})"
        payload = payload[:MAX_PAYLOAD]
    text, encoding = _as_text(payload)
    origin = origin_of(stream, sequence, index)
    dead_id = dead_id or f"{stage}:{origin}"
    if len(dead_id) > MAX_ID:
        dead_id = f"{dead_id[: MAX_ID - 50]}~{blake2b(dead_id.encode(errors='replace'), digest_size=20).hexdigest()}"
    event = DeadLettered(
        dead_id=dead_id,
        stage=stage,
        stream=stream,
        sequence=sequence,
        subject=subject,
        error=error[: MAX_ERROR + 100],
        payload=text,
        encoding=encoding,
        dead_at=now,
        index=index,
    )
    stored = _CODEC.encode(
        event, id=dead_id, source=f"vibe/{stage}", time_ns=now, causation=origin if sequence else None
    )
    await append(connection, [Record(subjects.dead(stage, stream), stored, dead_id)])


def decode(payload: bytes) -> DeadLettered:
    """The event in a stored payload of DEAD. Raises UnprocessableError for the payload of another event."""
    found: DeadLettered = _CODEC.decode(DEAD.name, 0, "", payload)[0].data
    return found


def payload_of(facts: DeadLettered | DeadLetterRetried | DeadLetterDropped) -> bytes:
    """The bytes of the event that could not be handled."""
    return base64.b64decode(facts.payload) if facts.encoding == "base64" else facts.payload.encode()


def retry_subject(stage: str, origin: str) -> str:
    """The subject on which the lane with the partition of `origin`, the event's subject, reads its retries."""
    return f"dead.retry.{stage}.{partition_of(origin)}"


def retry_patterns(stage: str) -> str:
    """The pattern of a stage's retries, with {} for the partition."""
    return f"dead.retry.{stage}.{{}}"


async def dead_letters(connection: Connection, codec: Codec, stage: str | None = None) -> list[DeadLetter]:
    """All dead letters, or those of one stage, oldest first."""
    found: dict[int, DeadLetter] = {}
    async for batch in read_all(connection, DEAD.name):
        for stored in batch:
            try:
                events = codec.decode(DEAD.name, stored.sequence, stored.subject, stored.payload)
            except UnprocessableError as error:
                log.warning("dead_letter.unreadable", at=f"{DEAD.name}:{stored.sequence}", error=str(error))
                continue
            for event in events:
                if event.type == DEAD_TYPE:
                    found[event.sequence] = DeadLetter(event.sequence, event.time, event.data, "open")
                elif event.type in (RETRIED_TYPE, DROPPED_TYPE):
                    closed = found.get(event.data.dead_sequence)
                    if closed is not None:
                        state = "retried" if event.type == RETRIED_TYPE else "dropped"
                        found[closed.sequence] = closed._replace(state=state)
    return [each for each in found.values() if stage is None or each.facts.stage == stage]


async def retry(
    connection: Connection,
    codec: Codec,
    dead: DeadLetter,
    stages: frozenset[str],
    *,
    actor: str,
    now: Callable[[], int],
) -> int:
    """Ask the stage of a dead letter to run it again; returns the sequence of the request in DEAD.

    `stages` are those that read retries. Raises RefusedError for another stage, and when the dead letter is closed,
    also when another operator closes it at the same time.
    """
    _refuse_closed(dead)
    facts = dead.facts
    if facts.stage not in stages:
        raise RefusedError(
            f"dead letter {dead.sequence} comes from {facts.stage!r}, which has no input to run again; "
            "fix the cause, then drop the dead letter"
        )
    if facts.subject.startswith(TICK_PREFIX):
        raise RefusedError(
            f"dead letter {dead.sequence} is of a tick, which the stage runs again by itself; "
            "fix the cause, then drop the dead letter"
        )
    event = DeadLetterRetried(
        dead_id=facts.dead_id,
        dead_sequence=dead.sequence,
        stage=facts.stage,
        stream=facts.stream,
        sequence=facts.sequence,
        subject=facts.subject,
        payload=facts.payload,
        encoding=facts.encoding,
        actor=actor,
        index=facts.index,
    )
    return await _close(connection, codec, retry_subject(facts.stage, facts.subject), event, dead, now)


async def drop(
    connection: Connection,
    codec: Codec,
    dead: DeadLetter,
    *,
    why: str,
    actor: str,
    now: Callable[[], int],
    completes: bool = False,
) -> int:
    """Close a dead letter for good, with a reason; with `completes`, its stage reads the drop and completes what waits
    for the event. Raises RefusedError when it is closed already."""
    _refuse_closed(dead)
    facts = dead.facts
    event = DeadLetterDropped(
        dead_id=facts.dead_id, dead_sequence=dead.sequence, stage=facts.stage, why=why, actor=actor
    )
    if not completes:
        return await _close(connection, codec, f"dead.dropped.{facts.stage}", event, dead, now)
    whole = structs.replace(
        event,
        stream=facts.stream,
        sequence=facts.sequence,
        subject=facts.subject,
        payload=facts.payload,
        encoding=facts.encoding,
        index=facts.index,
    )
    return await _close(connection, codec, retry_subject(facts.stage, facts.subject), whole, dead, now)


def _refuse_closed(dead: DeadLetter) -> None:
    if dead.state != "open":
        raise RefusedError(f"dead letter {dead.sequence} is {dead.state} already")


async def _close(
    connection: Connection, codec: Codec, subject: str, event: Struct, dead: DeadLetter, now: Callable[[], int]
) -> int:
    message_id = f"{dead.facts.dead_id}@{dead.sequence}"
    payload = codec.encode(
        event, id=message_id, source="vibe/dead", time_ns=now(), causation=address(DEAD.name, dead.sequence)
    )
    landed = await append(connection, [Record(subject, payload, message_id)])
    if landed.duplicate:
        raise RefusedError(f"dead letter {dead.sequence} was retried or dropped by another operator just now")
    return landed.last


def _as_text(payload: bytes) -> tuple[str, str]:
    """(text, encoding): UTF-8 unless the payload is none, or JSON would escape so much that base64 is shorter."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return base64.b64encode(payload).decode(), "base64"
    if len(msgspec.json.encode(text)) > 4 * len(payload) // 3 + 4:
        return base64.b64encode(payload).decode(), "base64"
    return text, "utf-8"
