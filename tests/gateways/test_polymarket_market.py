"""Markets and books as the venue writes them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events import Outcome, Payout, Venue
from domain.micros import MICRO, decimal_text
from gateways.polymarket.clob import parse_book
from gateways.polymarket.gamma import described, parse_market, resolved
from gateways.venue_errors import WireError
from gateways.venue_types import Book

MARKET, YES, NO = "0x" + "ab" * 32, "1088722", "8971117"
LONG_AFTER = 2_000_000_000 * 1_000_000_000
"""A time (ns) long after all resolutions of these specs."""


def market(**changes: Any) -> bytes:
    fields = {
        "conditionId": MARKET.upper().replace("X", "x"),
        "question": "Will it?",
        "slug": "will-it",
        "outcomes": '["Yes", "No"]',
        "outcomePrices": '["0", "1"]',
        "clobTokenIds": f'["{YES}", "{NO}"]',
        "orderPriceMinTickSize": 0.001,
        "orderMinSize": 5,
        "endDate": "2028-01-01T05:00:00Z",
        "closedTime": "2026-03-19 23:20:15+00",
        "closed": True,
        "acceptingOrders": False,
        "enableOrderBook": True,
        "umaResolutionStatus": "resolved",
        "automaticallyResolved": True,
        "feesEnabled": True,
        "feeSchedule": {"exponent": 1, "rate": 0.05, "takerOnly": True},
    }
    return json.dumps({name: value for name, value in (fields | changes).items() if value != "absent"}).encode()


def test_a_resolved_market() -> None:
    parsed = parse_market(market())
    assert (parsed.market, parsed.question, parsed.slug) == (MARKET, "Will it?", "will-it")
    assert parsed.outcomes == (Outcome(YES, "Yes"), Outcome(NO, "No"))
    assert (parsed.tick_micros, parsed.min_share_micros, parsed.fee_rate_micros) == (1_000, 5_000_000, 50_000)
    assert (parsed.accepting, parsed.closed) == (False, True)
    assert parsed.payouts == (Payout(YES, 0), Payout(NO, MICRO))
    assert parsed.resolved_at == 1_773_962_415 * 10**9
    assert parsed.closes_at == 1_830_315_600 * 10**9

    event = resolved(parsed, 7)
    assert event is not None
    assert (event.venue, event.market, event.payouts) == (Venue.POLYMARKET, MARKET, parsed.payouts)
    assert (event.resolved_at, event.detect_time) == (parsed.resolved_at, 7)
    again = resolved(parsed, 8)
    assert again is not None
    assert again.resolution_id == event.resolution_id


def test_a_description_has_the_time_of_its_reading() -> None:
    parsed = parse_market(market(closed=False, acceptingOrders=True))
    first, second = described(parsed, 7), described(parsed, 8)
    assert (first.market, first.outcomes, first.accepting) == (MARKET, parsed.outcomes, True)
    assert (first.described_at, first.tick_micros, first.fee_rate_micros) == (7, 1_000, 50_000)
    assert first.description_id == described(parsed, 7).description_id != second.description_id


@pytest.mark.parametrize(
    ("changes", "paid"),
    [
        ({}, [0, MICRO]),
        ({"outcomePrices": '["1", "0"]'}, [MICRO, 0]),
        ({"outcomePrices": '["0.5", "0.5"]'}, [MICRO // 2] * 2),
        ({"outcomePrices": ["0", "1"]}, [0, MICRO]),
        ({"umaResolutionStatus": "settled", "automaticallyResolved": False}, [0, MICRO]),
        ({"umaResolutionStatus": "absent"}, [0, MICRO]),
        ({"umaResolutionStatus": "absent", "automaticallyResolved": None, "resolutionStatus": "resolved"}, [0, MICRO]),
        ({"umaResolutionStatus": "absent", "automaticallyResolved": "absent"}, None),
        ({"umaResolutionStatus": "disputed"}, None),
        ({"umaResolutionStatus": "proposed"}, None),
        ({"closed": False}, None),
        ({"closed": None}, None),
        ({"outcomePrices": '["0.0005", "0.9995"]'}, None),
        ({"outcomePrices": '["0.25", "0.75"]'}, [MICRO // 4, MICRO * 3 // 4]),
        ({"outcomePrices": '["0.3333333", "0.6666667"]'}, [333_333, 666_667]),
        ({"outcomePrices": '["0.3", "0.6"]'}, None),
        ({"outcomePrices": '["-0.25", "1.25"]'}, None),
        ({"outcomePrices": '["1", "1"]'}, None),
        ({"outcomePrices": '["0", "0"]'}, None),
        ({"outcomePrices": '["1"]'}, None),
        ({"outcomePrices": '["1", ""]'}, None),
        ({"outcomePrices": None}, None),
    ],
    ids=str,
)
def test_payouts_count_once_they_are_final(changes: dict[str, Any], paid: list[int] | None) -> None:
    parsed = parse_market(market(**changes))
    assert (parsed.payouts and [one.price_micros for one in parsed.payouts]) == paid
    assert (resolved(parsed, LONG_AFTER) is None) == (paid is None)
    assert (parsed.resolved_at is None) == (paid is None)


def test_payouts_other_than_nothing_half_and_all_count_an_hour_after_the_resolution() -> None:
    """Until then they may be the last prices of the market, which Gamma has not updated."""
    parsed = parse_market(market(outcomePrices='["0.25", "0.75"]'))
    assert parsed.resolved_at is not None
    hour = 3_600 * 1_000_000_000
    assert resolved(parsed, parsed.resolved_at + hour - 1) is None
    event = resolved(parsed, parsed.resolved_at + hour)
    assert event is not None
    assert [payout.price_micros for payout in event.payouts] == [MICRO // 4, MICRO * 3 // 4]
    whole = parse_market(market())
    assert whole.resolved_at is not None
    assert resolved(whole, whole.resolved_at) is not None


def test_a_resolution_without_a_time_has_the_time_of_its_detection() -> None:
    event = resolved(parse_market(market(closedTime=None)), 7)
    assert event is not None
    assert event.resolved_at == 7


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({}, 50_000),
        ({"feesEnabled": False}, 0),
        ({"feesEnabled": "absent"}, 0),
        ({"feeSchedule": {"rate": 0}}, 0),
        ({"feeSchedule": {"rate": "0.07"}}, 70_000),
        ({"feeSchedule": None}, 70_000),
        ({"feeSchedule": {}}, 70_000),
    ],
    ids=str,
)
def test_the_fee_rate_is_the_schedules_or_the_highest_if_absent(changes: dict[str, Any], rate: int) -> None:
    assert parse_market(market(**changes)).fee_rate_micros == rate


@pytest.mark.parametrize(
    ("end", "closes_at"),
    [
        ("2026-07-24T00:00:00Z", 1_784_851_200 * 10**9),
        ("2026-07-24T02:00:00+02:00", 1_784_851_200 * 10**9),
        ("2026-07-24T00:00:00.25Z", 1_784_851_200 * 10**9 + 250_000_000),
        ("2026-07-24", None),
        ("", None),
        (None, None),
    ],
)
def test_a_bare_date_is_no_time_of_closing(end: str | None, closes_at: int | None) -> None:
    assert parse_market(market(endDate=end)).closes_at == closes_at


@pytest.mark.parametrize(
    ("begins", "opens"),
    [
        ({"startDate": "2027-12-31T05:00:00Z", "eventStartTime": "2028-01-01T04:55:00Z"}, 300),
        ({"startDate": "2027-12-31T05:00:00Z"}, 86_400),
        ({"startDate": "2027-12-31T05:00:00Z", "eventStartTime": "2028-01-01T05:00:00Z"}, 86_400),
        ({"startDate": "2028-01-01T05:00:00Z"}, None),
        ({"startDate": "2027-12-31T05:00:00Z", "endDate": None}, None),
        ({}, None),
    ],
)
def test_a_market_opens_with_its_event_or_its_listing_before_its_end(begins: dict[str, Any], opens: int | None) -> None:
    parsed = parse_market(market(**begins))
    assert parsed.opens_at == (None if opens is None else (1_830_315_600 - opens) * 10**9)


@pytest.mark.parametrize(
    ("changes", "accepting"),
    [
        ({"closed": False, "acceptingOrders": True}, True),
        ({"closed": False, "acceptingOrders": True, "enableOrderBook": False}, False),
        ({"closed": False, "acceptingOrders": "absent"}, False),
        ({"acceptingOrders": True}, False),
    ],
)
def test_a_closed_market_accepts_nothing(changes: dict[str, Any], accepting: bool) -> None:
    assert parse_market(market(**changes)).accepting is accepting


def test_a_market_of_the_second_protocol_has_its_tokens_in_a_real_list() -> None:
    parsed = parse_market(market(clobTokenIds="absent", positionIds=[YES, NO]))
    assert [one.asset for one in parsed.outcomes] == [YES, NO]


def test_a_market_without_a_tick_has_the_default() -> None:
    parsed = parse_market(market(orderPriceMinTickSize="absent", orderMinSize=None))
    assert (parsed.tick_micros, parsed.min_share_micros) == (10_000, 5_000_000)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conditionId": "absent"}, "not a market"),
        ({"conditionId": "x"}, "conditionId 'x'"),
        ({"outcomes": "absent"}, "0 outcomes and 2 tokens"),
        ({"outcomes": "Yes, No"}, "not a list of strings in JSON"),
        ({"outcomes": "[1, 2]"}, "not a list of strings in JSON"),
        ({"clobTokenIds": "absent"}, "2 outcomes and 0 tokens"),
        ({"clobTokenIds": f'["{YES}"]'}, "2 outcomes and 1 tokens"),
        ({"clobTokenIds": f'["{YES}", "{YES}"]'}, "a different token"),
        ({"clobTokenIds": '["a", "b"]'}, "not a token id"),
        ({"orderPriceMinTickSize": 0}, "not between 0 and 1"),
        ({"orderPriceMinTickSize": 1}, "not between 0 and 1"),
        ({"orderPriceMinTickSize": 0.0000001}, "six decimal places"),
        ({"orderMinSize": -5}, "negative"),
        ({"feeSchedule": {"rate": 5}}, "not in 0..1"),
        ({"feeSchedule": {"rate": "free"}}, "not a number"),
        ({"endDate": "some day in autumn"}, "not a time in ISO 8601"),
        ({"closed": "yes"}, "not a market"),
        ({"outcomePrices": '["one", "none"]'}, "not a number"),
    ],
    ids=str,
)
def test_a_market_that_does_not_fit_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(WireError, match=words):
        parse_market(market(**changes))


# --- books ---------------------------------------------------------------------------------------------------

Rows = list[tuple[Any, Any]]


def book(bids: Rows, asks: Rows, /, **changes: Any) -> bytes:
    sides = {"bids": levels(bids), "asks": levels(asks)}
    return json.dumps({"asset_id": YES, "timestamp": "1787102287053", **sides, **changes}).encode()


def levels(rows: Rows) -> list[dict[str, Any]]:
    return [{"price": price, "size": size} for price, size in rows]


def test_a_book_is_sorted_whatever_the_order_it_came_in() -> None:
    bids: Rows = [("0.001", "10611926.49"), ("0.044", "18228.38"), ("0.002", "1")]
    assert parse_book(book(bids, [("0.999", "2"), ("0.045", "429.57")])) == Book(
        1_787_102_287_053_000_000,
        ((44_000, 18_228_380_000), (2_000, 1_000_000), (1_000, 10_611_926_490_000)),
        ((45_000, 429_570_000), (999_000, 2_000_000)),
    )


def test_a_price_may_be_written_without_its_zero() -> None:
    assert parse_book(book([(".48", "30")], [(".52", "25")])).bids == ((480_000, 30_000_000),)


def test_levels_of_size_zero_are_no_levels() -> None:
    assert parse_book(book([("0.4", "0"), ("0.3", "0.00")], [("0.5", 1)]))[1:] == ((), ((500_000, 1_000_000),))


def test_empty_and_crossed_books_stay_as_served() -> None:
    assert parse_book(book([], []))[1:] == ((), ())
    crossed = parse_book(book([("0.6", "1")], [("0.5", "1")]))
    assert crossed.bids[0] > crossed.asks[0]


@pytest.mark.parametrize("price", ["0", "1", "0.0", "1.0", "-0.1", "1.5", "0.0000001", "", "half", "NaN", None, True])
@pytest.mark.parametrize("side", [0, 1])
def test_a_price_out_of_range_is_refused(price: Any, side: int) -> None:
    sides: list[Rows] = [[("0.4", "1")], [("0.6", "1")]]
    sides[side].append((price, "1"))
    with pytest.raises(WireError, match="price"):
        parse_book(book(*sides))


@pytest.mark.parametrize("size", ["-1", "0.0000001", "", "many", "Infinity", None, False, "1e40"])
def test_an_invalid_size_is_refused(size: Any) -> None:
    with pytest.raises(WireError, match="size"):
        parse_book(book([("0.4", size)], []))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'{"error":"No orderbook exists for the requested token id"}',
        book([], [], timestamp="soon"),
        book([], [], timestamp=""),
        book([], [], timestamp="0"),
        book([], [], timestamp="1787102287053000"),
        book([], [], bids=None),
        book([], [], bids=[{"price": "0.5"}]),
        book([], [], bids=[["0.5", "1"]]),
        book([], [], asset_id=5),
    ],
)
def test_a_payload_that_is_no_book_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        parse_book(payload)


@given(
    st.lists(st.tuples(st.integers(1, 999_999), st.integers(0, 10**13)), max_size=8),
    st.lists(st.tuples(st.integers(1, 999_999), st.integers(0, 10**13)), max_size=8),
)
def test_every_level_stays_exactly_what_it_was(bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
    written: list[Rows] = [[(decimal_text(price), decimal_text(size)) for price, size in rows] for rows in (bids, asks)]
    parsed = parse_book(book(*written))
    assert list(parsed.bids) == sorted((level for level in bids if level[1]), reverse=True)
    assert list(parsed.asks) == sorted(level for level in asks if level[1])
