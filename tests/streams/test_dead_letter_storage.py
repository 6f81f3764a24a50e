"""Storing dead letters: the whole event, once, and small enough for the log, however large the event was."""

import base64
from typing import Any

import msgspec
import pytest

from streams.connection import Connection
from streams.dead_letters import MAX_PAYLOAD, DeadLetterDropped, DeadLettered, DeadLetterRetried, dead_letter, decode
from streams.reader import read_all
from tests.streams.examples import example

NOW = 1_795_000_000_000_000_000


async def store(log: Connection, payload: bytes = b"payload", **fields: Any) -> None:
    given: dict[str, Any] = {
        "stage": "normalize",
        "stream": "RAW",
        "sequence": 7,
        "subject": "raw.1.x",
        "error": "why",
        "now": NOW,
    } | fields
    await dead_letter(log, payload=payload, **given)


async def dead_lettered(log: Connection) -> list[DeadLettered]:
    return [decode(stored.payload) async for batch in read_all(log, "DEAD") for stored in batch]


def payload_of(dead: DeadLettered) -> bytes:
    return base64.b64decode(dead.payload) if dead.encoding == "base64" else dead.payload.encode()


async def test_a_dead_letter_holds_the_event_its_origin_and_the_error(log: Connection) -> None:
    await store(log)
    assert await dead_lettered(log) == [
        DeadLettered(
            dead_id="normalize:RAW:7",
            stage="normalize",
            stream="RAW",
            sequence=7,
            subject="raw.1.x",
            error="why",
            payload="payload",
            encoding="utf-8",
            dead_at=NOW,
        )
    ]


async def test_the_same_event_of_the_same_stage_is_kept_once(log: Connection) -> None:
    for _ in range(3):
        await store(log)
    await store(log, stage="group")
    await store(log, sequence=8)
    assert [dead.dead_id for dead in await dead_lettered(log)] == ["normalize:RAW:7", "group:RAW:7", "normalize:RAW:8"]


@pytest.mark.parametrize(
    ("payload", "encoding"),
    [
        (b"", "utf-8"),
        ("grün 🐳".encode(), "utf-8"),
        (b"\xff\xfe\x00", "base64"),
        (b"\x01" * 100_000, "base64"),
        (b'{"a": "' + b"x" * 1_000_000 + b'"}', "utf-8"),
    ],
)
async def test_a_payload_comes_back_as_it_was(log: Connection, payload: bytes, encoding: str) -> None:
    await store(log, payload)
    (dead,) = await dead_lettered(log)
    assert (dead.encoding, payload_of(dead)) == (encoding, payload)


@pytest.mark.parametrize("byte", [b"x", b"\xff", b"\x01", b'"'])
async def test_what_is_too_large_is_shortened_and_the_error_reports_it(log: Connection, byte: bytes) -> None:
    await store(log, byte * 8_000_000, error="e" * 5_000_000, dead_id="i" * 5_000_000)
    await store(log, byte * 8_000_000, error="e" * 5_000_000, dead_id="i" * 4_999_999 + "j")
    one, other = await dead_lettered(log)
    assert payload_of(one) == byte * MAX_PAYLOAD
    assert "payload of 8,000,000 bytes cut" in one.error
    assert one.dead_id != other.dead_id


@pytest.mark.parametrize("event", [DeadLetterRetried, DeadLetterDropped])
def test_the_sequence_of_a_dead_letter_keeps_its_stored_name(
    event: type[DeadLetterRetried | DeadLetterDropped],
) -> None:
    stored = msgspec.json.decode(msgspec.json.encode(example(event, dead_sequence=7)))
    assert stored["letter_sequence"] == 7
    assert msgspec.convert(stored, type=event).dead_sequence == 7
