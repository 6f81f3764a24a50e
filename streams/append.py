"""Append: an atomic batch of events, on the condition that subjects are at the expected versions.

A batch is stored whole or not at all. A batch that was sent and not answered has an unknown outcome: the caller gets
`UnknownOutcomeError` and reads its subject back before it decides. docs/nats.md, atomic batches.
"""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from streams.connection import Connection, error_of
from streams.errors import DuplicateError, RefusedError, UnavailableError, UnknownOutcomeError

MAX_BATCH = 1000
"""Messages in one atomic batch: the server's default limit, and the one in nats.conf."""

_BLOCK_BYTES = 4 * 1024 * 1024
"""What is written of a large batch before waiting until the server has taken it."""
_PREFIX = os.urandom(8).hex()
_NUMBER = itertools.count()
_LINE_BREAKS = str.maketrans("\r\n", "  ")


class Record(NamedTuple):
    """One message to append. `dedup_id` asks the server to refuse a second message with this id in its window.

    `expected` is the last sequence that its subject must have before the batch, 0 = none. A batch may expect versions
    of many subjects this way, each by its first record in the batch.
    """

    subject: str
    payload: bytes
    dedup_id: str | None = None
    expected: int | None = None


class ExpectedVersion(NamedTuple):
    """The last sequence that `subject` must have for the append to land; 0 = the subject has none.

    A subject with wildcards covers everything that matches it; the server then looks at all of those subjects (0.5 ms
    for 12,500), so it is not for frequent appends. WHOLE expects the stream's own last sequence, and costs nothing.
    """

    subject: str
    sequence: int


WHOLE = ">"
"""As the subject of an expected version: everything in the stream."""


class Landed(NamedTuple):
    """Where a batch is stored: sequences first..last without a gap. `duplicate` only for single events."""

    first: int
    last: int
    duplicate: bool = False


async def append(
    connection: Connection,
    records: Sequence[Record],
    expected: ExpectedVersion | None = None,
    *,
    timeout: float = 5.0,
    sent: Callable[[int], None] = lambda count: None,
) -> Landed:
    """Append 1..1000 records of one stream, all or nothing.

    `sent` is called with the number of records that the server has taken so far, none of them stored before all are.
    A literal expected subject must be that of one of the records. Raises ConflictError (a subject was not at its
    expected version; the error names the first one, because the server does not report which), DuplicateError (a dedup
    id is stored already; a single record answers `duplicate` instead), RefusedError, UnavailableError (certainly not
    stored) or UnknownOutcomeError (perhaps stored).
    """
    if not 0 < len(records) <= MAX_BATCH:
        raise RefusedError(f"a batch holds 1 to {MAX_BATCH} events, not {len(records)}")
    batch = f"{_PREFIX}{next(_NUMBER):x}" if len(records) > 1 else None
    versions = _versions(records, expected)
    count = len(records)
    final = records[-1]
    headers = _headers(final, versions.get(count), batch, count)
    if batch is not None:
        headers["Nats-Batch-Commit"] = "1"
    try:
        if batch is not None:
            await _publish(connection, records[:-1], versions, batch, sent)
        answer = await connection.request(final.subject, final.payload, headers=headers or None, timeout=timeout)
    except UnavailableError as error:
        raise UnknownOutcomeError(str(error)) from error
    body = msgspec.json.decode(answer.data)
    if "error" in body:
        named = expected or next(iter(versions.values()), ExpectedVersion(final.subject, 0))
        raise error_of(body["error"], named.subject, named.sequence)
    return Landed(body["seq"] - count + 1, body["seq"], bool(body.get("duplicate")))


async def _publish(
    connection: Connection,
    records: Sequence[Record],
    versions: Mapping[int, ExpectedVersion],
    batch: str,
    sent: Callable[[int], None],
) -> None:
    block: list[tuple[str, bytes, bytes]] = []
    size = 0
    for number, record in enumerate(records, 1):
        block.append((record.subject, _block(_headers(record, versions.get(number), batch, number)), record.payload))
        size += len(record.payload)
        if size >= _BLOCK_BYTES:
            await connection.publish_block(block)
            await connection.flushed()
            block, size = [], 0
            sent(number)
    await connection.publish_block(block)


async def append_once(connection: Connection, records: Sequence[Record]) -> int:
    """Append events that another writer may have stored already, each with its dedup id; returns how many were new.

    Raises RefusedError, UnavailableError or UnknownOutcomeError; doing it again is safe.
    """
    try:
        await append(connection, records)
        return len(records)
    except DuplicateError:
        landed = [await append(connection, [record]) for record in records]
        return sum(not one.duplicate for one in landed)


def _versions(records: Sequence[Record], expected: ExpectedVersion | None) -> dict[int, ExpectedVersion]:
    """The expected version that each record carries, if any, by the record's number from 1."""
    versions = {
        number: ExpectedVersion(record.subject, record.expected)
        for number, record in enumerate(records, 1)
        if record.expected is not None
    }
    if expected is None:
        return versions
    if "*" in expected.subject or ">" in expected.subject:
        carrier: int | None = 1
        if records[0].expected is not None:
            raise RefusedError(
                f"the first record expects version {records[0].expected} of its own subject; it cannot carry the "
                f"expected version of {expected.subject} too"
            )
    else:
        carrier = next((number for number, record in enumerate(records, 1) if record.subject == expected.subject), None)
    if carrier is None:
        raise RefusedError(f"no record of the batch is on the subject {expected.subject}, whose version is expected")
    versions[carrier] = expected
    return versions


def _headers(record: Record, expected: ExpectedVersion | None, batch: str | None, number: int) -> dict[str, str]:
    headers = {}
    if record.dedup_id is not None:
        headers["Nats-Msg-Id"] = record.dedup_id
    if expected is not None and expected.subject == WHOLE:
        headers["Nats-Expected-Last-Sequence"] = str(expected.sequence)
    elif expected is not None:
        headers["Nats-Expected-Last-Subject-Sequence"] = str(expected.sequence)
        if expected.subject != record.subject:
            headers["Nats-Expected-Last-Subject-Sequence-Subject"] = expected.subject
    if batch is not None:
        headers["Nats-Batch-Id"] = batch
        headers["Nats-Batch-Sequence"] = str(number)
    return headers


def _block(headers: dict[str, str]) -> bytes:
    # An id may quote what came from outside: a line break in it must not start a header of its own.
    lines = "".join(f"{name}: {value.translate(_LINE_BREAKS)}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()
