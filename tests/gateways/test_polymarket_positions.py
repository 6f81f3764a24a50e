"""Positions, values and profiles of wallets as the venue writes them."""

import json
from typing import Any

import pytest

from domain.events import SeededPosition
from domain.micros import MICRO
from gateways.polymarket.gamma import parse_profile
from gateways.polymarket.positions import parse_positions, parse_value
from gateways.venue_errors import WireError
from tests.gateways.test_polymarket_market import MARKET, NO, YES


def test_positions_of_both_versions() -> None:
    old = [{"asset": YES, "conditionId": MARKET, "size": 1.5, "avgPrice": 0.33333333333}]
    new = [{"token_id": YES, "condition_id": MARKET, "current_size": "1.5", "avg_price": "0.33333333333"}]
    expected = (SeededPosition(asset=YES, share_micros=1_500_000, market=MARKET, price_micros=333_333),)
    assert parse_positions(json.dumps(old).encode()) == parse_positions(json.dumps(new).encode()) == (expected, ())


def test_positions_of_size_zero_are_left_out_and_an_unknown_average_is_none() -> None:
    rows = [
        {"asset": YES, "conditionId": MARKET, "size": 0, "avgPrice": 0.1},
        {"asset": NO, "conditionId": MARKET, "size": 2, "avgPrice": None},
    ]
    assert parse_positions(json.dumps(rows).encode()).positions == (
        SeededPosition(asset=NO, share_micros=2 * MICRO, market=MARKET, price_micros=None),
    )
    assert parse_positions(b"[]") == ((), ())


@pytest.mark.parametrize(
    "changes",
    [
        {"size": None},
        {"size": "many"},
        {"size": -1},
        {"size": 0.0000001},
        {"conditionId": ""},
    ],
    ids=str,
)
def test_an_odd_row_costs_that_row_and_names_its_asset(changes: dict[str, Any]) -> None:
    row = {"asset": YES, "conditionId": MARKET, "size": 1, "avgPrice": 0.5}
    other = row | {"asset": NO}
    report = parse_positions(json.dumps([row | changes, other]).encode())
    assert ([position.asset for position in report.positions], report.unread) == ([NO], (YES,))


def test_a_row_without_an_asset_is_refused_with_its_report() -> None:
    row = {"asset": "", "conditionId": MARKET, "size": 1, "avgPrice": 0.5}
    with pytest.raises(WireError):
        parse_positions(json.dumps([row]).encode())


@pytest.mark.parametrize("odd", [1.02, -0.1, "many", True])
def test_an_odd_average_price_costs_that_price_and_not_the_report(odd: object) -> None:
    rows = [
        {"asset": YES, "conditionId": MARKET, "size": 3, "avgPrice": odd},
        {"asset": NO, "conditionId": MARKET, "size": 2, "avgPrice": 0.5},
    ]
    assert parse_positions(json.dumps(rows).encode()).positions == (
        SeededPosition(asset=YES, share_micros=3 * MICRO, market=MARKET, price_micros=None),
        SeededPosition(asset=NO, share_micros=2 * MICRO, market=MARKET, price_micros=MICRO // 2),
    )


@pytest.mark.parametrize("payload", [b"null", b"{}", b'{"error":"x"}', b"[1]", b""])
def test_a_payload_that_is_no_list_of_positions_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        parse_positions(payload)


def test_an_asset_listed_twice_is_refused() -> None:
    row = {"asset": YES, "conditionId": MARKET, "size": 1, "avgPrice": 0.5}
    with pytest.raises(WireError, match="listed twice"):
        parse_positions(json.dumps([row, row]).encode())


@pytest.mark.parametrize(
    ("payload", "micros"),
    [
        (b'[{"user":"0x1","value":123.45}]', 123_450_000),
        (b'{"data":{"proxy_wallet":"0x1","value":2481.29716543}}', 2_481_297_165),
        (b"[]", 0),
    ],
)
def test_a_value(payload: bytes, micros: int) -> None:
    assert parse_value(payload) == micros


@pytest.mark.parametrize(
    "payload", [b"null", b"{}", b'[{"user":"0x1"}]', b'[{"value":1},{"value":2}]', b'[{"value":"a"}]', b"5"]
)
def test_a_payload_that_is_no_value_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        parse_value(payload)


def test_a_profile_has_all_wallets_once_in_lower_case() -> None:
    one, two = "0x" + "aB" * 20, "0x" + "cd" * 20
    users = [{"id": "1", "creator": False}, {"proxyWallet": two}, {"proxyWallet": one.lower()}]
    payload = json.dumps({"proxyWallet": one, "name": "", "pseudonym": "Outlandish-Shop", "users": users}).encode()
    profile = parse_profile(payload)
    assert (profile.proxy_wallets, profile.name) == ((one.lower(), two), "Outlandish-Shop")
    assert bytes(profile.payload) == payload


@pytest.mark.parametrize("payload", [b"[]", b'{"proxyWallet":"me"}', b'{"proxyWallet":5}', b""])
def test_a_payload_that_is_no_profile_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        parse_profile(payload)
