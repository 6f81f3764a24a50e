"""The official SDK, unmodified, against the sandbox: every read call that is answered, and its websocket."""

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from hyperliquid.exchange import Exchange
from hyperliquid.info import Info
from hyperliquid.utils.error import ClientError

from gateways.hyperliquid.signing import sign_action
from gateways.sandbox.hyperliquid import Sandbox
from gateways.sandbox.hyperliquid.coins import COINS
from tests.gateways.test_sandbox_hyperliquid_exchange import (
    AGENT,
    MASTER,
    OWNER,
    act,
    ask,
    in_thread,
    order,
    the_status,
    venue,
)
from tests.gateways.test_sandbox_hyperliquid_ws import connected

__all__ = ["venue"]

HOUR_MS = 3_600_000
IOC = {"limit": {"tif": "Ioc"}}


async def test_every_read_call_is_answered(venue: Sandbox) -> None:
    await act(venue, order("1.5"))
    now = time.time_ns() // 1_000_000
    since = now - HOUR_MS

    def read() -> dict[str, Any]:
        info = Info(venue.url, skip_ws=True)
        calls: dict[str, Callable[[], Any]] = {
            "meta_and_asset_ctxs": info.meta_and_asset_ctxs,
            "perp_dexs": info.perp_dexs,
            "all_mids": info.all_mids,
            "spot_meta_and_asset_ctxs": info.spot_meta_and_asset_ctxs,
            "candles": lambda: info.candles_snapshot("BTC", "5m", since, now + HOUR_MS),
            "funding_history": lambda: info.funding_history("BTC", since),
            "query_perp_deploy_auction_status": info.query_perp_deploy_auction_status,
            "fills_aggregated": lambda: info.user_fills_by_time(OWNER, since, aggregate_by_time=True),
            "user_fees": lambda: info.user_fees(OWNER),
            "user_funding_history": lambda: info.user_funding_history(OWNER, since),
            "ledger": lambda: info.user_non_funding_ledger_updates(OWNER, 0),
            "portfolio": lambda: info.portfolio(OWNER),
            "user_twap_slice_fills": lambda: info.user_twap_slice_fills(OWNER),
            "query_sub_accounts": lambda: info.query_sub_accounts(OWNER),
            "user_vault_equities": lambda: info.user_vault_equities(OWNER),
            "spot_user_state": lambda: info.spot_user_state(OWNER),
            "abstraction": lambda: info.query_user_abstraction_state(OWNER),
            "active_asset_data": lambda: info.post("/info", {"type": "activeAssetData", "user": OWNER, "coin": "BTC"}),
            "recent_trades": lambda: info.post("/info", {"type": "recentTrades", "coin": "BTC"}),
            "all_perp_metas": lambda: info.post("/info", {"type": "allPerpMetas"}),
        }
        return {name: call() for name, call in calls.items()}

    read_now = await in_thread(read)
    meta, contexts = read_now["meta_and_asset_ctxs"]
    assert len(meta["universe"]) == len(contexts) == sum(not coin.dex for coin in COINS)
    assert Decimal(contexts[0]["dayNtlVlm"]) == Decimal("99800")
    (fill,) = read_now["fills_aggregated"]
    assert (fill["sz"], fill["px"], fill["startPosition"]) == ("1.5", "66533.333", "0.0")
    (candle,) = read_now["candles"]
    assert [candle[key] for key in "ohlcvn"] == ["66500.0", "66600.0", "66500.0", "66600.0", "1.5", 2]
    assert read_now["user_fees"]["userCrossRate"] == "0.00045"
    assert read_now["ledger"][0]["delta"] == {"type": "deposit", "usdc": "100000.0"}
    assert [span for span, _ in read_now["portfolio"]][:4] == ["day", "week", "month", "allTime"]
    assert read_now["active_asset_data"]["leverage"] == {"type": "cross", "value": 10}
    assert read_now["recent_trades"][0]["users"][0] == OWNER
    assert read_now["abstraction"] == "default"
    assert [row["name"] for row in read_now["all_perp_metas"][1]["universe"]] == ["xyz:SP500"]
    unknown = ("query_sub_accounts", "user_vault_equities", "user_funding_history", "user_twap_slice_fills")
    assert [read_now[name] for name in unknown] == [None, [], [], []]
    with pytest.raises(ClientError) as refused:
        await in_thread(lambda: Info(venue.url, skip_ws=True).query_referral_state(OWNER))
    assert refused.value.status_code == 422


