"""Recorded answers of the venue, read by the gateway.

Set VIBE_TEST_RECORDINGS to a folder with `polymarket/trades_page0.json`, `polymarket/v2_orderfilled_logs.json`, ...
"""

import json
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from domain.events import Payout, TradeSide
from domain.micros import MICRO
from gateways.polymarket.activity import Kind, numbered, page, parse_activity, row_key
from gateways.polymarket.clob import parse_book
from gateways.polymarket.gamma import parse_market, resolved
from gateways.polymarket.log_parsing import block_time, log_id, parse_log
from gateways.venue_errors import WireError

RECORDINGS = os.environ.get("VIBE_TEST_RECORDINGS")
FOLDER = Path(RECORDINGS or ".") / "polymarket"
pytestmark = pytest.mark.skipif(
    RECORDINGS is None or not (FOLDER / "trades_page0.json").exists(),
    reason="VIBE_TEST_RECORDINGS names no folder with recordings of Polymarket",
)

LEADER = "0xfe787d2da716d60e8acff57fb87eb13cd4d10319"


def recorded(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def pages() -> list[list[Raw]]:
    return [page(recorded(f"trades_page{number}.json")).rows for number in (0, 1)]


def test_pages_overlap_where_new_rows_moved_the_offset() -> None:
    """Between the two requests 26 new fills came: the second page begins with the last 26 rows of the first."""
    first, second = ([row_key(row) for row in rows] for rows in pages())
    assert (len(first), len(second)) == (1000, 1000)
    assert (len(set(first)), len(set(second))) == (1000, 1000)
    assert second[:26] == first[-26:]
    assert not set(second[26:]) & set(first)
    assert len({*first, *second}) == 1974


def test_numbering_across_overlapping_pages_would_make_second_fills() -> None:
    """Why rows are numbered within one response: across two overlapping ones, 26 rows look like identical fills."""
    apart = {row_id for rows in pages() for row_id, _ in numbered(rows)}
    assert len(apart) == 1974
    assert all(row_id.endswith(":0") for row_id in apart)
    stitched = numbered(row for rows in pages() for row in rows)
    assert sum(row_id.endswith(":1") for row_id, _ in stitched) == 26


def test_every_trade_is_read_exactly() -> None:
    rows = [row for rows in pages() for row in rows]
    parsed = [parse_activity(bytes(row)) for row in rows]
    assert Counter((one.kind, one.side) for one in parsed) == {(Kind.TRADE, TradeSide.BUY): 2000}
    for row, one in zip(rows, parsed, strict=True):
        # json with Decimal is another reader of the same text.
        wire: dict[str, Any] = json.loads(bytes(row), parse_float=Decimal)
        size, price = Decimal(wire["size"]), Decimal(wire["price"])
        assert one.share_micros == size * MICRO
        assert abs(one.notional_micros - size * price * MICRO) <= Decimal("0.5")
        assert one.event_time == wire["timestamp"] * 10**9
        assert (one.asset, one.market, one.fee_micros) == (wire["asset"], wire["conditionId"], 0)


def test_prices_come_with_up_to_eighteen_decimals() -> None:
    written = [json.loads(bytes(row), parse_float=str)["price"] for rows in pages() for row in rows]
    assert max(len(str(price).partition(".")[2]) for price in written) == 18
    assert sum(len(str(price).partition(".")[2]) > 6 for price in written) > 500


def test_the_answer_beyond_the_last_offset_is_no_page() -> None:
    with pytest.raises(WireError, match="max historical activity offset of 3000 exceeded"):
        page(recorded("trades_offset_error.json"))


def test_two_orders_of_one_transaction_on_chain() -> None:
    logs = [json.dumps(log).encode() for log in json.loads(recorded("v2_orderfilled_logs.json"))]
    maker, taker = (parse_log(log) for log in logs)
    assert (taker.wallet, taker.side, taker.taker) == (LEADER, TradeSide.BUY, True)
    assert (taker.share_micros, taker.notional_micros) == (9_451_729_165, 4_536_829_999)
    assert taker.fee_micros == 117_957_570
    # The counter-order bought the other token: together a share of each costs a dollar.
    assert (maker.side, maker.taker, maker.fee_micros) == (TradeSide.BUY, False, 0)
    assert maker.asset != taker.asset
    assert maker.notional_micros / maker.share_micros == 0.52
    assert maker.transaction == taker.transaction
    assert [log_id(log).rpartition(":")[2] for log in logs] == ["812", "838"]
    assert [block_time(log) for log in logs] == [1_785_423_173 * 10**9] * 2


def test_the_takers_fee_follows_the_formula() -> None:
    taker = parse_log(json.dumps(json.loads(recorded("v2_orderfilled_logs.json"))[1]).encode())
    shares, price = Decimal(taker.share_micros), Decimal(taker.notional_micros) / taker.share_micros
    assert abs(shares * Decimal("0.05") * price * (1 - price) - taker.fee_micros) < 11


def test_all_markets_are_read_and_have_ended() -> None:
    lines = [json.loads(line) for line in recorded("gamma_markets_resolved.jsonl").splitlines()]
    assert len(lines) == 40
    for line in lines:
        market = parse_market(json.dumps(line["raw"]).encode())
        assert market.market == line["condition_id"]
        assert [outcome.asset for outcome in market.outcomes] == line["token_ids"]
        assert market.closes_at == line["end_sec"] * 10**9
        assert (market.accepting, market.closed, market.fee_rate_micros) == (False, True, 70_000)
        end = resolved(market, 1)
        assert end is not None
        assert end.payouts == tuple(
            Payout(token, int(price) * MICRO)
            for token, price in zip(line["token_ids"], line["outcome_prices"], strict=True)
        )
        assert sum(payout.price_micros for payout in end.payouts) == MICRO
        assert 0 < end.resolved_at - line["end_sec"] * 10**9 < 120 * 10**9


def test_a_book_is_served_best_last_and_parsed_best_first() -> None:
    payload = recorded("rest_book_trimmed_2026-08-19.json")
    book = parse_book(payload)
    assert json.loads(payload)["bids"][-1]["price"] == "0.044"
    assert (book.bids[0], book.asks[0]) == ((44_000, 18_228_380_000), (45_000, 429_570_000))
    assert (book.bids[-1], book.asks[-1]) == ((1_000, 10_611_926_490_000), (999_000, 1_598_544_780_000))
    assert book.time == 1_787_102_287_053 * 10**6


def test_a_frame_of_the_activity_feed_has_a_checksummed_wallet() -> None:
    frame = json.loads(recorded("activity_trades_frame_2026-08-19.json"))
    trade = parse_activity(json.dumps(frame["payload"]).encode())
    assert trade.wallet == frame["payload"]["proxyWallet"].lower() != frame["payload"]["proxyWallet"]
    assert (trade.share_micros, trade.notional_micros) == (2_702_700, 702_702)
