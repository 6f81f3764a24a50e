"""A response of the Data API is sorted out: ids, order, what cannot be read, what was not asked for."""

import json
from typing import Any

import pytest
from msgspec import Raw

from handlers.ingest.polymarket.activity_page import ActivityPage, read

WALLET = "0x61276aba49117fd9299707d5d573652949d5c977"
START = 1_772_184_000
NOW = (START + 60) * 1_000_000_000


def row(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "proxyWallet": WALLET, "timestamp": START + number, "conditionId": "0x" + "cb" * 32, "type": "TRADE",
        "size": 20, "usdcSize": 9.4, "transactionHash": f"0x{abs(number):064x}", "price": 0.47, "asset": "944",
        "side": "BUY", "outcomeIndex": 1,
    } | fields  # fmt: skip


def window(*rows: object, start: int = START) -> ActivityPage:
    return read([Raw(json.dumps(each).encode()) for each in rows], WALLET, start, NOW)


def test_rows_have_ids_and_stand_in_order() -> None:
    found = window(row(1), row(2), row(3))
    assert [each.id.rpartition(":")[2] for each in found.rows] == ["0", "0", "0"]
    assert len(found.ids) == 3
    assert found.newest_s == START + 3
    assert json.loads(bytes(found.rows[0].payload)) == row(1)


def test_rows_served_newest_first_are_turned_round_and_those_of_a_second_keep_their_order() -> None:
    served = [row(3), row(1, size=5), row(1, size=6)]
    assert [each.activity.share_micros for each in window(*served).rows] == [5_000_000, 6_000_000, 20_000_000]


def test_equal_rows_are_numbered_the_same_in_every_window_that_holds_their_second() -> None:
    three = [row(5, size=45_000)] * 3
    early = window(*three, start=START)
    late = window(*three, row(9), start=START + 5)
    assert [each.id.rpartition(":")[2] for each in early.rows] == ["0", "1", "2"]
    assert early.ids < late.ids


def test_a_row_that_comes_late_among_equals_gets_a_number_of_its_own() -> None:
    assert window(row(5), row(5)).ids > window(row(5)).ids


@pytest.mark.parametrize(
    "broken",
    [
        row(2, size=0),
        row(2, size="abc"),
        row(2, size=1.0000001),
        row(2, price=7),
        row(2, side="HOLD"),
        row(2, type="LOTTERY"),
        row(2, timestamp=-1),
        row(2, timestamp=START + 100_000),
        row(2, timestamp=START * 1000),
        row(2, proxyWallet="me"),
        row(2, asset={"nested": 1}),
        {},
        [],
        None,
        "row",
        5,
    ],
    ids=lambda each: json.dumps(each)[:40],
)
def test_a_row_that_cannot_be_read_is_set_aside_with_the_reason_and_the_others_stay(broken: object) -> None:
    found = window(row(1), broken, row(3))
    assert [each.activity.event_time for each in found.rows] == [(START + n) * 1_000_000_000 for n in (1, 3)]
    (refused,) = found.refused
    assert refused.error
    assert json.loads(bytes(refused.payload)) == broken
    assert refused.key == window(broken).refused[0].key, "it is recognised when it is served again"


HOSTILE = {
    "deep": b'{"title":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "half a character": b'{"proxyWallet":"\\ud800","type":"\\ud800"}',
    "no UTF-8": b'{"title":"\xff\xfe"}',
    "a number beyond counting": b'{"timestamp":' + b"9" * 5_000 + b"}",
    "long": b'{"type":"' + b"x" * 3_000_000 + b'"}',
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_row_is_set_aside_too(what: str) -> None:
    good = Raw(json.dumps(row(1)).encode())
    found = read([good, Raw(HOSTILE[what])], WALLET, START, NOW)
    assert (len(found.rows), len(found.refused)) == (1, 1)
    assert len(found.refused[0].key) < 1_000


def test_rows_of_others_and_from_before_the_window_are_not_taken() -> None:
    found = window(row(1, proxyWallet="0x" + "11" * 20), row(-5), row(2))
    assert [each.activity.event_time // 1_000_000_000 for each in found.rows] == [START + 2]
    assert found.strange == 2


def test_an_empty_response_has_no_newest_second() -> None:
    assert window().newest_s == 0
