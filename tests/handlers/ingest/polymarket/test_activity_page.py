"""Reading a response of the Data API: ids, order, unreadable rows, rows that were not requested."""

import json
from typing import Any

import pytest
from msgspec import Raw

from domain.venue_times import LONGEST_AHEAD_NS
from handlers.ingest.polymarket.activity_page import ActivityPage, read_page

WALLET = "0x61276aba49117fd9299707d5d573652949d5c977"
START = 1_772_184_000
NOW = (START + 60) * 1_000_000_000


def row(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "proxyWallet": WALLET, "timestamp": START + number, "conditionId": "0x" + "cb" * 32, "type": "TRADE",
        "size": 20, "usdcSize": 9.4, "transactionHash": f"0x{abs(number):064x}", "price": 0.47, "asset": "944",
        "side": "BUY", "outcomeIndex": 1,
    } | fields  # fmt: skip


def page(*rows: object, start: int = START) -> ActivityPage:
    return read_page([Raw(json.dumps(each).encode()) for each in rows], WALLET, start, NOW)


def test_rows_have_ids_and_are_in_order() -> None:
    found = page(row(1), row(2), row(3))
    assert [each.id.rpartition(":")[2] for each in found.rows] == ["0", "0", "0"]
    assert len(found.ids) == 3
    assert found.newest_s == START + 3
    assert json.loads(bytes(found.rows[0].payload)) == row(1)


def test_rows_served_newest_first_are_reversed_and_those_of_a_second_keep_their_order() -> None:
    served = [row(3), row(1, size=5), row(1, size=6)]
    assert [each.activity.share_micros for each in page(*served).rows] == [5_000_000, 6_000_000, 20_000_000]


def test_equal_rows_have_the_same_numbers_in_every_page_with_their_second() -> None:
    three = [row(5, size=45_000)] * 3
    early = page(*three, start=START)
    late = page(*three, row(9), start=START + 5)
    assert [each.id.rpartition(":")[2] for each in early.rows] == ["0", "1", "2"]
    assert early.ids < late.ids


def test_a_row_that_comes_late_among_equals_gets_a_number_of_its_own() -> None:
    assert page(row(5), row(5)).ids > page(row(5)).ids


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
def test_an_unreadable_row_is_refused_with_the_reason_and_the_others_are_read(broken: object) -> None:
    found = page(row(1), broken, row(3))
    assert [each.activity.event_time for each in found.rows] == [(START + n) * 1_000_000_000 for n in (1, 3)]
    (refused,) = found.refused
    assert refused.error
    assert json.loads(bytes(refused.payload)) == broken
    assert refused.key == page(broken).refused[0].key, "it is recognised when it is served again"


HOSTILE = {
    "deep": b'{"title":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "half a character": b'{"proxyWallet":"\\ud800","type":"\\ud800"}',
    "no UTF-8": b'{"title":"\xff\xfe"}',
    "a number beyond counting": b'{"timestamp":' + b"9" * 5_000 + b"}",
    "long": b'{"type":"' + b"x" * 3_000_000 + b'"}',
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_row_is_refused_too(what: str) -> None:
    good = Raw(json.dumps(row(1)).encode())
    found = read_page([good, Raw(HOSTILE[what])], WALLET, START, NOW)
    assert (len(found.rows), len(found.refused)) == (1, 1)
    assert len(found.refused[0].key) < 1_000


def test_rows_of_other_wallets_and_from_before_the_start_are_not_taken() -> None:
    found = page(row(1, proxyWallet="0x" + "11" * 20), row(-5), row(2))
    assert [each.activity.event_time // 1_000_000_000 for each in found.rows] == [START + 2]
    assert found.unrequested == 2


def test_a_row_may_be_as_far_ahead_as_any_venue_time() -> None:
    latest = START + 60 + LONGEST_AHEAD_NS // 1_000_000_000
    found = page(row(timestamp=latest), row(timestamp=latest + 1))
    assert found.newest_s == latest
    assert [refused.error for refused in found.refused] == [f"timestamp {latest + 1} is in the future"]


def test_an_empty_response_has_no_newest_second() -> None:
    assert page().newest_s == 0
