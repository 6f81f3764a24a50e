"""`POST /info` of the sandbox."""

import asyncio
import itertools
from collections import defaultdict
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from gateways.sandbox.hyperliquid import INFLUENCERS, FlowSource, Sandbox
from gateways.sandbox.hyperliquid.coins import COINS
from gateways.sandbox.hyperliquid.info import answer
from gateways.sandbox.hyperliquid.market import Market
from gateways.sandbox.hyperliquid.market_data import ZERO_HASH, Trade
from gateways.sandbox.hyperliquid.traders import MAKERS
from tests.gateways.test_sandbox_hyperliquid_ws import (
    FILL_KEYS,
    ORIGIN_MS,
    ORIGIN_NS,
    SEED,
    Clock,
    played,
    serving,
    until,
    wire_trades,
)

ZERO = Decimal(0)


async def ask(sandbox: Sandbox, **body: object) -> Any:
    async with aiohttp.ClientSession() as http, http.post(f"{sandbox.url}/info", json=body) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "application/json"
        return await response.json()


def folded(user: str, trades: list[dict[str, Any]]) -> dict[str, Decimal]:
    """The open positions that trades leave, by coin."""
    sizes: defaultdict[str, Decimal] = defaultdict(Decimal)
    for trade in trades:
        buyer, seller = trade["users"]
        sizes[trade["coin"]] += Decimal(trade["sz"]) * ((buyer == user) - (seller == user))
    return {coin: size for coin, size in sizes.items() if size}


def taker(trade: dict[str, Any]) -> str:
    return str(trade["users"][trade["side"] == "A"])


async def test_meta_of_each_dex() -> None:
    async with played(0.1) as sandbox:
        main, other = await ask(sandbox, type="meta"), await ask(sandbox, type="meta", dex="xyz")
        assert main == await ask(sandbox, type="meta", dex="")
    assert list(main) == ["universe", "marginTables", "collateralToken"]
    assert main["universe"][0] == {"szDecimals": 5, "name": "BTC", "maxLeverage": 40, "marginTableId": 56}
    assert [row["name"] for row in main["universe"]] == [coin.name for coin in COINS if not coin.dex]
    assert {"BTC", "ETH", "SOL", "HYPE", "DOGE", "kPEPE", "PUMP"} <= {row["name"] for row in main["universe"]}
    assert [row["name"] for row in other["universe"]] == ["xyz:SP500"]
    tables = {table for table, _ in main["marginTables"]}
    assert {row["marginTableId"] for row in main["universe"]} == tables
    assert main["marginTables"][0][1]["marginTiers"][0] == {"lowerBound": "0.0", "maxLeverage": 10}


async def test_builder_dexes() -> None:
    async with played(0.1) as sandbox:
        main, xyz = await ask(sandbox, type="perpDexs")
    assert main is None
    assert xyz["name"] == "xyz"
    assert xyz["assetToStreamingOiCap"] == [["xyz:SP500", "25000000.0"]]


async def test_mids_and_books_agree() -> None:
    async with played(10) as sandbox:
        mids = await ask(sandbox, type="allMids") | await ask(sandbox, type="allMids", dex="xyz")
        assert set(mids) == {coin.name for coin in COINS}
        for coin, mid in mids.items():
            book = await ask(sandbox, type="l2Book", coin=coin)
            bid, ask_ = (Decimal(side[0]["px"]) for side in book["levels"])
            assert Decimal(mid) == (bid + ask_) / 2
            assert list(book) == ["coin", "time", "levels"]
            assert [len(side) for side in book["levels"]] == [20, 20]
        assert await ask(sandbox, type="l2Book", coin="NOPE") is None
        coarse = await ask(sandbox, type="l2Book", coin="BTC", nSigFigs=3, mantissa=None)
        assert all(Decimal(row["px"]) % 100 == 0 for side in coarse["levels"] for row in side)


async def test_clearinghouse_state_holds_what_the_flow_leaves() -> None:
    async with played(30) as sandbox:
        for who in INFLUENCERS:
            sizes = folded(who.address, wire_trades(until(30)))
            for dex in ("", "xyz"):
                state = await ask(
                    sandbox, type="clearinghouseState", user=who.address.upper().replace("X", "x"), dex=dex
                )
                held = {row["position"]["coin"]: Decimal(row["position"]["szi"]) for row in state["assetPositions"]}
                assert held == {coin: size for coin, size in sizes.items() if coin.startswith("xyz:") == (dex == "xyz")}
                assert state["time"] == ORIGIN_MS + 30_000


async def test_the_shape_of_clearinghouse_state() -> None:
    async with played(30) as sandbox:
        state = await ask(sandbox, type="clearinghouseState", user=INFLUENCERS[0].address)
        mids = await ask(sandbox, type="allMids")
    assert set(state) == {
        "marginSummary",
        "crossMarginSummary",
        "crossMaintenanceMarginUsed",
        "withdrawable",
        "assetPositions",
        "time",
    }
    assert list(state["marginSummary"]) == ["accountValue", "totalNtlPos", "totalRawUsd", "totalMarginUsed"]
    rows = [row["position"] for row in state["assetPositions"]]
    assert rows
    for row in rows:
        assert " ".join(row) == (
            "coin szi leverage entryPx positionValue unrealizedPnl returnOnEquity liquidationPx marginUsed maxLeverage "
            "cumFunding"
        )
        assert Decimal(row["positionValue"]) == abs(Decimal(row["szi"])) * Decimal(mids[row["coin"]])
        gain = Decimal(row["szi"]) * (Decimal(mids[row["coin"]]) - Decimal(row["entryPx"]))
        assert Decimal(row["unrealizedPnl"]) == pytest.approx(gain, abs=Decimal(row["positionValue"]) / 10_000)
    summary = {key: Decimal(value) for key, value in state["marginSummary"].items()}
    assert summary["totalNtlPos"] == sum((Decimal(row["positionValue"]) for row in rows), ZERO)
    assert Decimal(990_000) < summary["accountValue"] < Decimal(1_010_000)
    net = sum((Decimal(row["positionValue"]).copy_sign(Decimal(row["szi"])) for row in rows), ZERO)
    assert summary["totalRawUsd"] == summary["accountValue"] - net


