"""Whole answers of both venues, from the files in tests/data: they parse, decode, and agree with each other."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from domain.events import AccountSeeded, Action, MarketDescribed, Outcome, Payout, RawReceived, Terms, TradeSide, Venue
from domain.influencer_account import Movement
from domain.micros import MICRO, micros
from domain.signals import Trade
from gateways.hyperliquid.books import VenueBooks
from gateways.hyperliquid.fill_parsing import FILLS_CHANNEL, fill_id
from gateways.hyperliquid.info_client import Coin
from gateways.hyperliquid.parsing import FRAME, RAW_TRADES, TRADE_HEAD, parse_book, raw_id
from gateways.hyperliquid.raw_events import ACCOUNT_CHANNEL, TRADES_CHANNEL
from gateways.polymarket import clob
from gateways.polymarket.activity import numbered, page
from gateways.polymarket.gamma import parse_market, resolved
from gateways.polymarket.log_parsing import block_time, log_id, parse_log
from gateways.polymarket.raw_events import ACTIVITY_CHANNEL, CHAIN_CHANNEL, MARKET_CHANNEL, POSITIONS_CHANNEL
from gateways.registry import ADAPTERS
from gateways.venue_types import DecodedRaw
from tests.gateways.test_hyperliquid_info_client import answering

DATA = Path(__file__).resolve().parents[1] / "data"
ALICE = "0x" + "a11ce" * 8
WALLET = "0x" + "c0ffee" * 6 + "c0de"
SECOND = 1_000_000_000
START = 1_790_000_000


def payload(name: str) -> bytes:
    return (DATA / name).read_bytes()


def items(name: str) -> list[bytes]:
    """The elements of a file that holds a JSON list."""
    return [json.dumps(item).encode() for item in json.loads(payload(name))]


def decoded(
    venue: Venue, channel: str, address: str, event_id: str, content: bytes, venue_time: int | None = None
) -> DecodedRaw:
    raw = RawReceived(
        raw_id=event_id,
        venue=venue,
        channel=channel,
        influencer_id="alice",
        address=address,
        payload=Raw(content),
        detect_time=(START + 1_000) * SECOND,
        venue_time=venue_time,
    )
    return ADAPTERS[venue].decode_raw(raw)


# --- Hyperliquid -------------------------------------------------------------------------------------------


def public_trades() -> dict[str, Trade]:
    """Alice's sides of the public trades, by id."""
    found: dict[str, Trade] = {}
    for line in payload("hyperliquid/trades_frames.jsonl").splitlines():
        frame = FRAME.decode(line)
        if frame.channel != "trades":
            continue
        for content in RAW_TRADES.decode(frame.data):
            head = TRADE_HEAD.decode(content)
            for side, user in zip((TradeSide.BUY, TradeSide.SELL), head.users, strict=True):
                if user == ALICE:
                    event_id = raw_id(head, ALICE, side)
                    trade = decoded(Venue.HYPERLIQUID, TRADES_CHANNEL, ALICE, event_id, bytes(content))
                    assert isinstance(trade, Trade)
                    found[event_id] = trade
    return found


def own_fills() -> dict[str, Trade]:
    found: dict[str, Trade] = {}
    for content in items("hyperliquid/user_fills_by_time.json"):
        event_id = fill_id(content, ALICE)
        fill = decoded(Venue.HYPERLIQUID, FILLS_CHANNEL, ALICE, event_id, content)
        assert isinstance(fill, Trade)
        found[event_id] = fill
    return found


def test_public_trades_are_sides_of_the_own_fills() -> None:
    trades, fills = public_trades(), own_fills()
    assert len(trades) == 4
    for event_id, trade in trades.items():
        fill = fills[event_id]
        assert (fill.trade_side, fill.share_micros, fill.price_micros, fill.notional_micros, fill.taker) == (
            trade.trade_side, trade.share_micros, trade.price_micros, trade.notional_micros, trade.taker
        )  # fmt: skip


