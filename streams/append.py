"""Append: an atomic batch of events, guarded by the last sequences of literal subjects.

All or nothing: a batch lands whole or not at all. A batch that was sent and not answered has an unknown outcome;
`UnknownOutcomeError` says so, and the caller reads its guarded subject back before it decides.
"""

import itertools
import os
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from streams.connection import Connection, error_of
from streams.errors import RefusedError, UnavailableError, UnknownOutcomeError

MAX_BATCH = 1000
"""Messages in one atomic batch: the server's default limit, and the one in nats.conf."""

_PREFIX = os.urandom(8).hex()
_NUMBER = itertools.count()


class Record(NamedTuple):
    """One message to append. `dedup_id` asks the server to refuse a second message with this id in its window.

    `expected` is a guard of the record's own: the last sequence that its subject must have before the batch, 0 =
    none. A batch may guard many subjects this way, each by its first record in the batch.
    """

    subject: str
    payload: bytes
    dedup_id: str | None = None
    expected: int | None = None


class Guard(NamedTuple):
    """The last sequence that `subject` must have for the append to land; 0 = the subject has none."""

    subject: str
    sequence: int


class Landed(NamedTuple):
    """Where a batch landed: its sequences are first..last without a gap. `duplicate` only for single events."""

    first: int
    last: int
    duplicate: bool = False


async def append(
    connection: Connection, records: Sequence[Record], guard: Guard | None = None, *, timeout: float = 5.0
) -> Landed:
    """Append 1..1000 records of one stream, all or nothing.

    The guard's subject must be that of one of the records. Raises ConflictError (a guard did not hold; it names the
    first one, for the server does not say which), DuplicateError (a dedup id is stored already; a single record
    answers `duplicate` instead), RefusedError, UnavailableError (certainly not stored) or UnknownOutcomeError
    (perhaps stored).
    """
    if not 0 < len(records) <= MAX_BATCH:
        raise RefusedError(f"a batch holds 1 to {MAX_BATCH} events, not {len(records)}")
    guarded = guard is None
    batch = f"{_PREFIX}{next(_NUMBER):x}" if len(records) > 1 else None
    last = len(records)
    try:
        for number, record in enumerate(records, 1):
            headers: dict[str, str] = {}
            if record.dedup_id is not None:
                headers["Nats-Msg-Id"] = record.dedup_id
            expected = record.expected
            if guard is not None and not guarded and record.subject == guard.subject:
                expected = guard.sequence
                guarded = True
            if expected is not None:
                headers["Nats-Expected-Last-Subject-Sequence"] = str(expected)
            if batch is not None:
                headers["Nats-Batch-Id"] = batch
                headers["Nats-Batch-Sequence"] = str(number)
            if number < last:
                await connection.publish(record.subject, record.payload, headers=headers)
                continue
            if not guarded:
                raise RefusedError(f"no record of the batch is on the guarded subject {guard and guard.subject}")
            if batch is not None:
                headers["Nats-Batch-Commit"] = "1"
            answer = await connection.request(record.subject, record.payload, headers=headers or None, timeout=timeout)
    except UnavailableError as error:
        raise UnknownOutcomeError(str(error)) from error
    body = msgspec.json.decode(answer.data)
    if "error" in body:
        guards = [guard] if guard else [Guard(r.subject, r.expected) for r in records if r.expected is not None]
        named = guards[0] if guards else Guard(records[-1].subject, 0)
        raise error_of(body["error"], named.subject, named.sequence)
    return Landed(body["seq"] - last + 1, body["seq"], bool(body.get("duplicate")))
