"""What raw events say: trades, movements, reports and markets of both venues; what cannot be understood is refused."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw, structs

from domain.events import (
    AccountSeeded,
    Action,
    GapDetected,
    GapKind,
    MarketDescribed,
    Outcome,
    RawReceived,
    SeededPosition,
    TradeSide,
    Venue,
)
from domain.ids import derived
from domain.influencer_account import Movement
from domain.signals import REMOVED, Trade
from gateways.hyperliquid.parsing import ZERO_HASH
from handlers.meaning import decode_raw
from streams.errors import UnprocessableError
from tests.handlers.folding import ALICE, BOB, NOW, SECOND, account, trade
from tests.handlers.raws import MARKET, NO, THEN, YES, activity, chain, fill, market, moved, positions, raw

TX = "0x" + "0c" * 32


def said(event: RawReceived) -> Trade:
    """The trade that a raw event tells of."""
    found = decode_raw(event)
    assert isinstance(found, Trade)
    return found


# --- Hyperliquid -------------------------------------------------------------------------------------------


def test_a_public_trade_is_one_side_of_it() -> None:
    bought = said(trade())
    assert (bought.trade_side, bought.share_micros, bought.price_micros) == (TradeSide.BUY, 2_000_000, 100_500_000)
    assert (bought.notional_micros, bought.taker, bought.market) == (201_000_000, True, "BTC")
    assert (bought.start_micros, bought.fee_micros, bought.order_type) == (None, None, None), "what it does not say"
    made = said(trade(side="A", users=(ALICE, ALICE)))
    assert (made.trade_side, made.taker) == (TradeSide.SELL, True)


def test_an_own_fill_is_the_same_trade_and_says_more() -> None:
    public, own = said(trade()), said(fill())
    assert own.source_event_id == public.source_event_id
    less = structs.replace(own, start_micros=None, fee_micros=None, metadata=public.metadata, twin_id=None)
    assert less == public
    assert own.twin_id == said(fill("A")).source_event_id, "what its other side would be called, were it ours too"
    assert (own.start_micros, own.fee_micros) == (0, 90_500)
    assert own.metadata == {"tid": "1", "hash": "0x12", "oid": "77"}


def test_twap_slices_say_so_by_their_hash_or_their_id() -> None:
    assert said(trade(hash=ZERO_HASH)).metadata["twap"] == "1"
    own = said(fill(hash=ZERO_HASH, twapId=9, tid=5))
    assert (own.order_type, own.metadata["twap"], own.metadata["twap_id"]) == ("twap", "1", "9")


def test_a_liquidation_is_the_liquidated_ones() -> None:
    liquidation = {"liquidatedUser": ALICE, "markPx": "90", "method": "market"}
    own = said(fill("A", dir="Close Long", liquidation=liquidation))
    assert (own.order_type, own.metadata["liquidated"]) == ("liquidation", ALICE)
    others = said(fill("B", liquidation=liquidation | {"liquidatedUser": BOB}))
    assert others.order_type is None
    assert others.metadata["liquidated"] == BOB


@pytest.mark.parametrize(
    ("fields", "fee", "told"),
    [
        ({"fee": "-0.01"}, -10_000, None),
        ({"fee": "0.5", "feeToken": "HYPE"}, None, "0.5 HYPE"),
        ({"fee": "0.00000001"}, None, "0.00000001 USDC"),
        ({"fee": "0.01", "feeToken": None}, 10_000, None),
    ],
)
def test_a_fee_in_dollars_is_kept_and_another_is_noted(fields: dict[str, Any], fee: int | None, told: str) -> None:
    own = said(fill(**fields))
    assert (own.fee_micros, own.metadata.get("fee")) == (fee, told)


def test_dust_is_kept_and_spot_has_no_chain_of_positions() -> None:
    dust = said(fill("A", coin="@107", dir="Spot Dust Conversion", px="0.0", sz="0.000001", tid=0))
    assert (dust.share_micros, dust.notional_micros, dust.order_type) == (1, 0, "dust_conversion")
    assert dust.start_micros is None


def test_an_account_report_of_a_section() -> None:
    report = decode_raw(account(("xyz:GOLD", "-3.5"), section="xyz", worth="1234.567891"))
    assert report == AccountSeeded(
        seed_id=derived("seed", f"hl:account:xyz:{ALICE}:1794999998000"),
        influencer_id="alice",
        venue=Venue.HYPERLIQUID,
        address=ALICE,
        section="xyz",
        positions=(SeededPosition("xyz:GOLD", -3_500_000, 5, "xyz:GOLD", 90_000_000),),
        event_time=1_794_999_998 * SECOND,
        detect_time=NOW,
        equity_micros=1_234_567_891,
    )


# --- Polymarket --------------------------------------------------------------------------------------------


def test_a_row_and_its_log_are_the_same_trade_in_other_words() -> None:
    row, log = said(activity()), said(chain())
    for told in (row, log):
        assert (told.asset, told.trade_side, told.share_micros) == (YES, TradeSide.BUY, 10_000_000)
        assert (told.price_micros, told.notional_micros, told.fee_micros) == (400_000, 4_000_000, 10_000)
        assert (told.taker, told.event_time, told.fill_key) == (True, THEN * SECOND, f"{TX}:{YES}:BUY")
        assert told.metadata["hash"] == TX
    assert (row.market, log.market) == (MARKET, ""), "a log does not name the market"
    assert log.metadata["block"] == "16"
    assert (row.source_event_id[:9], log.source_event_id[:11]) == ("pm:TRADE:", "pm-log:137:")


def test_a_log_taken_back_says_so_in_its_id() -> None:
    log = said(chain(removed=True))
    assert log.removed
    assert log.source_event_id == said(chain()).source_event_id + REMOVED


def test_a_log_of_a_block_without_a_time_is_when_it_was_seen() -> None:
    assert said(structs.replace(chain(), venue_time=None)).event_time == NOW - 2 * SECOND


def test_equal_rows_are_told_apart_by_their_number() -> None:
    assert len({said(activity(number=number)).source_event_id for number in range(3)}) == 3


@pytest.mark.parametrize(
    ("kind", "asset"), [("SPLIT", ""), ("MERGE", ""), ("REDEEM", ""), ("REDEEM", NO)], ids=lambda it: it or "-"
)
def test_a_movement(kind: str, asset: str) -> None:
    event = moved(kind, 12.5, 12.25, asset=asset)
    assert decode_raw(event) == Movement(
        source_event_id=event.raw_id,
        venue=Venue.POLYMARKET,
        influencer_id="alice",
        address=ALICE,
        action=Action(kind),
        market=MARKET,
        asset=asset,
        share_micros=12_500_000,
        cash_micros=12_250_000,
        event_time=THEN * SECOND,
        detect_time=NOW,
    )


def test_a_conversion_is_a_gap() -> None:
    event = moved("CONVERSION", 3, 0)
    assert decode_raw(event) == GapDetected(
        gap_id=derived("gap", event.raw_id),
        kind=GapKind.CONVERSION,
        influencer_id="alice",
        venue=Venue.POLYMARKET,
        address=ALICE,
        asset=MARKET,
        expected_micros=0,
        found_micros=3_000_000,
        source_event_id=event.raw_id,
        event_time=THEN * SECOND,
        detect_time=NOW,
    )


@pytest.mark.parametrize("kind", ["REWARD", "MAKER_REBATE", "DEPOSIT", "YIELD"])
def test_what_moves_money_alone_means_nothing(kind: str) -> None:
    assert decode_raw(moved(kind, 5, 5, conditionId="")) is None


def test_a_positions_report_is_as_of_the_activity_it_agrees_with() -> None:
    report = decode_raw(positions((YES, 10.5), (NO, 0), as_of=THEN - 7))
    assert isinstance(report, AccountSeeded)
    assert report.positions == (SeededPosition(YES, 10_500_000, None, MARKET, 300_000),)
    assert (report.section, report.event_time, report.equity_micros) == ("", (THEN - 7) * SECOND, None)


@pytest.mark.parametrize(
    ("value", "cash", "equity"), [(12.5, 5_000_000, 17_500_000), (12.5, None, None), (None, 5_000_000, None)]
)
def test_a_wallet_is_worth_its_positions_and_its_cash(
    value: float | None, cash: int | None, equity: int | None
) -> None:
    report = decode_raw(positions((YES, 1), value=value, cash=cash))
    assert isinstance(report, AccountSeeded)
    assert report.equity_micros == equity


def test_a_market_is_described() -> None:
    described = decode_raw(market())
    assert isinstance(described, MarketDescribed)
    assert (described.market, described.outcomes) == (MARKET, (Outcome(YES, "Yes"), Outcome(NO, "No")))
    assert (described.accepting, described.described_at) == (True, NOW)


def test_a_profile_means_nothing_to_a_position() -> None:
    assert decode_raw(raw("pm:profile:1", "profile", b"{}")) is None


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (structs.replace(trade(), channel="l2Book"), "channel 'l2Book' of hyperliquid is not understood"),
        (structs.replace(activity(), channel="trades"), "channel 'trades' of polymarket is not understood"),
        (activity(proxyWallet=BOB), f"the row belongs to {BOB}, not to {ALICE}"),
        (structs.replace(chain(), address=BOB), f"the log belongs to {ALICE}, not to {BOB}"),
        (activity(type="AIRDROP"), "type 'AIRDROP' is unknown"),
        (activity(size=0.0000001), "more than six decimal places"),
        (activity(price=0), "price 0 of a trade"),
        (moved("REDEEM", 0, 0), "must be above zero"),
        (chain(address=BOB), "is not an exchange"),
        (fill(sz="0"), "size '0' is not above zero"),
        (fill(raw_id="hl:BTC:1:1:0x:B"), "came as hl:BTC:1:1:0x:B"),
        (fill(startPosition="1e3"), "startPosition"),
        (market(clobTokenIds='["1"]'), "a different token for each"),
    ],
    ids=lambda it: it[:20] if isinstance(it, str) else "",
)
def test_what_cannot_be_understood_is_refused(event: RawReceived, why: str) -> None:
    with pytest.raises(UnprocessableError, match=why):
        decode_raw(event)


@pytest.mark.parametrize("channel", ["activity", "chain", "positions", "market"])
@pytest.mark.parametrize("payload", [b"[]", b"null", b"{}", b'"x"', b'{"positions":[{"asset":"x"}]}', b"{"])
def test_junk_is_refused_and_nothing_else_happens(channel: str, payload: bytes) -> None:
    with pytest.raises(UnprocessableError):
        decode_raw(raw("pm:x:1", channel, payload))


def test_junk_beside_a_good_report_is_refused() -> None:
    wire = msgspec.json.decode(bytes(positions((YES, 1), value=1.0, cash=1).payload))
    for broken in ({"value": [1]}, {"cash": "1.5"}, {"cash": 7}):
        report = raw("pm:x:1", "positions", msgspec.json.encode(wire | broken))
        with pytest.raises(UnprocessableError):
            decode_raw(structs.replace(report, payload=Raw(bytes(report.payload))))