def test_own_fills_carry_fees_start_positions_and_order_types() -> None:
    first, second, slice_, gold, spot, liquidated = own_fills().values()
    assert first.start_micros == micros("-0.2")
    assert second.start_micros == first.start_micros + first.share_micros
    assert slice_.start_micros == second.start_micros + second.share_micros
    assert (slice_.order_type, slice_.metadata["twap_id"]) == ("twap", "88001")
    assert (gold.asset, gold.taker, gold.fee_micros) == ("xyz:GOLD", False, -153_571)
    assert (spot.start_micros, spot.fee_micros, spot.metadata["fee"]) == (None, None, "0.0021 HYPE")
    assert (liquidated.order_type, liquidated.metadata["liquidated"]) == ("liquidation", ALICE)


def test_the_account_holds_what_its_fills_left() -> None:
    content = payload("hyperliquid/clearinghouse_state.json")
    snapshot = decoded(Venue.HYPERLIQUID, ACCOUNT_CHANNEL, ALICE, "account", content)
    assert isinstance(snapshot, AccountSeeded)
    bitcoin, pepe = snapshot.positions
    last = [fill for fill in own_fills().values() if fill.asset == "BTC"][-1]
    assert last.start_micros is not None
    assert (bitcoin.asset, bitcoin.share_micros) == ("BTC", last.start_micros - last.share_micros)
    assert (pepe.asset, pepe.share_micros, pepe.leverage, pepe.price_micros) == ("kPEPE", 120_000 * MICRO, 3, 10_433)
    assert (snapshot.equity_micros, snapshot.event_time) == (18_250_114_906, (START + 20) * SECOND)


def test_a_book_parses_best_first() -> None:
    book = parse_book(payload("hyperliquid/l2_book.json"))
    assert book is not None
    assert (book.bids[0], book.asks[0]) == ((64_249 * MICRO, 1_841_220), (64_250 * MICRO, 600_000))
    assert (len(book.bids), len(book.asks), book.time) == (4, 4, (START + 21) * SECOND)


async def test_coins_have_their_lots_and_delisted_ones_are_left_out() -> None:
    answers: dict[str, Any] = {
        "perpDexs": [None],
        "meta": json.loads(payload("hyperliquid/meta.json")),
        "l2Book": json.loads(payload("hyperliquid/l2_book.json")),
    }
    async with answering(lambda body: answers[body["type"]]) as (info, _, _):
        coins = (await info.coins()).listed
        captured = await VenueBooks(info).capture("BTC")
    assert coins["BTC"] == Coin("BTC", 10)
    assert (coins["kPEPE"].size_step_micros, "MATIC" in coins) == (MICRO, False)
    assert captured is not None
    assert captured.terms == Terms(size_step_micros=10, tick_micros=100_000, market="BTC", significant_digits=5)


# --- Polymarket --------------------------------------------------------------------------------------------

MARKET = "0x" + "5e" * 32
YES, NO = (outcome["asset"] for outcome in json.loads(payload("polymarket/positions.json")))


def activity() -> list[DecodedRaw]:
    rows = numbered(page(payload("polymarket/activity_page.json")).rows)
    return [decoded(Venue.POLYMARKET, ACTIVITY_CHANNEL, WALLET, event_id, bytes(row)) for event_id, row in rows]


def test_a_page_of_activity_decodes_row_by_row() -> None:
    bought, sold, sold_again, split, merged, redeemed, reward = activity()
    assert isinstance(bought, Trade)
    assert (bought.asset, bought.trade_side, bought.taker) == (YES, TradeSide.BUY, True)
    assert (bought.share_micros, bought.notional_micros, bought.fee_micros) == (100 * MICRO, 47 * MICRO, 1_120_950)
    assert isinstance(sold, Trade)
    assert isinstance(sold_again, Trade)
    assert (sold.trade_side, sold.taker, sold.notional_micros) == (TradeSide.SELL, False, 5_925_925)
    assert sold.source_event_id != sold_again.source_event_id, "equal rows are two fills"
    for movement, action in ((split, Action.SPLIT), (merged, Action.MERGE), (redeemed, Action.REDEEM)):
        assert isinstance(movement, Movement)
        assert (movement.action, movement.market) == (action, MARKET)
    assert reward is None


