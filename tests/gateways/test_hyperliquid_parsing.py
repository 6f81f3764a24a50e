"""Hyperliquid's wire formats: parsed exactly, or refused with the name of the field."""

import json
from typing import Any

import pytest

from domain.events import SeededPosition, TradeSide, Venue
from domain.micros import micros
from domain.signals import Trade
from gateways.hyperliquid.parsing import (
    FRAME,
    RAW_TRADES,
    TRADE_HEAD,
    TRADE_HEADS,
    ZERO_HASH,
    TradeHead,
    parse_account,
    parse_book,
    parse_trade,
    raw_id,
    side_in_id,
)
from gateways.venue_errors import WireError
from gateways.venue_types import Book

ANN, BOB = "0x" + "a" * 40, "0x" + "b" * 40
HASH = "0xe586c7fad5eab78fe700044075989e02015000e070edd661894f734d94ee917a"
TRADE: dict[str, Any] = {
    "coin": "BTC",
    "side": "B",
    "px": "66405.5",
    "sz": "0.0602",
    "time": 1_784_683_652_123,
    "hash": HASH,
    "tid": 1083817443202724,
    "users": [ANN, BOB],
}


def parsed(wire: dict[str, Any], side: TradeSide = TradeSide.BUY, address: str | None = None) -> Trade:
    """One side of a trade: Ann's when she buys, Bob's when he sells."""
    party = address or (ANN if side is TradeSide.BUY else BOB)
    head = TradeHead(coin="BTC", side="B", time=1, tid=2, users=(ANN, BOB))
    return parse_trade(
        json.dumps(wire).encode(),
        source_event_id=raw_id(head, party, side),
        influencer_id="ann",
        address=party,
        detect_time=99,
    )


# --- trades ------------------------------------------------------------------------------------------------


def test_a_trade_is_parsed_exactly() -> None:
    assert parsed(TRADE) == Trade(
        source_event_id=f"hl:BTC:1:2:{ANN}:B",
        venue=Venue.HYPERLIQUID,
        influencer_id="ann",
        address=ANN,
        asset="BTC",
        market="BTC",
        trade_side=TradeSide.BUY,
        share_micros=60_200,
        price_micros=66_405_500_000,
        notional_micros=3_997_611_100,
        taker=True,
        event_time=1_784_683_652_123_000_000,
        detect_time=99,
        metadata={"tid": "1083817443202724", "hash": HASH},
    )


@pytest.mark.parametrize(
    ("aggressor", "side", "taker"),
    [
        ("B", TradeSide.BUY, True),
        ("B", TradeSide.SELL, False),
        ("A", TradeSide.SELL, True),
        ("A", TradeSide.BUY, False),
    ],
)
def test_users_are_buyer_and_seller_and_the_side_is_the_takers(aggressor: str, side: TradeSide, taker: bool) -> None:
    trade = parsed(TRADE | {"side": aggressor}, side)
    assert (trade.trade_side, trade.taker) == (side, taker)


def test_a_twap_slice_has_no_hash_and_is_marked() -> None:
    assert ZERO_HASH == "0x0000000000000000000000000000000000000000000000000000000000000000"
    assert parsed(TRADE | {"hash": ZERO_HASH}).metadata["twap"] == "1"
    assert "twap" not in parsed(TRADE).metadata


def test_addresses_are_compared_in_lower_case() -> None:
    mixed = [ANN.replace("a", "A", 20), "0x" + "B" * 40]
    assert parsed(TRADE | {"users": mixed}, TradeSide.BUY).address == ANN
    assert parsed(TRADE | {"users": mixed}, TradeSide.SELL).address == BOB


def test_a_self_trade_has_two_sides_and_two_ids() -> None:
    wire = TRADE | {"users": [ANN, ANN]}
    bought, sold = parsed(wire, TradeSide.BUY, ANN), parsed(wire, TradeSide.SELL, ANN)
    assert (bought.trade_side, sold.trade_side) == (TradeSide.BUY, TradeSide.SELL)
    assert bought.source_event_id != sold.source_event_id


