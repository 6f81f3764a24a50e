"""Requests with one field broken: the sandbox answers or cannot read them, and never fails otherwise."""

import copy
import random
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from gateways.hyperliquid.signing import SigningKey, sign_action
from gateways.sandbox.hyperliquid import Limits, info
from gateways.sandbox.hyperliquid.exchange import weight
from gateways.sandbox.hyperliquid.faults import Faults
from gateways.sandbox.hyperliquid.load_source import LoadSource
from gateways.sandbox.hyperliquid.subscriptions import Unparsable
from gateways.sandbox.hyperliquid.venue import Venue
from gateways.sandbox.hyperliquid.websocket_hub import WebsocketHub

KEY = SigningKey.from_hex("05" * 32)
NUMBERS: list[Any] = [0, -1, 1, 2**70, 1.5, 1e308]
TEXTS: list[Any] = ["", "x", "0x", "NaN", "Infinity", "-1", "1e400", "0x" + "1" * 40, "0x" + "1" * 32, "1_0"]
OTHERS: list[Any] = [None, True, False, [], [None], [[]], {}, {"limit": {}}, {"limit": {"tif": []}}, {"trigger": {}}]
JUNK = NUMBERS + TEXTS + OTHERS
ORDER = {"a": 0, "b": True, "p": "100", "s": "1", "r": False, "t": {"limit": {"tif": "Gtc"}}, "c": "0x" + "1" * 32}
APPROVAL = {
    "type": "approveAgent",
    "agentAddress": "0x" + "2" * 40,
    "agentName": "x",
    "nonce": 5,
    "signatureChainId": "0x66eee",
    "hyperliquidChain": "Testnet",
}
ACTIONS: list[dict[str, Any]] = [
    {"type": "order", "orders": [ORDER, ORDER], "grouping": "na"},
    {"type": "cancel", "cancels": [{"a": 0, "o": 1}]},
    {"type": "cancelByCloid", "cancels": [{"asset": 0, "cloid": "0x" + "1" * 32}]},
    {"type": "modify", "oid": 1, "order": ORDER},
    {"type": "batchModify", "modifies": [{"oid": 1, "order": ORDER}]},
    {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 5},
    {"type": "updateIsolatedMargin", "asset": 0, "isBuy": True, "ntli": 5},
    {"type": "scheduleCancel", "time": 5},
    APPROVAL,
    {"type": "noop"},
]
ASKED: dict[str, Any] = {
    "user": KEY.address,
    "coin": "L000",
    "startTime": 0,
    "endTime": None,
    "oid": 1,
    "dex": "",
    "req": {"coin": "L000", "interval": "1m", "startTime": 0, "endTime": 5},
}
NONCE = time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def venue() -> Venue:
    faults = Faults()
    source = LoadSource(rate=1, influencers=3, coins=2, seconds=1)
    made = Venue(source, WebsocketHub(Limits(), faults), faults, time.time_ns)
    made.exchange.open_account(KEY.address, Decimal(1_000_000))
    return made


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be replaced, by the keys that lead there."""
    if at:
        yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


def broken(rng: random.Random, body: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(body)
    *outer, last = rng.choice(list(places(made)))
    inside: Any = made
    for key in outer:
        inside = inside[key]
    inside[last] = copy.deepcopy(rng.choice(JUNK))
    return made


def answered(venue: Venue, body: Any) -> bool:
    """Whether the action was read; what is read gets a status."""
    try:
        weight(body)
        answer = venue.exchange.act(body)
    except Unparsable:
        return False
    assert answer["status"] in ("ok", "err")
    return True


def test_a_broken_action_is_answered_or_cannot_be_read(venue: Venue) -> None:
    rng, read = random.Random(13), 0
    for number in range(1_500):
        # Half of them are signed after they were broken, so that what is wrong reaches the matching engine.
        action, nonce = copy.deepcopy(rng.choice(ACTIONS)), NONCE + number
        inside = broken(rng, action) if number % 2 else action
        try:
            signed = sign_action(KEY, inside, nonce=nonce, expires_after=None, mainnet=False).wire()
        except OverflowError:  # a number that the encoding has no room for
            signed = {"r": "0x1", "s": "0x1", "v": 27}
        body = {"action": inside, "nonce": nonce, "signature": signed, "vaultAddress": None, "expiresAfter": None}
        read += answered(venue, body if number % 2 else broken(rng, body))
    assert 0 < read < 1_500
    assert any(order.status == "open" for order in venue.market.trading[KEY.address].orders.values())


def test_a_broken_question_is_answered_or_cannot_be_read(venue: Venue) -> None:
    rng, read = random.Random(17), 0
    kinds = ["fundingHistory", "candleSnapshot", "userFillsByTime", "orderStatus", "activeAssetData", "l2Book", "meta"]
    for _ in range(1_500):
        body = {"type": rng.choice(kinds), **broken(rng, ASKED)}
        try:
            info.surcharge(body, info.answer(venue.market, NONCE, body))
            read += 1
        except Unparsable:
            continue
    assert 0 < read < 1_500
