"""Rows of activity: both versions parse alike, numbers stay exact, ids are stable, malformed rows are refused."""

import json
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from domain.events import TradeSide
from domain.micros import MICRO, decimal_text
from gateways.polymarket.activity import Activity, Kind, numbered, page, parse_activity, row_key
from gateways.venue_errors import WireError

WALLET, HASH, MARKET = "0x" + "aB" * 20, "0x" + "c1" * 32, "0x" + "d2" * 32
TOKEN = "46421815574359643620514688756609814860051932583278915389775335554413697029363"


def text(fields: dict[str, Any]) -> str:
    """JSON in which a string that begins with '=' becomes the bare number after it."""
    return "{" + ",".join(f"{json.dumps(name)}:{_value(value)}" for name, value in fields.items()) + "}"


def _value(value: Any) -> str:
    return value[1:] if isinstance(value, str) and value.startswith("=") else json.dumps(value)


def v1(**changes: Any) -> bytes:
    """The trade of the venue's own documentation, 402,482.85 shares at an average of ten decimals."""
    fields = {
        "proxyWallet": WALLET,
        "timestamp": 1784059201,
        "conditionId": MARKET,
        "type": "TRADE",
        "size": "=402482.85",
        "usdcSize": "=267876.215535",
        "transactionHash": HASH,
        "price": "=0.6542489661",
        "asset": TOKEN,
        "side": "BUY",
        "outcomeIndex": 1,
        "title": "a title",
        "name": "example",
    }
    return text({name: value for name, value in (fields | changes).items() if value != "absent"}).encode()


NAMES_OF_V2 = {
    "proxyWallet": "proxy_wallet",
    "conditionId": "condition_id",
    "usdcSize": "usdc_size",
    "transactionHash": "transaction_hash",
    "asset": "token_id",
    "outcomeIndex": "outcome_index",
}


def v2(**changes: Any) -> bytes:
    row = v1(**changes).decode()
    for old, new in NAMES_OF_V2.items():
        row = row.replace(f'"{old}"', f'"{new}"')
    return row.encode()


@pytest.mark.parametrize("row", [v1, v2])
def test_a_trade(row: Any) -> None:
    assert parse_activity(row()) == Activity(
        kind=Kind.TRADE,
        wallet=WALLET.lower(),
        transaction=HASH,
        market=MARKET,
        asset=TOKEN,
        side=TradeSide.BUY,
        share_micros=402_482_850_000,
        notional_micros=263_323_988_485,
        fee_micros=4_552_227_050,
        price_micros=654_249,
        outcome_index=1,
        event_time=1_784_059_201_000_000_000,
    )


@pytest.mark.parametrize(
    ("side", "usdc", "fee"),
    [
        ("BUY", "=10.5", 500_000),
        ("BUY", "=10", 0),
        ("BUY", "=9.9", 0),
        ("BUY", "absent", 0),
        ("BUY", None, 0),
        ("SELL", "=9.5", 500_000),
        ("SELL", "=10", 0),
        ("SELL", "=10.5", 0),
        ("SELL", "9.5", 500_000),
    ],
)
def test_the_fee_is_the_payment_less_the_notional(side: str, usdc: Any, fee: int) -> None:
    trade = parse_activity(v1(side=side, size="=20", price="=0.5", usdcSize=usdc))
    assert (trade.notional_micros, trade.fee_micros) == (10 * MICRO, fee)


def test_a_difference_from_rounding_the_price_is_no_fee() -> None:
    # A maker's 1,000,000 shares for 333,333.333333: the price's ten decimals are 33 micros off.
    maker = parse_activity(v1(size="=1000000", price="=0.3333333333", usdcSize="=333333.333333"))
    assert (maker.notional_micros, maker.fee_micros) == (333_333_333_300, 0)
    # The smallest fee there is, on a small fill.
    assert parse_activity(v1(size="=1", price="=0.5", usdcSize="=0.50001")).fee_micros == 10


def test_a_row_of_trades_has_no_type_and_no_usdc() -> None:
    trade = parse_activity(v1(type="absent", usdcSize="absent"))
    assert (trade.kind, trade.fee_micros) == (Kind.TRADE, 0)


def test_a_price_of_eighteen_decimals_makes_an_exact_notional() -> None:
    # As a float the product would be 0.33999999999999997 x 5 = 1.6999999999999997.
    trade = parse_activity(v1(size="=5", price="=0.339999999999999969", usdcSize="absent"))
    assert (trade.notional_micros, trade.price_micros) == (1_700_000, 340_000)


NULLS = {"price": "=0", "side": "", "asset": "", "outcomeIndex": 999, "outcome": ""}


@pytest.mark.parametrize("kind", [Kind.SPLIT, Kind.MERGE, Kind.REDEEM, Kind.CONVERSION])
@pytest.mark.parametrize("row", [v1, v2])
def test_rows_that_are_no_trades_write_null_in_several_ways(row: Any, kind: Kind) -> None:
    activity = parse_activity(row(**NULLS, type=kind.value, size="=10980911.728675", usdcSize="=10980911.728675"))
    assert (activity.kind, activity.asset, activity.side, activity.outcome_index) == (kind, "", None, None)
    assert activity.share_micros == activity.notional_micros == 10_980_911_728_675
    assert (activity.price_micros, activity.fee_micros) == (MICRO, 0)


