"""Fills of a user: their ids, their fields, and that real ones fold into the positions that the venue reports."""

import json
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain import influencer_account, signals
from domain.events import AccountSeeded, GapDetected, PositionState, SeededPosition, TradeSide, Venue
from domain.influencer_account import Account
from domain.micros import micros
from domain.signals import Trade
from gateways.hyperliquid.fill_parsing import fill_id, is_perpetual, parse_fill, read_fill
from gateways.hyperliquid.parsing import ZERO_HASH, TradeHead, parse_trade, raw_id
from gateways.venue_errors import WireError

ALICE, BOB = "0x" + "a1" * 20, "0x" + "b2" * 20
NOW = 1_795_000_000_000_000_000

# A fill in the shape of 2026, and the public trade that it is a side of.
FILL: dict[str, Any] = {
    "coin": "PUMP", "px": "0.00205", "sz": "145123.0", "side": "A", "time": 1784507189410,
    "startPosition": "-11676987.0", "dir": "Open Short", "closedPnl": "0.0", "hash": "0x87" + "1e" * 31,
    "oid": 498935919581, "crossed": True, "fee": "0.120488", "tid": 1083817443202724, "feeToken": "USDC",
    "twapId": None,
}  # fmt: skip
TRADE: dict[str, Any] = {
    "coin": "PUMP", "side": "A", "px": "0.00205", "sz": "145123.0", "time": 1784507189410, "hash": "0x87" + "1e" * 31,
    "tid": 1083817443202724, "users": [BOB, ALICE],
}  # fmt: skip
DUST = FILL | {
    "coin": "@151", "px": "2283.4", "sz": "0.000068", "startPosition": "0.000068", "dir": "Spot Dust Conversion",
    "hash": ZERO_HASH, "fee": "0.0", "tid": 0,
}  # fmt: skip
OLD = {name: value for name, value in FILL.items() if name not in ("tid", "feeToken", "twapId")}


def encoded(row: object) -> bytes:
    return json.dumps(row).encode()


def parsed(row: dict[str, Any], address: str = ALICE) -> Trade:
    payload = encoded(row)
    return parse_fill(
        payload,
        source_event_id=fill_id(payload, address),
        influencer_id="alice",
        address=address,
        detect_time=NOW,
    )


# --- ids ---------------------------------------------------------------------------------------------------


def test_a_fill_and_its_side_of_the_public_trade_have_one_id() -> None:
    head = TradeHead("PUMP", "A", TRADE["time"], TRADE["tid"], (BOB, ALICE))
    assert fill_id(encoded(FILL), ALICE) == raw_id(head, ALICE, TradeSide.SELL)
    maker = FILL | {"side": "B", "crossed": False}
    assert fill_id(encoded(maker), BOB) == raw_id(head, BOB, TradeSide.BUY)
    dex = FILL | {"coin": "xyz:SP500"}
    assert fill_id(encoded(dex), ALICE) == f"hl:xyz:SP500:{FILL['time']}:{FILL['tid']}:{ALICE}:A"


def test_both_sides_of_a_trade_with_oneself_have_ids() -> None:
    bought = fill_id(encoded(FILL | {"side": "B", "crossed": False}), ALICE)
    assert {bought, fill_id(encoded(FILL), ALICE)} == {bought, bought[:-1] + "A"}


@pytest.mark.parametrize("row", [DUST, OLD], ids=["dust has tid 0", "2023 had no tid"])
def test_a_row_without_a_trade_has_an_id_made_of_its_fields(row: dict[str, Any]) -> None:
    event_id = fill_id(encoded(row), ALICE)
    assert event_id == fill_id(encoded(dict(reversed(row.items()))), ALICE), "whatever the order of its fields"
    assert event_id.rsplit(":", 4)[1:3] == [str(row["time"]), event_id.rsplit(":", 4)[2]]
    assert event_id.endswith(f":{ALICE}:A")
    others = [row | {name: other} for name, other in (("sz", "2.0"), ("startPosition", "5.0"), ("oid", 7), ("px", "3"))]
    others += [row | {"coin": "@152"}, row | {"time": row["time"] + 1}, row | {"side": "B"}]
    assert len({fill_id(encoded(other), ALICE) for other in [row, *others]}) == len(others) + 1


def test_a_twap_slice_has_the_id_of_the_fill_inside() -> None:
    assert fill_id(encoded({"fill": FILL, "twapId": 9}), ALICE) == fill_id(encoded(FILL), ALICE)


@pytest.mark.parametrize(
    ("coin", "perpetual"),
    [("BTC", True), ("kPEPE", True), ("xyz:SP500", True), ("@107", False), ("PURR/USDC", False), ("#5160", False)],
)
def test_perpetuals_are_recognised_by_their_name(coin: str, perpetual: bool) -> None:
    assert is_perpetual(coin) is perpetual


# --- what they say -----------------------------------------------------------------------------------------


