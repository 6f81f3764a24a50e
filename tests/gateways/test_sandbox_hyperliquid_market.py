"""Positions, fills and number formats of the sandbox."""

import itertools
from collections import defaultdict
from decimal import ROUND_CEILING, Decimal

import pytest

from gateways.sandbox.hyperliquid.coins import COINS, Coin
from gateways.sandbox.hyperliquid.flow import flow
from gateways.sandbox.hyperliquid.market import Market
from gateways.sandbox.hyperliquid.market_data import Book, Fill, Level, Trade, text
from gateways.sandbox.hyperliquid.traders import INFLUENCERS

ANN, BOB = "0x" + "a" * 40, "0x" + "b" * 40


def trade(side: str, px: str, sz: str, *, buyer: str = ANN, seller: str = BOB, tid: int = 1) -> Trade:
    return Trade("BTC", side, Decimal(px), Decimal(sz), 1_784_683_648_442, "0x" + "1" * 64, tid, (buyer, seller))


def market() -> Market:
    opened = Market()
    opened.list_coins(COINS)
    return opened


def bought(opened: Market, px: str, sz: str) -> Fill:
    (_, fill), _ = opened.settle(trade("B", px, sz), 2, 1)
    return fill


def sold(opened: Market, px: str, sz: str) -> Fill:
    _, (_, fill) = opened.settle(trade("A", px, sz, buyer=BOB, seller=ANN), 1, 2)
    return fill


@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("66405", "66405.0"),
        ("145123.00", "145123.0"),
        ("0.00205", "0.00205"),
        ("1E+3", "1000.0"),
        ("1E-7", "0.0000001"),
        ("-0", "0.0"),
        ("-11676987", "-11676987.0"),
    ],
)
def test_numbers_are_written_like_the_venue_does(number: str, written: str) -> None:
    assert text(Decimal(number)) == written


@pytest.mark.parametrize(
    ("sz_decimals", "px", "tick"),
    [
        (5, "66405", "1"),
        (5, "123456", "1"),
        (5, "9999.9", "0.1"),
        (4, "1903.9", "0.1"),
        (0, "0.073512", "0.000001"),
        (0, "1.1462", "0.0001"),
        (3, "6512.4", "0.1"),
        (4, "5.5", "0.01"),
    ],
)
def test_tick(sz_decimals: int, px: str, tick: str) -> None:
    assert Coin("X", sz_decimals, 10).tick(Decimal(px)) == Decimal(tick)


def test_snapping_up_across_a_power_of_ten_stays_allowed() -> None:
    assert Coin("X", 0, 10).snap(Decimal("9.99996"), ROUND_CEILING) == Decimal("10")


def test_a_position_opens_adds_reduces_flips_and_closes() -> None:
    opened = market()
    fills = [
        bought(opened, "100", "2"),
        bought(opened, "106", "1"),
        sold(opened, "111", "1"),
        sold(opened, "112", "5"),
        bought(opened, "110", "3"),
    ]
    seen = [(fill.dir, text(fill.start_position), text(fill.closed_pnl)) for fill in fills]
    assert seen == [
        ("Open Long", "0.0", "0.0"),
        ("Open Long", "2.0", "0.0"),
        ("Close Long", "3.0", "9.0"),
        ("Long > Short", "2.0", "20.0"),
        ("Close Short", "-3.0", "6.0"),
    ]
    assert opened.accounts[ANN].positions == {}
    fees = sum((fill.fee for fill in fills), Decimal(0))
    assert opened.accounts[ANN].earned[""] == Decimal(35) - fees


def test_taker_and_maker_pay_their_own_fee() -> None:
    (_, taker), (_, maker) = market().settle(trade("B", "66405.0", "0.1"), 2, 1, twap_id=5)
    assert (taker.crossed, text(taker.fee), taker.twap_id, taker.oid) == (True, "2.988225", 5, 2)
    assert (maker.crossed, text(maker.fee), maker.twap_id, maker.oid) == (False, "0.996075", None, 1)
    assert (taker.side, maker.side, maker.dir) == ("B", "A", "Open Short")


def test_a_self_trade_leaves_the_position_where_it_was() -> None:
    opened = market()
    bought(opened, "100", "2")
    (_, first), (_, second) = opened.settle(trade("B", "101", "1", buyer=ANN, seller=ANN), 2, 1)
    assert (first.start_position, second.start_position) == (Decimal(2), Decimal(3))
    assert opened.accounts[ANN].positions["BTC"].size == Decimal(2)


@pytest.mark.parametrize("seed", [3, 11])
def test_the_start_position_chain_of_a_flow_is_exact(seed: int) -> None:
    opened = market()
    for action in itertools.islice(flow(seed), 600):
        for p in action.prints:
            printed = Trade(action.coin, p.side, p.px, p.sz, action.offset_ms, action.hash, p.tid, (p.buyer, p.seller))
            opened.settle(printed, p.buyer_oid, p.seller_oid)
    for who in INFLUENCERS:
        account = opened.accounts[who.address]
        chain: defaultdict[str, Decimal] = defaultdict(Decimal)
        for fill in account.fills:
            assert fill.start_position == chain[fill.coin]
            chain[fill.coin] += fill.sz if fill.side == "B" else -fill.sz
        assert {coin: size for coin, size in chain.items() if size} == {
            coin: position.size for coin, position in account.positions.items()
        }
        assert len(account.fills) > 50


def level(px: str, sz: str = "1") -> Level:
    return Level(Decimal(px), Decimal(sz), 1)


def test_a_newer_top_drops_what_it_contradicts() -> None:
    book = Book((level("10"), level("9")), (level("11"), level("12")))
    risen = book.with_top(level("11"), level("11.5"))
    assert risen == Book((level("11"), level("10"), level("9")), (level("11.5"), level("12")))
    assert book.with_top(None, level("10.5")).bids == ()
    assert book.with_top(None, level("10.5")).mid is None


def test_rounding_merges_away_from_the_mid() -> None:
    book = Book((level("66404", "1"), level("66401", "2"), level("66399", "4")), (level("66406", "1"), level("66411")))
    merged = book.rounded(4)
    assert [(text(row.px), text(row.sz), row.n) for row in merged.bids] == [
        ("66400.0", "3.0", 2),
        ("66390.0", "4.0", 1),
    ]
    assert [text(row.px) for row in merged.asks] == ["66410.0", "66420.0"]
    assert [text(row.px) for row in book.rounded(5, 5).bids] == ["66400.0", "66395.0"]
