"""What becomes of dead letters: listed, run through their stage once more, or dropped; each step is an event in DEAD.

A retry is an event that the stage's processor reads as a second input: its outputs and the place of the retry are
one commit, so a letter is run exactly once per retry, whatever crashes. A letter is closed once: the server keeps one
event under the id that its retry and its drop share.
"""

import base64
from collections.abc import Callable
from typing import NamedTuple

import structlog
from msgspec import Struct

from streams.append import Record, append
from streams.connection import Connection
from streams.dead_letter_events import DEAD_TYPE, DeadLettered
from streams.envelope import Codec, Recorded
from streams.errors import RefusedError, UnprocessableError
from streams.reader import read_all
from streams.subjects import partition_of
from streams.topology import DEAD

log = structlog.get_logger()

RETRIED_TYPE = "dead_letter.retried"
DROPPED_TYPE = "dead_letter.dropped"


class DeadLetterRetried(Struct, frozen=True, kw_only=True):
    """A letter goes through its stage again. Carries the whole event, so that the origin may be gone."""

    dead_id: str
    letter_sequence: int
    stage: str
    stream: str
    sequence: int
    subject: str
    payload: str
    encoding: str
    actor: str


class DeadLetterDropped(Struct, frozen=True, kw_only=True):
    """Somebody decided that a letter needs nothing more."""

    dead_id: str
    letter_sequence: int
    stage: str
    why: str
    actor: str


class DeadLetter(NamedTuple):
    """A dead letter, where it stands in DEAD, and what became of it: 'open', 'retried' or 'dropped'."""

    sequence: int
    time: str
    facts: DeadLettered
    state: str


def retry_subject(stage: str, origin: str) -> str:
    """Where the lane that owns an event's partition looks for retries."""
    return f"dead.retry.{stage}.{partition_of(origin)}"


def retry_patterns(stage: str) -> str:
    return f"dead.retry.{stage}.{{}}"


def payload_of(facts: DeadLettered | DeadLetterRetried) -> bytes:
    """The event's bytes as they were."""
    return base64.b64decode(facts.payload) if facts.encoding == "base64" else facts.payload.encode()


async def letters(connection: Connection, codec: Codec, stage: str | None = None) -> list[DeadLetter]:
    """All letters, oldest first."""
    found: dict[int, DeadLetter] = {}
    async for batch in read_all(connection, DEAD.name):
        for stored in batch:
            try:
                event: Recorded = codec.decode(DEAD.name, stored.sequence, stored.subject, stored.payload)
            except UnprocessableError as error:
                log.warning("letter.unreadable", at=f"{DEAD.name}:{stored.sequence}", error=str(error))
                continue
            if event.type == DEAD_TYPE:
                found[event.sequence] = DeadLetter(event.sequence, event.time, event.data, "open")
            elif event.type in (RETRIED_TYPE, DROPPED_TYPE):
                state = "retried" if event.type == RETRIED_TYPE else "dropped"
                letter = found.get(event.data.letter_sequence)
                if letter is not None:
                    found[letter.sequence] = letter._replace(state=state)
    return [letter for letter in found.values() if stage is None or letter.facts.stage == stage]


async def retry(
    connection: Connection,
    codec: Codec,
    letter: DeadLetter,
    stages: frozenset[str],
    *,
    actor: str,
    now: Callable[[], int],
) -> int:
    """Ask the letter's stage to run it again; returns the sequence of the request. Raises RefusedError.

    Two people who close one letter at once, each in his way, write one event: the second one is refused.
    """
    facts = letter.facts
    if letter.state != "open":
        raise RefusedError(f"letter {letter.sequence} is {letter.state} already")
    if facts.stage not in stages:
        raise RefusedError(
            f"letter {letter.sequence} comes from {facts.stage!r}, which has no input to run again; "
            "mend the cause, then drop the letter"
        )
    event = DeadLetterRetried(
        dead_id=facts.dead_id,
        letter_sequence=letter.sequence,
        stage=facts.stage,
        stream=facts.stream,
        sequence=facts.sequence,
        subject=facts.subject,
        payload=facts.payload,
        encoding=facts.encoding,
        actor=actor,
    )
    return await _write(connection, codec, retry_subject(facts.stage, facts.subject), event, letter, now)


async def drop(
    connection: Connection, codec: Codec, letter: DeadLetter, *, why: str, actor: str, now: Callable[[], int]
) -> int:
    """Close a letter for good, saying why. Raises RefusedError when it is closed already."""
    if letter.state != "open":
        raise RefusedError(f"letter {letter.sequence} is {letter.state} already")
    event = DeadLetterDropped(
        dead_id=letter.facts.dead_id, letter_sequence=letter.sequence, stage=letter.facts.stage, why=why, actor=actor
    )
    return await _write(connection, codec, f"dead.dropped.{letter.facts.stage}", event, letter, now)


async def _write(
    connection: Connection, codec: Codec, subject: str, event: Struct, letter: DeadLetter, now: Callable[[], int]
) -> int:
    closing = f"{letter.facts.dead_id}@{letter.sequence}"
    payload = codec.encode(
        event, id=closing, source="vibe/dead", time_ns=now(), causation=f"{DEAD.name}:{letter.sequence}"
    )
    landed = await append(connection, [Record(subject, payload, closing)])
    if landed.duplicate:
        raise RefusedError(f"letter {letter.sequence} was retried or dropped by somebody else just now")
    return landed.last