def test_a_fill_has_all_fields_of_the_trade_and_more() -> None:
    fill = parsed(FILL)
    trade = parse_trade(
        encoded(TRADE),
        source_event_id=fill_id(encoded(FILL), ALICE),
        influencer_id="alice",
        address=ALICE,
        detect_time=NOW,
    )
    less = msgspec.structs.replace(fill, start_micros=None, fee_micros=None, metadata=trade.metadata, twin_id=None)
    assert less == trade
    assert trade.metadata.items() <= fill.metadata.items()
    assert fill.twin_id == fill_id(encoded(FILL | {"side": "B"}), ALICE)
    assert fill.metadata["oid"] == "498935919581"
    assert (fill.start_micros, fill.fee_micros, fill.order_type) == (micros("-11676987"), micros("0.120488"), None)
    assert (fill.share_micros, fill.price_micros, fill.notional_micros) == (145_123_000_000, 2_050, 297_502_150)


def test_the_side_is_the_users_own_and_the_crossing_order_is_the_takers() -> None:
    maker = parsed(FILL | {"side": "B", "crossed": False, "fee": "-0.000151"})
    assert (maker.trade_side, maker.taker, maker.fee_micros) == (TradeSide.BUY, False, -151)


def test_a_twap_slice() -> None:
    slice_ = {"fill": FILL | {"hash": ZERO_HASH}, "twapId": 822427}
    fill = parsed(slice_)
    assert fill.order_type == "twap"
    assert (fill.metadata["twap"], fill.metadata["twap_id"]) == ("1", "822427")
    within = parsed(FILL | {"hash": ZERO_HASH, "twapId": 822427})
    assert within == fill, "some versions say it in the fill"


def test_a_maker_who_met_a_twap_slice() -> None:
    fill = parsed(FILL | {"hash": ZERO_HASH, "crossed": False})
    assert (fill.metadata["twap"], fill.order_type) == ("1", None)


def test_a_liquidation_and_the_account_on_its_other_side() -> None:
    liquidation = {"liquidatedUser": ALICE.upper().replace("X", "x"), "markPx": "0.001982", "method": "backstop"}
    row = FILL | {"liquidation": liquidation}
    own = parsed(row)
    assert (own.order_type, own.metadata["liquidation"], own.metadata["liquidated"]) == (
        "liquidation",
        "backstop",
        ALICE,
    )
    other = parsed(row | {"side": "B"}, BOB)
    assert (other.order_type, other.metadata["liquidated"]) == (None, ALICE)


def test_a_spot_purchase_pays_its_fee_in_its_token_and_has_no_start_position() -> None:
    fill = parsed(FILL | {"coin": "@107", "side": "B", "startPosition": "1.00000003", "feeToken": "HYPE"})
    assert (fill.start_micros, fill.fee_micros, fill.metadata["fee"]) == (None, None, "0.120488 HYPE")


def test_dust_is_converted_without_an_order() -> None:
    fill = parsed(DUST)
    assert (fill.order_type, fill.share_micros, fill.metadata["dir"]) == ("dust_conversion", 68, "Spot Dust Conversion")
    assert "twap" not in fill.metadata
    with pytest.raises(WireError, match="more than six decimal places"):
        parsed(DUST | {"sz": "0.000068939"})


def test_a_settlement_may_pay_nothing() -> None:
    settled = FILL | {"coin": "#5160", "px": "0.0", "dir": "Settlement", "fee": "0.0", "tid": 802647614388392}
    fill = parsed(settled)
    assert (fill.price_micros, fill.notional_micros, fill.order_type) == (0, 0, "settlement")


def test_a_row_of_2023() -> None:
    fill = parsed(OLD)
    assert (fill.start_micros, fill.fee_micros, fill.metadata["tid"]) == (micros("-11676987"), micros("0.120488"), "0")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"px": "0.0"}, "not above zero"),
        ({"px": "abc"}, "not a plain decimal"),
        ({"px": "-1", "dir": "Settlement"}, "below zero"),
        ({"sz": "0.0000001"}, "more than six decimal places"),
        ({"sz": 5}, "not a fill"),
        ({"startPosition": "1e5"}, "startPosition"),
        ({"side": "X"}, "neither 'A' nor 'B'"),
        ({"crossed": None}, "not a fill"),
        ({"coin": ""}, "coin ''"),
        ({"coin": "B" * 101}, "coin 'BBB"),
        ({"coin": "BTC\r\nNats-Expected-Last-Sequence: 1"}, "coin"),
        ({"time": 0}, "time 0"),
    ],
)
def test_a_fill_with_a_malformed_field_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(WireError, match=why):
        parsed(FILL | fields)


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"{", b'{"fill":{}}', b"[" * 100_000])
def test_a_payload_that_is_no_fill_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError, match="not a fill"):
        read_fill(payload)


def test_a_fill_of_another_id_is_refused() -> None:
    with pytest.raises(WireError, match=f"{ALICE}:A came as hl:x"):
        parse_fill(encoded(FILL), source_event_id="hl:x", influencer_id="alice", address=ALICE, detect_time=NOW)


# --- real ones ---------------------------------------------------------------------------------------------


def recorded(name: str) -> str:
    folder = os.environ.get("VIBE_TEST_RECORDINGS")
    if not folder:
        pytest.skip("VIBE_TEST_RECORDINGS is not set: no recordings to compare with")
    return (Path(folder) / "hyperliquid" / name).read_text()