def test_logs_on_chain_are_the_rows_of_the_activity() -> None:
    rows = activity()
    for content, row in zip(items("polymarket/order_filled_logs.json"), rows[:2], strict=True):
        fill = decoded(Venue.POLYMARKET, CHAIN_CHANNEL, WALLET, log_id(content), content, block_time(content))
        assert isinstance(fill, Trade)
        assert isinstance(row, Trade)
        assert (fill.fill_key, fill.share_micros, fill.notional_micros, fill.fee_micros, fill.taker) == (
            row.fill_key, row.share_micros, row.notional_micros, row.fee_micros, row.taker
        )  # fmt: skip
        assert fill.event_time == (START + 9) * SECOND


def test_positions_decode_with_dust() -> None:
    content = b'{"positions":' + payload("polymarket/positions.json") + b',"value":[{"value":47.4}],"cash":"5000000"}'
    snapshot = decoded(Venue.POLYMARKET, POSITIONS_CHANNEL, WALLET, "positions", content, START * SECOND)
    assert isinstance(snapshot, AccountSeeded)
    assert [(held.asset, held.share_micros) for held in snapshot.positions] == [(YES, 94_808_642), (NO, 1)]
    assert snapshot.equity_micros == 52_400_000


def test_the_book_of_a_token_parses_best_first() -> None:
    book = clob.parse_book(payload("polymarket/book.json"))
    assert (book.bids[0], book.asks[0]) == ((470_000, 100_010_000), (490_000, 250 * MICRO))
    assert (len(book.bids), len(book.asks), book.time) == (3, 3, START * SECOND + 123_000_000)


def test_a_resolved_market_is_described_and_pays() -> None:
    content = payload("polymarket/gamma_market.json")
    described = decoded(Venue.POLYMARKET, MARKET_CHANNEL, WALLET, "market", content)
    assert isinstance(described, MarketDescribed)
    assert (described.market, described.accepting, described.fee_rate_micros) == (MARKET, False, 45_000)
    assert described.outcomes == (Outcome(YES, "Yes"), Outcome(NO, "No"))
    resolution = resolved(parse_market(content), START * SECOND)
    assert resolution is not None
    assert resolution.payouts == (Payout(YES, MICRO), Payout(NO, 0))


@pytest.mark.parametrize("file", sorted(DATA.rglob("*.json*")), ids=lambda file: file.name)
def test_every_file_is_small_and_listed(file: Path) -> None:
    assert file.stat().st_size < 40_000
    assert f"`{file.relative_to(DATA)}`" in (DATA / "README.md").read_text()


# --- What the venues really sent -------------------------------------------------------------------------------


def test_recorded_frames_of_the_public_feed() -> None:
    frames = [FRAME.decode(line) for line in payload("hyperliquid/recorded_frames.jsonl").splitlines()]
    assert [frame.channel for frame in frames] == ["l2Book", "bbo", "trades", "trades", "trades", "trades"]
    book = parse_book(bytes(frames[0].data))
    assert book is not None
    assert (book.bids[0], book.asks[0][0]) == ((micros("66375"), micros("6.15119")), micros("66376"))
    (content,) = RAW_TRADES.decode(frames[2].data)
    head = TRADE_HEAD.decode(content)
    buyer, seller = head.users
    sold = decoded(Venue.HYPERLIQUID, TRADES_CHANNEL, seller, raw_id(head, seller, TradeSide.SELL), bytes(content))
    assert isinstance(sold, Trade)
    assert (sold.asset, sold.trade_side, sold.taker) == ("BTC", TradeSide.SELL, True)
    assert (sold.share_micros, sold.price_micros, sold.notional_micros) == (360, micros("66375"), micros("23.895"))
    bought = decoded(Venue.HYPERLIQUID, TRADES_CHANNEL, buyer, raw_id(head, buyer, TradeSide.BUY), bytes(content))
    assert isinstance(bought, Trade)
    assert (bought.trade_side, bought.taker, bought.event_time) == (TradeSide.BUY, False, sold.event_time)


def test_recorded_logs_of_one_transaction_on_chain() -> None:
    maker, taker = (parse_log(log) for log in items("polymarket/recorded_order_filled_logs.json"))
    assert (taker.side, taker.taker, taker.share_micros, taker.notional_micros) == (
        TradeSide.BUY, True, 9_451_729_165, 4_536_829_999
    )  # fmt: skip
    assert taker.fee_micros == 117_957_570
    assert (maker.taker, maker.fee_micros, maker.transaction) == (False, 0, taker.transaction)