def test_a_losing_redemption_has_shares_and_no_money() -> None:
    lost = parse_activity(v1(type="REDEEM", size="=7", usdcSize="=0", price="=0", side=""))
    assert (lost.asset, lost.share_micros, lost.notional_micros, lost.price_micros) == (TOKEN, 7 * MICRO, 0, 0)


@pytest.mark.parametrize("kind", ["REWARD", "DEPOSIT", "WITHDRAWAL", "YIELD", "MAKER_REBATE", "TIP", "MIGRATION"])
def test_rewards_and_the_like_are_other(kind: str) -> None:
    other = parse_activity(
        v1(**NULLS | {"side": "IN"}, type=kind, conditionId="", size="=1.23456789", transactionHash="")
    )
    assert (other.kind, other.market, other.side, other.share_micros) == (Kind.OTHER, "", None, 1_234_568)


def test_a_conversion_need_not_name_a_market() -> None:
    assert parse_activity(v1(**NULLS, type="CONVERSION", conditionId="")).market == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "GIFT"}, "type 'GIFT' is unknown"),
        ({"type": "=7"}, "unknown"),
        ({"proxyWallet": "absent"}, "wallet '' is not an address"),
        ({"proxyWallet": "0x12"}, "not an address"),
        ({"transactionHash": "absent"}, "transaction '' is not hexadecimal"),
        ({"conditionId": ""}, "market '' is not hexadecimal"),
        ({"asset": ""}, "asset '' is not a token id"),
        ({"asset": "0x12"}, "not a token id"),
        ({"side": ""}, "side '' of a trade is neither"),
        ({"side": "buy"}, "side 'buy' of a trade is neither"),
        ({"side": None}, "side '' of a trade is neither"),
        ({"size": "absent"}, "size is missing"),
        ({"size": "=0"}, "size 0: it must be above zero"),
        ({"size": "=-1"}, "size -1"),
        ({"size": "=1.0000001"}, "needs more than six decimal places"),
        ({"size": "=1e30"}, "out of all bounds"),
        ({"size": "NaN"}, "size 'NaN' is not a number"),
        ({"size": "=NaN"}, "not a row of activity"),
        ({"size": "Infinity"}, "is not a number"),
        ({"size": "=1e999"}, "neither text nor a number"),
        ({"size": "1_000"}, "is not a number"),
        ({"size": True}, "neither text nor a number"),
        ({"size": []}, "neither text nor a number"),
        ({"price": "absent"}, "price is missing"),
        ({"price": None}, "price is missing"),
        ({"price": "=0"}, "price 0 of a trade"),
        ({"price": "=-0.1"}, "price -0.1 of a trade"),
        ({"price": "=1.0000000001"}, "price 1.0000000001 of a trade"),
        ({"price": "=50"}, "price 50 of a trade"),
        ({"usdcSize": "much"}, "usdcSize 'much' is not a number"),
        ({"timestamp": "absent"}, "timestamp is missing"),
        ({"timestamp": "=1784059201000"}, "not a time in whole seconds"),
        ({"timestamp": "=1784059201.5"}, "not a time in whole seconds"),
        ({"timestamp": "=0"}, "not a time in whole seconds"),
        ({"outcomeIndex": "=-1"}, "outcomeIndex -1"),
        ({"outcomeIndex": "=0.5"}, "outcomeIndex 0.5"),
    ],
    ids=str,
)
def test_a_malformed_field_is_refused_with_its_value(changes: dict[str, Any], words: str) -> None:
    for row in (v1, v2):
        with pytest.raises(WireError, match=words):
            parse_activity(row(**changes))


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"3", b'"x"', b"{", b"\xff"])
def test_a_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        parse_activity(payload)
    with pytest.raises(WireError):
        row_key(Raw(payload))


