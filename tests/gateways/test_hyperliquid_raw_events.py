"""Hyperliquid's RAW events decode to trades and account snapshots; anything else is refused."""

from typing import Any

import pytest
from msgspec import structs

from domain.events import AccountSeeded, RawReceived, SeededPosition, TradeSide, Venue
from domain.ids import derived
from domain.signals import Trade
from gateways.hyperliquid.parsing import ZERO_HASH
from gateways.hyperliquid.raw_events import decode_raw
from gateways.venue_errors import WireError
from tests.handlers.folding import ALICE, BOB, NOW, SECOND, account, trade
from tests.handlers.raws import fill, raw


def decoded(event: RawReceived) -> Trade:
    found = decode_raw(event)
    assert isinstance(found, Trade)
    return found


def test_a_public_trade_is_one_side_of_it() -> None:
    bought = decoded(trade())
    assert (bought.trade_side, bought.share_micros, bought.price_micros) == (TradeSide.BUY, 2_000_000, 100_500_000)
    assert (bought.notional_micros, bought.taker, bought.market) == (201_000_000, True, "BTC")
    assert (bought.start_micros, bought.fee_micros, bought.order_type) == (None, None, None), "not in a public trade"
    made = decoded(trade(side="A", users=(ALICE, ALICE)))
    assert (made.trade_side, made.taker) == (TradeSide.SELL, True)


def test_an_own_fill_is_the_public_trade_with_more_fields() -> None:
    public, own = decoded(trade()), decoded(fill())
    assert own.source_event_id == public.source_event_id
    less = structs.replace(own, start_micros=None, fee_micros=None, metadata=public.metadata, twin_id=None)
    assert less == public
    assert own.twin_id == decoded(fill("A")).source_event_id, "the id that the other side of the trade has"
    assert (own.start_micros, own.fee_micros) == (0, 90_500)
    assert own.metadata == {"tid": "1", "hash": "0x12", "oid": "77"}


def test_twap_slices_are_recognised_by_their_hash_or_their_id() -> None:
    assert decoded(trade(hash=ZERO_HASH)).metadata["twap"] == "1"
    own = decoded(fill(hash=ZERO_HASH, twapId=9, tid=5))
    assert (own.order_type, own.metadata["twap"], own.metadata["twap_id"]) == ("twap", "1", "9")


def test_only_the_liquidated_account_has_a_liquidation() -> None:
    liquidation = {"liquidatedUser": ALICE, "markPx": "90", "method": "market"}
    own = decoded(fill("A", dir="Close Long", liquidation=liquidation))
    assert (own.order_type, own.metadata["liquidated"]) == ("liquidation", ALICE)
    others = decoded(fill("B", liquidation=liquidation | {"liquidatedUser": BOB}))
    assert others.order_type is None
    assert others.metadata["liquidated"] == BOB


@pytest.mark.parametrize(
    ("fields", "fee", "noted"),
    [
        ({"fee": "-0.01"}, -10_000, None),
        ({"fee": "0.5", "feeToken": "HYPE"}, None, "0.5 HYPE"),
        ({"fee": "0.00000001"}, None, "0.00000001 USDC"),
        ({"fee": "0.01", "feeToken": None}, 10_000, None),
    ],
)
def test_a_fee_in_dollars_is_kept_and_another_is_noted(fields: dict[str, Any], fee: int | None, noted: str) -> None:
    own = decoded(fill(**fields))
    assert (own.fee_micros, own.metadata.get("fee")) == (fee, noted)


def test_dust_is_kept_and_spot_has_no_start_position() -> None:
    dust = decoded(fill("A", coin="@107", dir="Spot Dust Conversion", px="0.0", sz="0.000001", tid=0))
    assert (dust.share_micros, dust.notional_micros, dust.order_type) == (1, 0, "dust_conversion")
    assert dust.start_micros is None


def test_an_account_snapshot_covers_one_dex() -> None:
    snapshot = decode_raw(account(("xyz:GOLD", "-3.5"), section="xyz", worth="1234.567891"))
    assert snapshot == AccountSeeded(
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


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (
            structs.replace(trade(), channel="l2Book"),
            "channel 'l2Book' of hyperliquid is unknown; known are trades, userFills, clearinghouseState",
        ),
        (structs.replace(trade(), address=BOB), f"belongs to {ALICE}, not to {BOB}"),
        (fill(sz="0"), "size '0' is not above zero"),
        (fill(raw_id="hl:BTC:1:1:0x:B"), "came as hl:BTC:1:1:0x:B"),
        (fill(startPosition="1e3"), "startPosition"),
    ],
    ids=lambda it: it[:20] if isinstance(it, str) else "",
)
def test_a_payload_that_does_not_fit_is_refused(event: RawReceived, why: str) -> None:
    with pytest.raises(WireError, match=why):
        decode_raw(event)


@pytest.mark.parametrize("channel", ["trades", "userFills", "clearinghouseState", "clearinghouseState@xyz"])
@pytest.mark.parametrize("payload", [b"[]", b"null", b"{}", b'"x"', b'{"assetPositions":[{"position":5}]}', b"{"])
def test_malformed_payloads_raise_wire_errors_only(channel: str, payload: bytes) -> None:
    with pytest.raises(WireError):
        decode_raw(raw("hl:x:1", channel, payload, venue=Venue.HYPERLIQUID))
