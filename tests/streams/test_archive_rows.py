"""Messages as rows and back, for any bytes; and day boundaries."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.archive.arrow_rows import SCHEMA, Digest, to_block, to_record_batch
from streams.archive.day_boundaries import DayBoundary, Days, day_of
from streams.bulk_replay import Block
from streams.envelope import nanoseconds, rfc3339
from tests.streams.archiving import DAY, at, day, payload

ENVELOPE = payload(at(3, 61.5), 5, note='a "data": and a "time":"2020-01-01T00:00:00.000000Z" inside')
STRANGE = [
    ENVELOPE,
    b"",
    b"null",
    b"[1,2]",
    b"not json",
    b"\xff\xfe",
    b'{"data":1}',
    b'{"data":null,"time":"2026-11-02T00:00:00Z"}',
    b' { "data" : {"a": 1} , "type":"t" } ',
    b'{"data":{"x":"\xff"},"id":"i"}',
    b'{"id":"{\\"a\\":1}","data":{"a":1}}',
    b'{"time":"yesterday","data":{}}',
    b'{"time":"0001-01-01T00:00:00+14:00","data":{}}',
    b'{"time":5,"data":{}}',
    b"[" * 5000,
]


def block(payloads: list[bytes], first: int = 1) -> Block:
    return Block(list(range(first, first + len(payloads))), [b"raw.1.x"] * len(payloads), payloads)


def columns(one: bytes) -> dict[str, Any]:
    rows: list[dict[str, Any]] = to_record_batch(block([one])).to_pylist()
    return rows[0]


def test_the_fields_of_an_envelope_are_in_columns() -> None:
    row = columns(ENVELOPE)
    assert (row["sequence"], row["subject"]) == (1, "raw.1.x")
    assert row["time"] == datetime(2026, 11, 3, 0, 1, 1, 500_000, tzinfo=UTC)
    assert (row["type"], row["id"], row["source"]) == ("vibe.commit", "evt_5", "tests")
    assert (row["correlation"], row["causation"]) == ("grp_1", "RAW:7.0")
    assert row["data"].encode() == msgspec.json.encode(msgspec.json.decode(ENVELOPE)["data"])
    assert row["data"].startswith(
        '[{"type":"tests.happened","id":"evt_5","data":{"number":5,"subscriber_id":"sub-5","note":"a \\"data\\"'
    )


def test_payloads_are_restored_byte_for_byte() -> None:
    rows = to_record_batch(block(STRANGE))
    assert rows.schema.equals(SCHEMA)
    assert to_block(rows) == block(STRANGE)
    assert to_block(rows.slice(3, 4)) == block(STRANGE[3:7], 4)


def test_other_payloads_are_whole_in_head() -> None:
    for strange in (
        b"",
        b"not json",
        b"\xff\xfe",
        b"[1,2]",
        b'{"time":5,"data":{}}',
        b'{"data":{"x":"\xff"},"id":"i"}',
    ):
        row = columns(strange)
        assert (row["data"], row["head"], row["tail"]) == (None, strange, b"")


def test_an_unreadable_time_is_null() -> None:
    rows = to_record_batch(block([ENVELOPE, b'{"time":"yesterday","data":{}}', ENVELOPE])).to_pylist()
    assert [row["time"] is None for row in rows] == [False, True, False]
    assert rows[1]["data"] == "{}"


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner, max_size=3)
)


@given(st.lists(st.binary(max_size=40) | st.builds(lambda data: msgspec.json.encode({"data": data}), json)))
def test_any_payloads_are_restored(payloads: list[bytes]) -> None:
    assert to_block(to_record_batch(block(payloads))) == block(payloads)


def digest(*blocks: Block) -> str:
    made = Digest()
    for one in blocks:
        made.add(one)
    return str(made)


def test_a_digest_depends_on_everything_but_the_blocks() -> None:
    whole = Block([1, 2, 3], [b"a", b"bc", b"d"], [b"x", b"yz", b""])
    assert digest(whole) == digest(Block([1], [b"a"], [b"x"]), Block([2, 3], [b"bc", b"d"], [b"yz", b""]))
    others = [
        Block([1, 2, 4], whole.subjects, whole.payloads),
        Block(whole.sequences, [b"ab", b"c", b"d"], whole.payloads),
        Block(whole.sequences, whole.subjects, [b"xy", b"z", b""]),
        Block(whole.sequences, whole.subjects, [b"yz", b"x", b""]),
        Block(whole.sequences[:2], whole.subjects[:2], whole.payloads[:2]),
    ]
    assert len({digest(whole), *map(digest, others)}) == 6
    # Frozen: archives must stay verifiable.
    assert digest(whole) == "sha256:165363f0a474bdd077459fc6f0de5dd7e672641cfcdb645c4943a13200452645"


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (ENVELOPE, b"2026-11-03"),
        (
            b'{"data":{"id":"x","time":"2020-01-01T00:00:00.000000Z"},"id":"x","time":"2026-11-02T01:00:00Z"}',
            b"2026-11-02",
        ),
        (
            b'{"specversion":"1.0","type":"t","data":{"id":"x","time":"2020-01-01T00:00:00.000000Z"},'
            b'"id":"x","time":"2026-11-02T01:00:00.000000Z"}',
            b"2026-11-02",
        ),
        (b'{"time":"2026-11-02T01:00:00+02:00"}', b"2026-11-01"),
        (b'{"specversion":"1.0","type":"t","id":"x","time":"2026-11-02T01:00:00.0+02:00"}', b"2026-11-01"),
        (b'{"time":"yesterday"}', b""),
        (b"{}", b""),
        (b"\xff", b""),
    ],
)
def test_the_day_of_an_event(stored: bytes, expected: bytes) -> None:
    assert day_of(stored) == expected


def found(times: list[int | None], closed: int, blocks: int = 3) -> list[DayBoundary]:
    days = Days()
    payloads = [payload(time) if time is not None else b"timeless" for time in times]
    for start in range(0, len(payloads), blocks):
        days.add(block(payloads[start : start + blocks], start + 1))
    return days.boundaries(day(closed))


def test_a_day_ends_before_later_events_only() -> None:
    times: list[int | None] = [at(1, 10), at(2, 1), at(1, 86_399), at(2, 2), at(3, 0), at(2, 86_399), at(3, 5)]
    assert found(times, closed=2) == [DayBoundary(day(1), 3), DayBoundary(day(2), 6)]
    assert found(times, closed=1) == [DayBoundary(day(1), 3)]
    assert found([at(2), at(3)], closed=1) == []


def test_a_late_event_moves_the_boundary_behind_it() -> None:
    assert found([at(2), at(3), at(1)], closed=2) == [DayBoundary(day(1), 3)]


def test_a_message_without_a_time_belongs_to_the_day_before_it() -> None:
    assert found([None, at(1), None, None, at(2), None], closed=1) == [DayBoundary(day(1), 4)]
    assert found([None, None], closed=1) == []


@given(st.lists(st.integers(0, 5 * 24), min_size=1, max_size=60), st.integers(1, 6), st.integers(1, 7))
def test_after_a_day_boundary_all_events_are_later(hours: list[int], closed: int, blocks: int) -> None:
    times = [at(1) + hour * DAY // 24 for hour in hours]
    expected: list[DayBoundary] = []
    for number in range(1, closed + 1):
        last = max((place for place, time in enumerate(times, 1) if time < at(number + 1)), default=0)
        if last > (expected[-1].last if expected else 0):
            expected.append(DayBoundary(day(number), last))
    assert found(list(times), closed, blocks) == expected
    assert nanoseconds(rfc3339(at(1))) == at(1)