def leaders() -> dict[str, list[dict[str, Any]]]:
    """Real fills of four leaders by slot, in the venue's order."""
    by_slot: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in recorded("leader_fills.jsonl").splitlines():
        row = json.loads(line)
        by_slot[row.pop("slot")].append(row)
        del row["seq"]
    return by_slot


def seeded(rows: list[dict[str, Any]]) -> Account:
    """An account at the start position of each coin's first fill, a millisecond before all fills."""
    account, first = Account(), {row["coin"]: row["startPosition"] for row in reversed(rows)}
    for section in {influencer_account.section_of(coin) for coin in first}:
        held = {coin: size for coin, size in first.items() if influencer_account.section_of(coin) == section}
        report = AccountSeeded(
            seed_id=f"seed {section}",
            influencer_id="leader",
            venue=Venue.HYPERLIQUID,
            address=ALICE,
            section=section,
            positions=tuple(SeededPosition(coin, micros(size)) for coin, size in held.items()),
            event_time=(rows[0]["time"] - 1) * 1_000_000,
            detect_time=NOW,
        )
        influencer_account.evolve(account, report)
    return account


def fold(account: Account, trade: Trade) -> list[Any]:
    events = signals.record(account.holding(trade.asset), trade)
    for event in events:
        influencer_account.evolve(account, event)
    return list(events)


def test_real_fills_fold_into_the_positions_that_the_venue_reports() -> None:
    compared = 0
    for rows in leaders().values():
        account = seeded(rows)
        begun: set[str] = set()
        for row in rows:
            # Without its own word on the position, so that only the fold can know it.
            trade = msgspec.structs.replace(parsed(row), start_micros=None)
            (signal,) = fold(account, trade)
            assert signal.before_micros == micros(row["startPosition"])
            assert signal.position_state is PositionState.KNOWN
            compared += row["coin"] in begun
            begun.add(row["coin"])
    assert compared == 1_448


def test_real_fills_fit_the_positions_and_begin_one_where_none_is_known() -> None:
    count = 0
    for rows in leaders().values():
        account = Account()
        for row in rows:
            (signal,) = fold(account, parsed(row))
            assert (signal.before_micros, signal.position_state) == (micros(row["startPosition"]), PositionState.KNOWN)
            assert fold(account, parsed(row)) == [], "a second time it means nothing"
            count += 1
    assert count == 1_482


def test_a_real_fill_that_is_missing_is_a_gap_once() -> None:
    leaders_compared = 0
    for rows in leaders().values():
        by_coin: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            by_coin[row["coin"]].append(row)
        lonely = [
            (chain, at)
            for chain in by_coin.values()
            if len(chain) < signals.REMEMBERED
            for at in range(1, len(chain) - 1)
            if len({row["time"] for row in chain[at - 1 : at + 2]}) == 3
        ]
        if not lonely:
            continue  # every fill of this leader has company in its block
        leaders_compared += 1
        chain, missing = max(lonely, key=lambda found: len(found[0]))
        account = seeded(chain)
        events = [event for row in chain[:missing] + chain[missing + 1 :] for event in fold(account, parsed(row))]
        (gap,) = [event for event in events if isinstance(event, GapDetected)]
        assert gap.expected_micros == micros(chain[missing]["startPosition"])
        assert gap.found_micros == micros(chain[missing + 1]["startPosition"])
        held = account.holding(chain[0]["coin"]).share_micros
        (late,) = fold(account, parsed(chain[missing]))
        assert late.position_state is PositionState.HISTORIC
        assert account.holding(chain[0]["coin"]).share_micros == held, "it comes late and moves nothing"
    assert leaders_compared >= 2


def test_real_fills_have_ids_of_their_own() -> None:
    for rows in leaders().values():
        assert len({fill_id(encoded(row), ALICE) for row in rows}) == len(rows)


def test_a_real_page_of_2023_parses() -> None:
    text = recorded("info_cassettes/test_get_user_fills_by_time.yaml")
    body = re.search(r"string: '(\[.*?\])'", text, re.DOTALL)
    assert body is not None
    rows = json.loads(re.sub(r"\n\s+", " ", body[1]))
    assert len(rows) == 500
    assert len({fill_id(encoded(row), ALICE) for row in rows}) == len(rows)
    both_sides = defaultdict(set)
    for row in rows:
        both_sides[name(row)].add(row["side"])
    chained = [row for row in sorted(rows, key=lambda row: row["time"]) if len(both_sides[name(row)]) == 1]
    assert len(rows) - len(chained) == 166, "trades with oneself: both sides say the position before the trade"
    account, gaps = Account(), 0
    for row in chained:
        events = fold(account, parsed(row))
        gaps += isinstance(events[0], GapDetected)
        assert events[-1].before_micros == micros(row["startPosition"])
    assert gaps == 1, "in the first millisecond of the page, which begins inside it"


def name(row: dict[str, Any]) -> tuple[Any, ...]:
    """What both sides of a trade have in common where there is no tid."""
    return (row["coin"], row["time"], row["hash"], row["px"], row["sz"])
