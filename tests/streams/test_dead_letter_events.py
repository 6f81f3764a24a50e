"""Dead letters: whole, once, and small enough for the log whatever came."""

import base64
from typing import Any

import pytest

from streams import dead_letter_events
from streams.connection import Connection
from streams.dead_letter_events import DeadLettered
from streams.reader import read_all

NOW = 1_795_000_000_000_000_000


async def bury(log: Connection, payload: bytes = b"payload", **fields: Any) -> None:
    given: dict[str, Any] = {
        "stage": "normalize",
        "stream": "RAW",
        "sequence": 7,
        "subject": "raw.1.x",
        "error": "why",
        "now": NOW,
    } | fields
    await dead_letter_events.dead_letter(log, payload=payload, **given)


async def letters(log: Connection) -> list[DeadLettered]:
    return [dead_letter_events.decode(stored.payload) async for batch in read_all(log, "DEAD") for stored in batch]


def payload_of(letter: DeadLettered) -> bytes:
    return base64.b64decode(letter.payload) if letter.encoding == "base64" else letter.payload.encode()


async def test_a_letter_says_what_where_from_and_why(log: Connection) -> None:
    await bury(log)
    assert await letters(log) == [
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
        await bury(log)
    await bury(log, stage="group")
    await bury(log, sequence=8)
    assert [letter.dead_id for letter in await letters(log)] == ["normalize:RAW:7", "group:RAW:7", "normalize:RAW:8"]


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
    await bury(log, payload)
    (letter,) = await letters(log)
    assert (letter.encoding, payload_of(letter)) == (encoding, payload)


@pytest.mark.parametrize("byte", [b"x", b"\xff", b"\x01", b'"'])
async def test_what_is_too_large_is_cut_and_says_so(log: Connection, byte: bytes) -> None:
    await bury(log, byte * 8_000_000, error="e" * 5_000_000, dead_id="i" * 5_000_000)
    await bury(log, byte * 8_000_000, error="e" * 5_000_000, dead_id="i" * 4_999_999 + "j")
    one, other = await letters(log)
    assert payload_of(one) == byte * dead_letter_events.MAX_PAYLOAD
    assert "payload of 8,000,000 bytes cut" in one.error
    assert one.dead_id != other.dead_id