async def test_the_websocket_of_the_sdk_hears_orders_fills_and_market_data(venue: Sandbox) -> None:
    got: dict[str, list[Any]] = {}
    asked: list[dict[str, Any]] = [
        {"type": "orderUpdates", "user": OWNER},
        {"type": "userEvents", "user": OWNER},
        {"type": "userFills", "user": OWNER},
        {"type": "userFundings", "user": OWNER},
        {"type": "userNonFundingLedgerUpdates", "user": OWNER},
        {"type": "activeAssetData", "user": OWNER, "coin": "BTC"},
        {"type": "activeAssetCtx", "coin": "BTC"},
        {"type": "candle", "coin": "BTC", "interval": "1m"},
        {"type": "bbo", "coin": "BTC"},
        {"type": "l2Book", "coin": "BTC"},
        {"type": "trades", "coin": "BTC"},
        {"type": "allMids"},
    ]

    def session() -> None:
        info = Info(venue.url)
        for one in asked:
            info.subscribe(one, got.setdefault(one["type"], []).append)
        assert _within(lambda: {"bbo", "activeAssetCtx", "userFills"} <= {name for name, seen in got.items() if seen})
        Exchange(MASTER, venue.url).order("BTC", True, 0.5, 66600, IOC)
        assert _within(lambda: all(got.values())), [name for name, seen in got.items() if not seen]
        info.disconnect_websocket()

    await in_thread(session)
    assert got["orderUpdates"][0]["data"][0]["status"] == "filled"
    assert got["userFills"][0]["data"]["isSnapshot"]
    assert got["userFills"][-1]["data"]["fills"] == got["userEvents"][0]["data"]["fills"]
    assert got["candle"][0]["data"]["v"] == "0.5"
    assert got["bbo"][-1]["data"]["bbo"][1]["sz"] == "0.5"
    assert got["activeAssetCtx"][0]["data"]["ctx"]["funding"] == "0.0000125"
    assert set(got["activeAssetData"][0]["data"]) == {"user", "coin", "leverage", "maxTradeSzs", "availableToTrade"}


def _within(found: Callable[[], bool], seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while not found() and time.monotonic() < until:
        time.sleep(0.02)
    return found()


async def test_requests_over_the_socket_are_answered_as_over_http(venue: Sandbox) -> None:
    action, nonce = {"type": "order", "orders": [order()], "grouping": "na"}, time.time_ns() // 1_000_000
    signature = sign_action(AGENT, action, nonce=nonce, expires_after=None, mainnet=False)
    signed = {"action": action, "nonce": nonce, "signature": signature.wire(), "vaultAddress": None}

    async with connected(venue) as client:

        async def post(number: int, kind: str, payload: Any) -> Any:
            await client.send({"method": "post", "id": number, "request": {"type": kind, "payload": payload}})
            data = (await client.next("post"))["data"]
            assert data["id"] == number
            return data["response"]

        asked = {"type": "clearinghouseState", "user": OWNER}
        answered = await post(1, "info", asked)
        assert (answered["type"], answered["payload"]["type"]) == ("info", "clearinghouseState")
        assert answered["payload"]["data"]["marginSummary"]["accountValue"] == "100000.0"
        traded = await post(2, "action", signed)
        assert (traded["type"], the_status(traded["payload"])["filled"]["totalSz"]) == ("action", "0.01")
        again = await post(3, "action", signed)
        assert again["payload"]["response"] == f"Invalid nonce: duplicate nonce {nonce}"
        assert (await post(4, "info", {"type": "nothing"}))["type"] == "error"
        async with aiohttp.ClientSession() as session:
            await session.post(f"{venue.url}/sandbox/faults", json={"exchange_5xx": 1})
            failed = await post(5, "action", signed)
            assert failed == {"type": "error", "payload": "502 Bad Gateway"}
            await session.post(f"{venue.url}/sandbox/faults", json={"exchange_lost_answers": 1})
        await client.send({"method": "post", "id": 6, "request": {"type": "action", "payload": signed}})
        assert await client.close_code() == 1006


async def test_funding_is_paid_at_the_end_of_every_interval(venue: Sandbox) -> None:
    await act(venue, order("1"))
    async with connected(venue) as client, aiohttp.ClientSession() as session:
        await client.subscribe(type="userEvents", user=OWNER)
        await client.subscribe(type="userFundings", user=OWNER)
        assert (await session.post(f"{venue.url}/sandbox/faults", json={"funding_every_s": 0})).status == 422
        await session.post(f"{venue.url}/sandbox/faults", json={"funding_every_s": 0.2})
        assert (await client.next("userFundings"))["data"] == {"isSnapshot": True, "user": OWNER, "fundings": []}
        (paid,) = (await client.next("userFundings"))["data"]["fundings"]
        assert (await client.next("user"))["data"] == {"funding": paid}
        await session.post(f"{venue.url}/sandbox/faults", json={"funding_every_s": 3600})
    mid = (Decimal(66_300) + Decimal(66_600)) / 2
    assert (paid["coin"], paid["szi"], Decimal(paid["usdc"])) == ("BTC", "1.0", -mid * Decimal("0.0000125"))
    await asyncio.sleep(0.15)
    rows = await ask(venue, type="userFunding", user=OWNER, startTime=0)
    assert rows[0]["delta"]["usdc"] == paid["usdc"]
    state = await ask(venue, type="clearinghouseState", user=OWNER)
    (held,) = (row["position"] for row in state["assetPositions"])
    assert Decimal(held["cumFunding"]["sinceOpen"]) == -sum(Decimal(row["delta"]["usdc"]) for row in rows)
    history = await ask(venue, type="fundingHistory", coin="BTC", startTime=0)
    assert {"coin": "BTC", "fundingRate": "0.0000125", "premium": "0.0", "time": paid["time"]} in history