def test_an_id_identifies_one_side_of_one_trade_and_never_changes() -> None:
    head = TRADE_HEAD.decode(json.dumps(TRADE))
    ids = [raw_id(head, ANN, TradeSide.BUY), raw_id(head, BOB, TradeSide.SELL)]
    assert ids == [f"hl:BTC:1784683652123:1083817443202724:{ANN}:B", f"hl:BTC:1784683652123:1083817443202724:{BOB}:A"]
    assert [side_in_id(id) for id in ids] == [TradeSide.BUY, TradeSide.SELL]


@pytest.mark.parametrize("field", sorted(TRADE))
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(WireError, match=f"not a trade: .*missing required field `{field}`"):
        parsed({name: value for name, value in TRADE.items() if name != field})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("px", "dear", "price 'dear' is not a plain decimal number"),
        ("px", 66405.5, r"Expected `str`, got `float` - at `\$.px`"),
        ("px", 66405, r"Expected `str`, got `int` - at `\$.px`"),
        ("px", "0", "price '0' is not above zero"),
        ("px", "-1", "price '-1' is not above zero"),
        ("px", "NaN", "price 'NaN' is not a plain decimal number"),
        ("px", "0.0000001", "price '0.0000001' needs more than six decimal places"),
        ("sz", "-0.5", "size '-0.5' is not above zero"),
        ("sz", "0.0", "size '0.0' is not above zero"),
        ("sz", "1e5", "size '1e5' is not a plain decimal number"),
        ("sz", "0.1234567", "size '0.1234567' needs more than six decimal places"),
        ("sz", "", "size '' is not a plain decimal number"),
        ("sz", None, r"Expected `str`, got `null` - at `\$.sz`"),
        ("side", "X", "side 'X' is neither 'A' nor 'B'"),
        ("side", "", "side '' is neither 'A' nor 'B'"),
        ("time", "1784683652123", r"Expected `int`, got `str` - at `\$.time`"),
        ("time", 1.5, r"Expected `int`, got `float` - at `\$.time`"),
        ("tid", None, r"Expected `int`, got `null` - at `\$.tid`"),
        ("users", [ANN], r"Expected `array` of length 2.* at `\$.users`"),
        ("users", [ANN, 7], r"Expected `str`, got `int` - at `\$.users\[1\]`"),
        ("users", [BOB, ANN], f"the BUY side belongs to {BOB}, not to {ANN}"),
        ("coin", 7, r"Expected `str`, got `int` - at `\$.coin`"),
    ],
)
def test_a_malformed_field_is_named(field: str, value: object, message: str) -> None:
    with pytest.raises(WireError, match=message):
        parsed(TRADE | {field: value})


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b"{", b'"trade"', b"\xff\xfe"])
def test_a_payload_that_is_no_trade_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError, match="not a trade"):
        parse_trade(payload, source_event_id="hl:x:B", influencer_id="ann", address=ANN, detect_time=0)


def test_a_frame_is_opened_without_parsing_its_content() -> None:
    frame = FRAME.decode(json.dumps({"channel": "trades", "data": [TRADE, TRADE | {"tid": 2}]}))
    assert frame.channel == "trades"
    assert [head.tid for head in TRADE_HEADS.decode(frame.data)] == [TRADE["tid"], 2]
    assert [json.loads(bytes(raw)) for raw in RAW_TRADES.decode(frame.data)] == [TRADE, TRADE | {"tid": 2}]
    assert bytes(FRAME.decode('{"channel":"pong"}').data) == b"null"


# --- books -------------------------------------------------------------------------------------------------


def book(bids: list[dict[str, Any]], asks: list[dict[str, Any]], **more: object) -> bytes:
    return json.dumps({"coin": "BTC", "time": 1_784_683_652_123, "levels": [bids, asks]} | more).encode()


def level(px: object, sz: object = "1") -> dict[str, Any]:
    return {"px": px, "sz": sz, "n": 3}


def test_a_book_is_parsed_best_first() -> None:
    one = book([level("99.9", "2"), level("99.8")], [level("100.1"), level("100.2", "0.5")])
    assert parse_book(one) == Book(
        time=1_784_683_652_123_000_000,
        bids=((99_900_000, 2_000_000), (99_800_000, 1_000_000)),
        asks=((100_100_000, 1_000_000), (100_200_000, 500_000)),
    )


