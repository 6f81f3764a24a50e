"""The logs of the sandbox: every contract event encoded exactly, and each row of the Data API behind one of them."""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from gateways.sandbox.polymarket import INFLUENCERS, MARKETS, abi
from gateways.sandbox.polymarket.actions import Match, Order
from gateways.sandbox.polymarket.books import Book
from gateways.sandbox.polymarket.ledger import Entry, Kind
from gateways.sandbox.polymarket.markets import BY_TOKEN
from gateways.sandbox.polymarket.traders import MAKER, SPLITTER, TAKER
from tests.gateways.test_sandbox_polymarket_data import ORIGIN_S, played
from tests.gateways.test_sandbox_polymarket_polygon import logs_of, rpc


def words(log: dict[str, Any]) -> list[int]:
    data = log["data"][2:]
    return [int(data[at : at + 64], 16) for at in range(0, len(data), 64)]


def fill(log: dict[str, Any]) -> tuple[str, str, str, int, int, int]:
    """(transaction, token, side, shares, pUSD, fee) of an OrderFilled log."""
    side, token, paid, got, fee, builder, metadata = words(log)
    assert (builder, metadata) == (0, 0)
    shares, usdc = (got, paid) if side == 0 else (paid, got)
    return log["transactionHash"], str(token), ("BUY", "SELL")[side], shares, usdc, fee


async def test_every_row_is_one_log_of_the_same_wallet_transaction_token_and_size() -> None:
    async with played() as client:
        for who in INFLUENCERS:
            logs = await logs_of(client, who.address)
            rows = await client.walk("/data/v2/activity", user=who.address, type="TRADE", start=ORIGIN_S, limit=100)
            assert len(rows) >= 2
            by_log = Counter((tx, token, side, shares) for tx, token, side, shares, *_ in map(fill, logs))
            by_row = Counter(
                (row["transaction_hash"], row["token_id"], row["side"], round(row["size"] * 1_000_000)) for row in rows
            )
            assert by_log == by_row
            stamps = {log["transactionHash"]: int(log["blockTimestamp"], 16) for log in logs}
            assert all(row["timestamp"] == stamps[row["transaction_hash"]] for row in rows)
            taking = {log["topics"][3] == abi.topic(log["address"]) for log in logs}
            assert taking == {TAKER: {True}, MAKER: {False}}.get(who, taking)


async def test_a_transaction_logs_makers_first_and_the_taker_against_the_exchange() -> None:
    async with played() as client:
        first = hex(client.sandbox.venue.chain.first)
        logs = (await rpc(client, "eth_getLogs", {"fromBlock": first, "topics": [abi.ORDER_FILLED]}))["result"]
        by_transaction: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for log in logs:
            by_transaction[log["transactionHash"]].append(log)
        assert len(by_transaction) > 60
        mint_or_merge = 0
        for group in by_transaction.values():
            *makers, taker = group
            assert makers
            assert taker["topics"][3] == abi.topic(taker["address"])
            assert all(maker["topics"][3] == taker["topics"][2] for maker in makers)
            assert all(fill(maker)[5] == 0 for maker in makers)
            mint_or_merge += sum(fill(maker)[2] == fill(taker)[2] for maker in makers)
            listing, _ = BY_TOKEN[fill(taker)[1]]
            assert taker["address"] == abi.exchange_of(listing)
        assert mint_or_merge > len(logs) * 0.2
        places = [(int(log["blockNumber"], 16), int(log["logIndex"], 16)) for log in logs]
        assert places == sorted(set(places))


def test_logs_are_the_bytes_of_real_ones() -> None:
    folder = os.environ.get("VIBE_TEST_RECORDINGS")
    if not folder:
        pytest.skip("VIBE_TEST_RECORDINGS is not set: no recordings to compare with")
    recorded = json.loads((Path(folder) / "polymarket" / "v2_orderfilled_logs.json").read_text())
    listing = MARKETS[1]
    orders: list[Order] = []
    for log in recorded:
        side, _, paid, got, fee, *_ = words(log)
        shares, usdc = (got, paid) if side == 0 else (paid, got)
        wallet = "0x" + log["topics"][2][26:]
        entry = Entry(wallet, Kind.TRADE, listing, len(orders), side == 0, shares, usdc, fee)
        orders.append(Order(entry, log["topics"][1]))
    match = Match(0, "", listing, (orders[0],), orders[1], 0, Book((), ()), recorded[0]["transactionHash"])
    emitted = abi.of_match(match)[:2]
    for made, log, token in zip(emitted, recorded, listing.tokens, strict=True):
        assert made.address == log["address"].lower()
        assert list(made.topics) == log["topics"]
        real = log["data"][:66] + f"{int(token):064x}" + log["data"][130:]
        assert made.data == real, "the token aside"


async def test_splits_merges_and_redemptions_are_logged_by_their_contracts() -> None:
    async with played() as client:
        wallet = abi.topic(SPLITTER.address)
        first = hex(client.sandbox.venue.chain.first)
        query = {"fromBlock": first, "topics": [None, wallet]}
        logs = (await rpc(client, "eth_getLogs", query))["result"]
        rows = await client.walk("/data/v2/activity", user=SPLITTER.address, start=ORIGIN_S, type="SPLIT,MERGE,REDEEM")
        conditions = {listing.condition: listing for listing in MARKETS}
        names = {
            abi.POSITION_SPLIT: "SPLIT",
            abi.NEG_RISK_SPLIT: "SPLIT",
            abi.POSITIONS_MERGE: "MERGE",
            abi.NEG_RISK_MERGE: "MERGE",
        }
        moved = []
        for log in logs:
            if log["topics"][0] not in names:
                continue
            condition = log["topics"][-1]
            neg_risk = conditions[condition].neg_risk
            assert log["address"] == (abi.NEG_RISK_ADAPTER if neg_risk else abi.CONDITIONAL_TOKENS)
            amount = words(log)[0] if neg_risk else words(log)[2]
            if not neg_risk:
                assert words(log) == [int(abi.PUSD, 16), 0x60, amount, 2, 1, 2]
            moved.append((log["transactionHash"], names[log["topics"][0]], condition, amount))
        assert Counter(moved) == Counter(
            (row["transaction_hash"], row["type"], row["condition_id"], round(row["size"] * 1_000_000))
            for row in rows
            if row["type"] != "REDEEM"
        )
        redeemed = [log for log in logs if log["topics"][0] == abi.PAYOUT_REDEMPTION]
        assert len(redeemed) == 1
        condition, offset, payout, count, *sets = words(redeemed[0])
        assert f"0x{condition:064x}" == MARKETS[0].condition
        assert (offset, count, sets) == (0x60, 2, [1, 2])
        assert payout == sum(round(row["usdc_size"] * 1_000_000) for row in rows if row["type"] == "REDEEM")
        ended = {"fromBlock": first, "topics": [abi.CONDITION_RESOLUTION]}
        report = (await rpc(client, "eth_getLogs", ended))["result"]
        assert [log["topics"][1] for log in report] == [MARKETS[0].condition]
        assert sorted(words(report[0])[3:]) == [0, 1]