@given(
    st.dictionaries(
        st.sampled_from([*NAMES_OF_V2, *NAMES_OF_V2.values(), "type", "side", "size", "price", "timestamp"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.sampled_from(["TRADE", "REDEEM", WALLET, HASH, TOKEN, "BUY", "0.5", 1784059201])
        | st.lists(st.integers(), max_size=2),
    )
)
def test_any_row_is_parsed_or_refused_and_has_a_printable_key(row: dict[str, Any]) -> None:
    payload = json.dumps(row).encode()
    with suppress(WireError):
        parse_activity(payload)
    try:
        key = row_key(Raw(payload))
    except WireError:
        return
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key
    assert len(key) < 600


@given(
    shares=st.integers(1, 10**13),
    price=st.decimals("0.000000000000000001", "1", places=18, allow_nan=False),
    quoted=st.booleans(),
)
def test_a_notional_is_the_nearest_micro_of_the_exact_product(shares: int, price: Decimal, quoted: bool) -> None:
    size, written = decimal_text(shares), format(price, "f")
    mark = "" if quoted else "="
    trade = parse_activity(v1(size=mark + size, price=mark + written, usdcSize="absent"))
    unit = 10**18
    exact = shares * int(price.scaleb(18))
    assert trade.share_micros == shares
    assert abs(trade.notional_micros * unit - exact) * 2 <= unit
    assert 0 <= trade.notional_micros <= shares


# --- identity ------------------------------------------------------------------------------------------------


def test_the_key_has_every_field_in_which_rows_differ() -> None:
    assert row_key(Raw(v1())) == f"pm:TRADE:{WALLET.lower()}:{HASH}:{TOKEN}:BUY:402482.85:0.6542489661"


@pytest.mark.parametrize("written", ["=20", "=20.0", "20", "20.000", "=2e1", "=2E+1"])
def test_a_number_has_one_spelling_in_a_key(written: str) -> None:
    assert row_key(Raw(v1(size=written))).split(":")[6] == "20"
    assert row_key(Raw(v1(price=written))).split(":")[7] == "20"


def test_the_noise_of_a_float_is_part_of_neither_the_size_nor_the_key() -> None:
    noisy = v1(size="=21.279999999999998", usdcSize="absent")
    assert parse_activity(noisy).share_micros == 21_280_000
    assert row_key(Raw(noisy)) == row_key(Raw(v1(size="=21.28")))


def test_a_price_of_ten_decimals_is_part_of_the_key_as_it_is() -> None:
    assert row_key(Raw(v1(price="=0.6542490005"))).split(":")[7] == "0.6542490005"


@pytest.mark.parametrize("written", ["=1e-05", "=0.00001", "0.0000100"])
def test_small_prices_come_with_an_exponent(written: str) -> None:
    assert row_key(Raw(v1(price=written))).split(":")[7] == "0.00001"


def test_both_versions_and_both_routes_have_the_same_key() -> None:
    rows = [v1(), v2(), v1(type="absent", usdcSize="absent"), v2(type="absent", proxyWallet=WALLET.lower())]
    assert len({row_key(Raw(row)) for row in rows}) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "REDEEM"},
        {"proxyWallet": "0x" + "1" * 40},
        {"transactionHash": "0x" + "2" * 64},
        {"asset": "3"},
        {"side": "SELL"},
        {"size": "=4"},
        {"price": "=0.5"},
        {"size": "absent"},
        {"size": "NaN"},
        {"side": "a:b"},
    ],
)
def test_every_part_of_the_key_counts(changes: dict[str, Any]) -> None:
    assert row_key(Raw(v1(**changes))) != row_key(Raw(v1()))
    assert row_key(Raw(v1(**changes))).count(":") == row_key(Raw(v1())).count(":")


def test_equal_rows_of_one_response_are_numbered() -> None:
    rows = [Raw(v1()), Raw(v1(size="=1")), Raw(v2()), Raw(v1())]
    one, other = row_key(rows[0]), row_key(rows[1])
    assert [key for key, _ in numbered(rows)] == [f"{one}:0", f"{other}:0", f"{one}:1", f"{one}:2"]
    assert [row for _, row in numbered(rows)] == rows


@given(st.lists(st.integers(0, 3), max_size=12).flatmap(lambda them: st.tuples(st.just(them), st.permutations(them))))
def test_the_order_of_a_response_does_not_change_its_ids(orders: tuple[list[int], list[int]]) -> None:
    first, second = ([key for key, _ in numbered(Raw(v1(size=f"={n + 1}")) for n in order)] for order in orders)
    assert Counter(first) == Counter(second)
    assert len(set(first)) == len(first)


# --- pages ---------------------------------------------------------------------------------------------------


def test_a_page_of_version_one_is_an_array() -> None:
    assert page(b' [ {"a": 1}, {"b":2}]') == ([Raw(b'{"a": 1}'), Raw(b'{"b":2}')], None)
    assert page(b"[]") == ([], None)


@pytest.mark.parametrize(
    ("pagination", "cursor"),
    [
        ('{"limit":1,"offset":0,"has_more":true,"next_cursor":"abc"}', "abc"),
        ('{"has_more":false,"next_cursor":null}', None),
        ('{"has_more":false,"next_cursor":"abc"}', None),
        ('{"has_more":false}', None),
    ],
)
def test_a_page_of_version_two_is_an_envelope(pagination: str, cursor: str | None) -> None:
    answer = page(f'{{"data":[{{"a":1}}],"pagination":{pagination}}}'.encode())
    assert answer == ([Raw(b'{"a":1}')], cursor)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b'{"error":"max historical activity offset of 3000 exceeded"}',
        b'{"data":[]}',
        b'{"data":null,"pagination":{"has_more":false}}',
        b'{"data":[],"pagination":{"has_more":true,"next_cursor":null}}',
        b'{"data":[],"pagination":{"has_more":true,"next_cursor":""}}',
        b'{"data":[],"pagination":{}}',
        b"[{]",
    ],
)
def test_a_payload_that_is_no_page_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        page(payload)
