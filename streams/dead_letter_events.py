"""Dead letters: events that a stage could not handle, kept whole with where they came from and why."""

import base64
from hashlib import blake2b

import msgspec
from msgspec import Struct

from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.envelope import rfc3339
from streams.topology import DEAD

DEAD_TYPE = "event.dead_lettered"
MAX_PAYLOAD = 5_500_000
"""Bytes kept of an event; with envelope and base64 they fit the server's max_payload of 8 MB."""


MAX_ID, MAX_ERROR = 300, 2_000
"""Characters kept of an id and of a reason: both may quote what came from outside, whatever its length."""


class DeadLettered(Struct, frozen=True, kw_only=True):
    """The payload is text where it is UTF-8, base64 otherwise (`encoding`)."""

    dead_id: str
    stage: str
    stream: str
    sequence: int
    subject: str
    error: str
    payload: str
    encoding: str
    dead_at: int


class _Envelope(Struct, omit_defaults=True):
    specversion: str
    type: str
    source: str
    id: str
    time: str
    data: DeadLettered
    causationid: str | None = None


_DECODER = msgspec.json.Decoder(_Envelope)


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
) -> None:
    """Write one dead letter; the same event of the same stage is stored once (deduplicated by its id)."""
    if len(payload) > MAX_PAYLOAD:
        error = f"{error[:MAX_ERROR]} (payload of {len(payload):,} bytes cut to its first {MAX_PAYLOAD:,})"
        payload = payload[:MAX_PAYLOAD]
    try:
        text, encoding = payload.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = base64.b64encode(payload).decode(), "base64"
    if len(msgspec.json.encode(text)) > 4 * len(payload) // 3 + 4:  # so many escapes that base64 is shorter
        text, encoding = base64.b64encode(payload).decode(), "base64"
    dead_id = dead_id or f"{stage}:{stream}:{sequence}"
    if len(dead_id) > MAX_ID:
        dead_id = f"{dead_id[: MAX_ID - 50]}~{blake2b(dead_id.encode(errors='replace'), digest_size=20).hexdigest()}"
    letter = DeadLettered(
        dead_id=dead_id,
        stage=stage,
        stream=stream,
        sequence=sequence,
        subject=subject,
        error=error[: MAX_ERROR + 100],
        payload=text,
        encoding=encoding,
        dead_at=now,
    )
    envelope = _Envelope(
        "1.0",
        DEAD_TYPE,
        f"vibe/{stage}",
        letter.dead_id,
        rfc3339(now),
        letter,
        f"{stream}:{sequence}" if sequence else None,
    )
    record = Record(subjects.dead(stage, stream), msgspec.json.encode(envelope), letter.dead_id)
    await append(connection, [record])


def decode(payload: bytes) -> DeadLettered:
    """The letter in a stored payload of DEAD."""
    return _DECODER.decode(payload).data


__all__ = ["DEAD", "DEAD_TYPE", "DeadLettered", "dead_letter", "decode"]
