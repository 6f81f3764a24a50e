"""Raw events as venues send them, beside trades and account reports: Hyperliquid fills, and all of Polymarket's."""

import json
from typing import Any

import msgspec
from msgspec import Raw

from domain.events import RawReceived, Venue
from gateways.hyperliquid.fill_parsing import fill_id
from gateways.polymarket.activity import numbered
from gateways.polymarket.log_parsing import EXCHANGES, FILLED, log_id
from tests.handlers.folding import ALICE, NOW, SECOND

MARKET, YES, NO = "0x" + "ab" * 32, "1088722", "8971117"
THEN = 1_794_999_999
"""A second before it is all detected."""


def raw(raw_id: str, channel: str, payload: bytes, *, venue: Venue = Venue.POLYMARKET, **fields: Any) -> RawReceived:
    made = RawReceived(
        raw_id=raw_id,
        venue=venue,
        channel=channel,
        influencer_id="alice",
        address=ALICE,
        payload=Raw(payload),
        detect_time=NOW,
    )
    return msgspec.structs.replace(made, **fields)


def fill(side: str = "B", *, raw_id: str = "", **fields: Any) -> RawReceived:
    """One of Alice's own fills, by default the one behind `trade()`."""
    wire: dict[str, Any] = {
        "coin": "BTC",
        "px": "100.5",
        "sz": "2.0",
        "side": side,
        "time": THEN * 1000,
        "startPosition": "0.0",
        "dir": "Open Long",
        "hash": "0x12",
        "oid": 77,
        "crossed": True,
        "fee": "0.0905",
        "tid": 1,
        "feeToken": "USDC",
    } | fields
    payload = msgspec.json.encode(wire)
    return raw(raw_id or fill_id(payload, ALICE), "userFills", payload, venue=Venue.HYPERLIQUID)


def activity(kind: str = "TRADE", *, number: int = 0, **fields: Any) -> RawReceived:
    """A row of Alice's activity: by default she buys 10 shares of YES at 0.40, with a fee of a cent."""
    row: dict[str, Any] = {
        "proxyWallet": ALICE,
        "timestamp": THEN,
        "conditionId": MARKET,
        "type": kind,
        "size": 10,
        "usdcSize": 4.01,
        "transactionHash": "0x" + "0c" * 32,
        "price": 0.4,
        "asset": YES,
        "side": "BUY",
        "outcomeIndex": 0,
    } | fields
    payload = json.dumps(row).encode()
    ids = numbered([Raw(payload)] * (number + 1))
    return raw(ids[number][0], "activity", payload)


def moved(kind: str, size: float, usdc: float, *, asset: str = "", **fields: Any) -> RawReceived:
    """A row that is no trade: SPLIT, MERGE, REDEEM, CONVERSION, REWARD."""
    nothing: dict[str, Any] = {"side": "", "price": 0, "asset": asset, "outcomeIndex": 999}
    return activity(kind, **(nothing | {"size": size, "usdcSize": usdc} | fields))


def chain(
    side: str = "BUY",
    shares: int = 10_000_000,
    usdc: int = 4_000_000,
    *,
    asset: str = YES,
    block: str = "0b",
    index: int = 1,
    removed: bool = False,
    **fields: Any,
) -> RawReceived:
    """The log behind `activity()`, two seconds earlier in our hands."""
    made, taken = (usdc, shares) if side == "BUY" else (shares, usdc)
    words = (int(side == "SELL"), int(asset), made, taken, 10_000, 0, 0)
    wire: dict[str, Any] = {
        "address": EXCHANGES[0],
        "blockHash": "0x" + block * 32,
        "blockNumber": "0x10",
        "data": "0x" + "".join(f"{word:064x}" for word in words),
        "logIndex": hex(index),
        "removed": removed,
        "topics": [FILLED, "0x" + "1e" * 32, "0x" + "0" * 24 + ALICE[2:], "0x" + "0" * 24 + EXCHANGES[0][2:]],
        "transactionHash": "0x" + "0c" * 32,
    } | fields
    payload = json.dumps(wire).encode()
    return raw(log_id(payload), "chain", payload, venue_time=THEN * SECOND, detect_time=NOW - 2 * SECOND)


def positions(
    *held: tuple[str, float], as_of: int = THEN - 100, value: float | None = None, cash: int | None = None
) -> RawReceived:
    """What Alice's wallet holds, bought at 0.30, as of a second."""
    rows = [{"asset": asset, "conditionId": MARKET, "size": size, "avgPrice": 0.3} for asset, size in held]
    report = {
        "positions": rows,
        "value": None if value is None else [{"user": ALICE, "value": value}],
        "cash": None if cash is None else str(cash),
    }
    return raw(f"pm:positions:{ALICE}:{as_of}", "positions", json.dumps(report).encode(), venue_time=as_of * SECOND)


def market(**fields: Any) -> RawReceived:
    wire = {
        "conditionId": MARKET,
        "question": "Will it?",
        "slug": "will-it",
        "outcomes": '["Yes", "No"]',
        "clobTokenIds": json.dumps([YES, NO]),
        "acceptingOrders": True,
    } | fields
    return raw(f"pm:market:{MARKET}:1", "market", json.dumps(wire).encode())
