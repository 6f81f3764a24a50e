"""Polymarket's RAW events decode to trades, movements, wallet snapshots and markets; anything else is refused."""

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
from gateways.polymarket.raw_events import decode_raw
from gateways.venue_errors import WireError
from tests.handlers.folding import ALICE, BOB, NOW, SECOND
from tests.handlers.raws import MARKET, NO, THEN, YES, activity, chain, market, moved, positions, raw

TX = "0x" + "0c" * 32


def decoded(event: RawReceived) -> Trade:
    found = decode_raw(event)
    assert isinstance(found, Trade)
    return found


def test_a_row_and_its_log_decode_to_the_same_trade() -> None:
    row, log = decoded(activity()), decoded(chain())
    for found in (row, log):
        assert (found.asset, found.trade_side, found.share_micros) == (YES, TradeSide.BUY, 10_000_000)
        assert (found.price_micros, found.notional_micros, found.fee_micros) == (400_000, 4_000_000, 10_000)
        assert (found.taker, found.event_time, found.fill_key) == (True, THEN * SECOND, f"{TX}:{YES}:BUY")
        assert found.metadata["hash"] == TX
    assert (row.market, log.market) == (MARKET, ""), "a log does not name the market"
    assert log.metadata["block"] == "16"
    assert (row.source_event_id[:9], log.source_event_id[:11]) == ("pm:TRADE:", "pm-log:137:")


def test_the_id_of_a_removed_log_ends_in_removed() -> None:
    log = decoded(chain(removed=True))
    assert log.removed
    assert log.source_event_id == decoded(chain()).source_event_id + REMOVED


def test_a_log_without_a_block_time_has_the_time_of_its_detection() -> None:
    assert decoded(structs.replace(chain(), venue_time=None)).event_time == NOW - 2 * SECOND


def test_equal_rows_differ_in_their_number() -> None:
    assert len({decoded(activity(number=number)).source_event_id for number in range(3)}) == 3


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
def test_rows_that_move_only_money_decode_to_nothing(kind: str) -> None:
    assert decode_raw(moved(kind, 5, 5, conditionId="")) is None


def test_a_wallet_snapshot_is_as_of_the_activity_it_agrees_with() -> None:
    report = decode_raw(positions((YES, 10.5), (NO, 0), as_of=THEN - 7))
    assert isinstance(report, AccountSeeded)
    assert report.positions == (SeededPosition(YES, 10_500_000, None, MARKET, 300_000),)
    assert (report.section, report.event_time, report.equity_micros) == ("", (THEN - 7) * SECOND, None)


@pytest.mark.parametrize(
    ("value", "cash", "equity"), [(12.5, 5_000_000, 17_500_000), (12.5, None, None), (None, 5_000_000, None)]
)
def test_equity_is_positions_and_cash(value: float | None, cash: int | None, equity: int | None) -> None:
    report = decode_raw(positions((YES, 1), value=value, cash=cash))
    assert isinstance(report, AccountSeeded)
    assert report.equity_micros == equity


def test_a_market_is_described() -> None:
    described = decode_raw(market())
    assert isinstance(described, MarketDescribed)
    assert (described.market, described.outcomes) == (MARKET, (Outcome(YES, "Yes"), Outcome(NO, "No")))
    assert (described.accepting, described.described_at) == (True, NOW)


def test_a_profile_changes_no_position() -> None:
    assert decode_raw(raw("pm:profile:1", "profile", b"{}")) is None


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (
            structs.replace(activity(), channel="trades"),
            "channel 'trades' of polymarket is unknown; known are activity",
        ),
        (activity(proxyWallet=BOB), f"the row belongs to {BOB}, not to {ALICE}"),
        (structs.replace(chain(), address=BOB), f"the log belongs to {ALICE}, not to {BOB}"),
        (activity(type="AIRDROP"), "type 'AIRDROP' is unknown"),
        (activity(size=0.0000001), "more than six decimal places"),
        (activity(price=0), "price 0 of a trade"),
        (moved("REDEEM", 0, 0), "must be above zero"),
        (chain(address=BOB), "is not an exchange"),
        (market(clobTokenIds='["1"]'), "a different token for each"),
    ],
    ids=lambda it: it[:20] if isinstance(it, str) else "",
)
def test_a_payload_that_does_not_fit_is_refused(event: RawReceived, why: str) -> None:
    with pytest.raises(WireError, match=why):
        decode_raw(event)


@pytest.mark.parametrize("channel", ["activity", "chain", "positions", "market"])
@pytest.mark.parametrize("payload", [b"[]", b"null", b"{}", b'"x"', b'{"positions":[{"asset":"x"}]}', b"{"])
def test_malformed_payloads_raise_wire_errors_only(channel: str, payload: bytes) -> None:
    with pytest.raises(WireError):
        decode_raw(raw("pm:x:1", channel, payload))


def test_malformed_value_or_cash_beside_good_positions_is_refused() -> None:
    wire = msgspec.json.decode(bytes(positions((YES, 1), value=1.0, cash=1).payload))
    for broken in ({"value": [1]}, {"cash": "1.5"}, {"cash": 7}):
        report = raw("pm:x:1", "positions", msgspec.json.encode(wire | broken))
        with pytest.raises(WireError):
            decode_raw(structs.replace(report, payload=Raw(bytes(report.payload))))
