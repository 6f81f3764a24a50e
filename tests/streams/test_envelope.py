"""The envelope: CloudEvents around every event, and nothing lost on the way out and back."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from handlers.live.event_codec import ALL
from streams.envelope import FORMAT, Codec, Recorded, address, nanoseconds, parse_address, rfc3339
from streams.errors import UnprocessableError
from tests.streams.examples import example

CODEC = Codec(ALL)
TIME = 1_795_000_000_123_456_000


def encoded(event: Struct, **extensions: Any) -> bytes:
    return CODEC.encode(event, id="the-id", source="vibe/tests", time_ns=TIME, **extensions)


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_event_comes_back_as_it_was(name: str) -> None:
    event = example(ALL[name])
    payload = encoded(event, correlation="grp", causation="RAW:7")
    (recorded,) = CODEC.decode("SIGNALS", 12, "signals.1.x", payload)
    assert recorded == Recorded(
        stream="SIGNALS",
        sequence=12,
        subject="signals.1.x",
        payload=payload,
        type=name,
        id="the-id",
        time=rfc3339(TIME),
        source="vibe/tests",
        correlation="grp",
        causation="RAW:7",
        data=event,
        index=0,
        head=event,
    )
    assert recorded.at == "SIGNALS:12.0"
    assert CODEC.types(payload) == [name]
    assert CODEC.knows(name)
    assert CODEC.name(event) == name


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_stored_form_is_cloudevents(name: str) -> None:
    body = json.loads(encoded(example(ALL[name])))
    assert body.keys() == {"specversion", "type", "source", "id", "time", "data"}
    (event,) = body["data"]
    assert list(event) == ["type", "id", "data"]
    assert (event["type"], event["id"]) == (name, "the-id")
    assert {key: body[key] for key in ("specversion", "type", "source", "id", "time")} == {
        "specversion": "1.0",
        "type": "vibe.commit",
        "source": "vibe/tests",
        "id": "the-id",
        "time": rfc3339(TIME),
    }
    extended = json.loads(encoded(example(ALL[name]), correlation="c", causation="RAW:1"))
    assert extended.keys() - body.keys() == {"correlationid", "causationid"}


def test_large_numbers_and_odd_texts_survive() -> None:
    event = example(ALL["cash.deposited"], cash_delta_micros=-(2**80), subscriber_id='ü"\\\u0000\u2028🐳')
    assert CODEC.decode("S", 1, "s", encoded(event))[0].data == event


FIRST, SECOND = example(ALL["cash.deposited"]), example(ALL["group.matched"])
BOTH = CODEC.encode_commit([("one", FIRST), ("two", SECOND)], source="vibe/tests", time_ns=TIME, causation="RAW:1.2")


def test_a_commit_holds_the_events_of_one_cause_in_order() -> None:
    events = CODEC.decode("S", 7, "s", BOTH)
    assert [(event.at, event.type, event.id, event.data) for event in events] == [
        ("S:7.0", "cash.deposited", "one", FIRST),
        ("S:7.1", "group.matched", "two", SECOND),
    ]
    assert {event.head for event in events} == {FIRST}
    assert {event.causation for event in events} == {"RAW:1.2"}
    assert json.loads(BOTH)["id"] == "one"


def test_only_the_wanted_events_of_a_commit_are_decoded() -> None:
    (event,) = CODEC.decode("S", 7, "s", BOTH, {"group.matched"})
    assert (event.at, event.data) == ("S:7.1", SECOND)
    damaged = BOTH.replace(b'"cash_delta_micros":7', b'"cash_delta_micros":"7"')
    assert [event.id for event in CODEC.decode("S", 7, "s", damaged, {"group.matched"})] == ["two"]
    with pytest.raises(UnprocessableError, match="cash_delta_micros"):
        CODEC.decode("S", 7, "s", damaged, {"cash.deposited"})


@pytest.mark.parametrize("text", ["", "S", "S:", "S:x", "S:1.", "S:1.x", "S:.1", None])
def test_what_is_no_address_is_none(text: str | None) -> None:
    assert parse_address(text) is None


def test_addresses() -> None:
    assert parse_address(address("EXECUTIONS", 14, 3)) == ("EXECUTIONS", 14, 3)
    assert parse_address("EXECUTIONS:14") == ("EXECUTIONS", 14, None)
    assert FORMAT == 2


VALID = encoded(example(ALL["cash.deposited"]))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        b'"signal.recorded"',
        VALID.replace(b"the deposit_id", b"the \xff deposit_id"),
        VALID.replace(b'"data":[', b'"data":' + b"[" * 200_000),
        VALID[:-1],
        VALID.replace(b"cash.deposited", b"cash.withdrawn"),
        VALID.replace(b'"cash_delta_micros":7', b'"cash_delta_micros":"7"'),
        VALID.replace(b'"cash_delta_micros":7', b'"cash_delta_micros":7.5'),
        VALID.replace(b'"cash_delta_micros":7,', b""),
        VALID.replace(b'"id":"the-id"', b'"id":1'),
        VALID.replace(b'"data":[', b'"data":[['),
    ],
)
def test_what_is_no_event_is_unprocessable(payload: bytes) -> None:
    with pytest.raises(UnprocessableError):
        CODEC.decode("S", 1, "s", payload)
    CODEC.types(payload)


def test_an_unknown_type_is_named() -> None:
    with pytest.raises(UnprocessableError, match=r"'cash.withdrawn' is not in the catalogue"):
        CODEC.decode("S", 1, "s", VALID.replace(b"cash.deposited", b"cash.withdrawn"))


def test_damage_anywhere_never_raises_anything_else() -> None:
    damage = random.Random(1)
    for _ in range(3_000):
        payload = bytearray(VALID)
        for _ in range(damage.randint(1, 4)):
            payload[damage.randrange(len(payload))] = damage.randrange(256)
        del payload[damage.randint(len(payload) // 2, len(payload)) :]
        CODEC.types(bytes(payload))
        try:
            CODEC.decode("S", 1, "s", bytes(payload))
        except UnprocessableError:
            continue


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_come_back_to_the_microsecond(microseconds: int) -> None:
    assert nanoseconds(rfc3339(microseconds * 1000)) == microseconds * 1000
    assert rfc3339(microseconds * 1000 + 999) == rfc3339(microseconds * 1000)


def test_a_time_reads_as_one_expects() -> None:
    assert rfc3339(1_700_000_000_000_001_999) == "2023-11-14T22:13:20.000001Z"