async def test_everybody_is_flat_at_the_origin_and_a_stranger_has_nothing() -> None:
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS)) as sandbox:
        await asyncio.sleep(0.05)
        for who in INFLUENCERS:
            state = await ask(sandbox, type="clearinghouseState", user=who.address)
            assert state["assetPositions"] == []
            assert state["marginSummary"]["accountValue"] == "1000000.0"
        stranger = await ask(sandbox, type="clearinghouseState", user="0x" + "0" * 40)
        assert stranger["marginSummary"]["accountValue"] == "0.0"
        assert await ask(sandbox, type="userFills", user="0x" + "0" * 40) == []


async def test_the_time_of_a_state_never_runs_ahead_of_what_is_played() -> None:
    clock, user = Clock(), INFLUENCERS[1].address
    every = wire_trades(until(12))
    async with serving(FlowSource(SEED, origin_ns=ORIGIN_NS), clock) as sandbox:
        for _ in range(40):
            clock.advance(0.25)
            state = await ask(sandbox, type="clearinghouseState", user=user)
            held = {row["position"]["coin"]: Decimal(row["position"]["szi"]) for row in state["assetPositions"]}
            known = folded(user, [trade for trade in every if trade["time"] <= state["time"]])
            assert held == {coin: size for coin, size in known.items() if ":" not in coin}


async def test_fills_of_a_user_and_the_slices_of_its_twaps() -> None:
    who = INFLUENCERS[2]
    async with played(60) as sandbox:
        every = [trade for trade in wire_trades(until(60)) if who.address in trade["users"]]
        sliced = [trade for trade in every if trade["hash"] == ZERO_HASH and taker(trade) == who.address]
        expected = [trade for trade in every if trade not in sliced]
        assert sliced
        assert expected
        newest_first = await ask(sandbox, type="userFills", user=who.address)
        assert [fill["tid"] for fill in newest_first] == [trade["tid"] for trade in reversed(expected)]
        middle = expected[len(expected) // 2]["time"]
        later = await ask(sandbox, type="userFillsByTime", user=who.address, startTime=middle)
        assert [fill["tid"] for fill in later] == [trade["tid"] for trade in expected if trade["time"] >= middle]
        earlier = await ask(sandbox, type="userFillsByTime", user=who.address, startTime=0, endTime=middle)
        assert [fill["tid"] for fill in earlier] == [trade["tid"] for trade in expected if trade["time"] <= middle]
        slices = await ask(sandbox, type="userTwapSliceFillsByTime", user=who.address, startTime=0)
        assert [row["fill"]["tid"] for row in slices] == [trade["tid"] for trade in sliced]
        last = slices[-1]["fill"]["time"]
        assert await ask(sandbox, type="userTwapSliceFillsByTime", user=who.address, startTime=last + 1) == []
    for row in slices:
        assert list(row) == ["fill", "twapId"]
        assert (row["fill"]["hash"], row["fill"]["twapId"], type(row["twapId"])) == (ZERO_HASH, None, int)
    assert all(list(fill) == FILL_KEYS for fill in newest_first)
    by_coin: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for fill in sorted([*reversed(newest_first), *(row["fill"] for row in slices)], key=lambda fill: fill["time"]):
        by_coin[fill["coin"]].append(fill)
    for fills in by_coin.values():
        assert fills[0]["startPosition"] == "0.0"
        for before, after in itertools.pairwise(fills):
            moved = Decimal(before["sz"]) * (1 if before["side"] == "B" else -1)
            assert Decimal(after["startPosition"]) == Decimal(before["startPosition"]) + moved


def test_pages_hold_2000_fills() -> None:
    market, user = Market(), INFLUENCERS[0].address
    market.list_coins(COINS)
    for tid in range(2_100):
        trade = Trade(
            "BTC", "B", Decimal(60_000), Decimal("0.1"), ORIGIN_MS + tid, "0x" + "1" * 64, tid, (user, MAKERS[0])
        )
        market.settle(trade, 2, 1)
    first = answer(market, 0, {"type": "userFillsByTime", "user": user, "startTime": 0})
    last = answer(market, 0, {"type": "userFills", "user": user})
    assert isinstance(first, list)
    assert isinstance(last, list)
    assert [fill["tid"] for fill in first] == list(range(2_000))
    assert [fill["tid"] for fill in last] == list(range(2_099, 99, -1))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"type":"noSuchType"}',
        '{"type":["meta"]}',
        '{"type":"meta","dex":"nope"}',
        '{"type":"l2Book"}',
        '{"type":"clearinghouseState"}',
        '{"type":"clearinghouseState","user":"0x12"}',
        '{"type":"userFillsByTime","user":"0x0000000000000000000000000000000000000000"}',
    ],
)
async def test_a_bad_body_is_422_plain_text(body: str) -> None:
    async with (
        played(0.1) as sandbox,
        aiohttp.ClientSession() as http,
        http.post(f"{sandbox.url}/info", data=body) as response,
    ):
        assert response.status == 422
        assert response.content_type == "text/plain"
        assert await response.text() == "Failed to deserialize the JSON body into the target type"