def test_levels_in_any_order_are_sorted() -> None:
    one = parse_book(book([level("98"), level("99.5"), level("99")], [level("103"), level("101"), level("102")]))
    assert one is not None
    assert [price for price, _ in one.bids] == [micros("99.5"), micros("99"), micros("98")]
    assert [price for price, _ in one.asks] == [micros("101"), micros("102"), micros("103")]


def test_the_book_of_an_unknown_coin_is_none() -> None:
    assert parse_book(b"null") is None
    assert parse_book(b" null\n") is None


def test_a_book_may_be_empty() -> None:
    assert parse_book(book([], [])) == Book(1_784_683_652_123_000_000, (), ())


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"{}", "not a book: .*missing required field `coin`"),
        (b"[]", "not a book: Expected `object`, got `array`"),
        (b'{"coin":', "not a book: "),
        (b'{"coin":"BTC","time":1}', "not a book: .*missing required field `levels`"),
        (b'{"coin":"BTC","time":1,"levels":[[]]}', r"length 2.* at `\$.levels`"),
        (b'{"coin":"BTC","time":1,"levels":[[{"px":"1"}],[]]}', r"field `sz` - at `\$.levels\[0\]\[0\]`"),
        (book([level(99.9)], []), r"Expected `str`, got `float` - at `\$.levels\[0\]\[0\].px`"),
        (book([level("99.9", "0.0")], []), "size '0.0' is not above zero"),
        (book([], [level("-1")]), "price '-1' is not above zero"),
        (book([], [level("1e2")]), "price '1e2' is not a plain decimal number"),
        (book([], [], time="now"), r"Expected `int`, got `str` - at `\$.time`"),
    ],
)
def test_a_malformed_book_is_refused(payload: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        parse_book(payload)


# --- accounts ----------------------------------------------------------------------------------------------


def account(*positions: dict[str, Any], **more: object) -> bytes:
    rows = [{"type": "oneWay", "position": position} for position in positions]
    return json.dumps({"assetPositions": rows, "time": 1_784_683_652_123, "withdrawable": "1.0"} | more).encode()


def test_an_account_lists_signed_positions() -> None:
    held = {"coin": "BTC", "szi": "-0.0602", "leverage": {"type": "cross", "value": 20}, "entryPx": "0.0737698"}
    other = {"coin": "xyz:SP500", "szi": "3.0", "leverage": {"type": "isolated", "value": 5, "rawUsd": "-1.5"}}
    report = parse_account(account(held, other, marginSummary={"accountValue": "38252.712345"}))
    assert report.time == 1_784_683_652_123_000_000
    assert report.positions == (
        SeededPosition("BTC", -60_200, 20, "BTC", 73_770),
        SeededPosition("xyz:SP500", 3_000_000, 5, "xyz:SP500"),
    ), "a price of entry is an average: the nearest micro"
    assert report.equity_micros == 38_252_712_345


def test_a_flat_account_lists_nothing() -> None:
    assert parse_account(account()) == (1_784_683_652_123_000_000, (), None)


def test_leverage_may_be_unknown() -> None:
    (position,) = parse_account(account({"coin": "BTC", "szi": "1"})).positions
    assert position.leverage is None


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"null", "not an account snapshot: Expected `object`, got `null`"),
        (b"{}", "missing required field `assetPositions`"),
        (b'{"assetPositions":[]}', "missing required field `time`"),
        (account({"coin": "BTC"}), "missing required field `szi`"),
        (account({"szi": "1"}), "missing required field `coin`"),
        (account({"coin": "BTC", "szi": 1}), r"Expected `str`, got `int` - at `\$.assetPositions\[0\].position.szi`"),
        (account({"coin": "BTC", "szi": "1e3"}), "szi of BTC '1e3' is not a plain decimal number"),
        (account({"coin": "BTC", "szi": "0.1234567"}), "szi of BTC '0.1234567' needs more than six decimal places"),
        (account({"coin": "BTC", "szi": "1", "leverage": {"value": "20"}}), "Expected `int.*leverage.value`"),
        (account({"coin": "BTC", "szi": "1", "leverage": 20}), "Expected `object`, got `int`.*leverage`"),
    ],
)
def test_a_malformed_account_is_refused(payload: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        parse_account(payload)
