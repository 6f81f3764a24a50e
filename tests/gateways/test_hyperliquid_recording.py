"""Recorded answers of Hyperliquid, read by the gateway.

Set VIBE_TEST_RECORDINGS to a folder with `hyperliquid/ws_frames_90s.jsonl` and others; without it these tests skip.
"""

import json
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.events import TradeSide
from domain.micros import micros
from gateways.hyperliquid.parsing import (
    RAW_TRADES,
    TRADE_HEADS,
    parse_account,
    parse_book,
    parse_trade,
    raw_id,
)


def recorded(name: str) -> Iterator[dict[str, Any]]:
    folder = os.environ.get("VIBE_TEST_RECORDINGS")
    if not folder:
        pytest.skip("VIBE_TEST_RECORDINGS is not set: no recordings to compare with")
    for line in (Path(folder) / "hyperliquid" / name).read_text().splitlines():
        yield json.loads(line)


def test_every_recorded_trade_parses_on_both_sides_and_its_notional_is_exact() -> None:
    checked = 0
    for row in recorded("ws_frames_90s.jsonl"):
        if row["channel"] != "trades":
            continue
        data = json.dumps(row["data"]).encode()
        for raw, head, wire in zip(RAW_TRADES.decode(data), TRADE_HEADS.decode(data), row["data"], strict=True):
            for side, user in zip((TradeSide.BUY, TradeSide.SELL), head.users, strict=True):
                trade = parse_trade(
                    bytes(raw),
                    source_event_id=raw_id(head, user.lower(), side),
                    influencer_id="ann",
                    address=user.lower(),
                    detect_time=row["received_wall_ns"],
                )
                assert Fraction(trade.notional_micros, 10**6) == Fraction(wire["px"]) * Fraction(wire["sz"])
                assert Fraction(trade.share_micros, 10**6) == Fraction(wire["sz"])
                assert Fraction(trade.price_micros, 10**6) == Fraction(wire["px"])
                assert trade.taker == ((wire["side"] == "B") == (side is TradeSide.BUY))
                checked += 1
    assert checked == 2 * 429


def test_every_recorded_book_parses_with_bids_below_asks() -> None:
    books = [row["data"] for row in recorded("ws_frames_90s.jsonl") if row["channel"] == "l2Book"]
    assert books
    for wire in books:
        found = parse_book(json.dumps(wire).encode())
        assert found is not None
        assert [price for price, _ in found.bids] == [micros(row["px"]) for row in wire["levels"][0]]
        assert [price for price, _ in found.asks] == [micros(row["px"]) for row in wire["levels"][1]]
        assert found.bids[0][0] < found.asks[0][0]


def test_a_recorded_account_parses() -> None:
    samples = list(recorded("samples/rest_and_exchange_recorded.jsonl"))
    reports = [row["resp"] for row in samples if row["kind"] == "clearinghouseState"]
    assert reports
    for wire in reports:
        as_of, positions, equity = parse_account(msgspec.json.encode(wire))
        assert as_of == wire["time"] * 1_000_000
        assert equity == micros(wire["marginSummary"]["accountValue"])
        rows = [row["position"] for row in wire["assetPositions"]]
        assert [(p.asset, Fraction(p.share_micros, 10**6), p.leverage) for p in positions] == [
            (row["coin"], Fraction(row["szi"]), row["leverage"]["value"]) for row in rows
        ]


def test_the_recorded_fills_of_every_leader_chain_to_the_micro() -> None:
    """Each fill starts where the one before left the position: micros lose nothing of what the venue counts."""
    position: dict[tuple[str, str], int] = {}
    chained = 0
    for fill in recorded("leader_fills.jsonl"):
        chain = (fill["slot"], fill["coin"])
        start = micros(fill["startPosition"])
        if chain in position:
            assert start == position[chain], fill
            chained += 1
        position[chain] = start + micros(fill["sz"]) * (1 if fill["side"] == "B" else -1)
    assert (chained, len(position)) == (1_448, 34)
