"""Orders of the sandbox over time: they rest, are filled, amended, cancelled, and positions are liquidated."""

import json
import time
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from eth_account import Account
from hyperliquid.exchange import Exchange
from hyperliquid.utils.types import Cloid

from gateways.hyperliquid.signing import SigningKey, sign_action
from gateways.sandbox.hyperliquid import Sandbox
from gateways.sandbox.hyperliquid.market_data import Book, Level
from tests.gateways.test_sandbox_hyperliquid_exchange import (
    AGENT,
    IOC,
    MASTER,
    OTHER,
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

GTC = {"limit": {"tif": "Gtc"}}
CLOID = "0x" + "0" * 31 + "7"


def book(bid: int, ask: int, size: str = "5") -> Book:
    return Book((Level(Decimal(bid), Decimal(size), 1),), (Level(Decimal(ask), Decimal(size), 1),))


def moved(venue: Sandbox, to: Book) -> None:
    venue.venue.quoted("BTC", to)


async def test_a_resting_order_is_filled_at_its_own_price_when_a_book_crosses_it(venue: Sandbox) -> None:
    async with connected(venue) as client:
        for channel in ("orderUpdates", "userEvents", "userFills"):
            assert (await client.subscribe(type=channel, user=OWNER))["channel"] == "subscriptionResponse"
        resting = the_status(await act(venue, order("0.5", "66400", t=GTC, c=CLOID)))["resting"]
        assert resting["cloid"] == CLOID
        opened = (await client.next("orderUpdates"))["data"][0]
        assert (opened["status"], opened["order"]["sz"], opened["order"]["cloid"]) == ("open", "0.5", CLOID)
        moved(venue, book(66_200, 66_390, "0.2"))
        half = (await client.next("userFills"))["data"]
        while half.get("isSnapshot"):
            half = (await client.next("userFills"))["data"]
        (fill,) = half["fills"]
        assert (fill["px"], fill["sz"], fill["crossed"], fill["oid"]) == ("66400.0", "0.2", False, resting["oid"])
        assert fill["cloid"] == CLOID
        assert Decimal(fill["fee"]) == Decimal("1.992")  # 66400 x 0.2 x 0.00015
        assert (await client.next("user"))["data"]["fills"] == half["fills"]
        assert (await client.next("orderUpdates"))["data"][0]["order"]["sz"] == "0.3"
        moved(venue, book(66_200, 66_400))
        done = (await client.next("orderUpdates"))["data"][0]
        assert (done["status"], done["order"]["sz"]) == ("filled", "0.0")
    assert await ask(venue, type="openOrders", user=OWNER) == []


async def test_open_orders_and_positions_of_an_account_are_feeds_too(venue: Sandbox) -> None:
    async with connected(venue) as client:
        acknowledged = await client.subscribe(type="openOrders", user=OWNER)
        assert acknowledged["data"]["subscription"] == {"type": "openOrders", "user": OWNER, "dex": ""}
        assert (await client.next("openOrders"))["data"] == {"dex": "", "user": OWNER, "orders": []}
        oid = the_status(await act(venue, order("0.5", "66400", t=GTC)))["resting"]["oid"]
        (shown,) = (await client.next("openOrders"))["data"]["orders"]
        assert (shown["oid"], shown["tif"]) == (oid, "Gtc")
        await client.subscribe(type="clearinghouseState", user=OWNER, dex="xyz")
        state = (await client.next("clearinghouseState"))["data"]
        assert (state["dex"], state["clearinghouseState"]["assetPositions"]) == ("xyz", [])
        await client.send({"method": "subscribe", "subscription": {"type": "openOrders", "user": OWNER, "dex": "no"}})
        assert await client.close_code() == 1006


async def test_a_reduction_that_rests_ends_with_its_position(venue: Sandbox) -> None:
    await act(venue, order("0.2"))
    oid = the_status(await act(venue, order("0.2", "66900", buys=False, r=True, t=GTC)))["resting"]["oid"]
    await act(venue, order("0.2", "66300", buys=False, r=True))
    async with connected(venue) as client:
        await client.subscribe(type="userEvents", user=OWNER)
        moved(venue, book(66_950, 67_000))
        assert (await client.next("user"))["data"] == {"nonUserCancel": [{"coin": "BTC", "oid": oid}]}
    found = await ask(venue, type="orderStatus", user=OWNER, oid=oid)
    assert found["order"]["status"] == "reduceOnlyCanceled"
    assert venue.market.accounts[OWNER].positions == {}


async def test_the_sdk_amends_by_oid_and_by_cloid(venue: Sandbox) -> None:
    def amend() -> dict[str, Any]:
        exchange = Exchange(MASTER, venue.url)
        cloid = Cloid.from_int(9)
        first = exchange.order("BTC", True, 0.1, 66000, GTC, cloid=cloid)
        return {
            "first": first,
            "second": exchange.modify_order(cloid, "BTC", True, 0.2, 66100, GTC, cloid=cloid),
            "gone": exchange.modify_order(the_status(first)["resting"]["oid"], "BTC", True, 0.2, 66100, GTC),
            "open": exchange.info.frontend_open_orders(OWNER),
            "cancelled": exchange.cancel_by_cloid("BTC", cloid),
            "history": [one["status"] for one in exchange.info.historical_orders(OWNER)],
        }

    made = await in_thread(amend)
    amended = the_status(made["second"])["resting"]
    assert amended["oid"] != the_status(made["first"])["resting"]["oid"]
    assert the_status(made["gone"]) == {"error": "Cannot modify canceled or filled order asset=0"}
    assert [(one["oid"], one["limitPx"], one["origSz"]) for one in made["open"]] == [(amended["oid"], "66100.0", "0.2")]
    assert the_status(made["cancelled"]) == "success"
    assert made["history"] == ["canceled", "canceled"]


async def test_scheduled_cancels_need_volume_and_come_in_time(venue: Sandbox) -> None:
    def at(ms: int) -> dict[str, Any]:
        return {"type": "scheduleCancel", "time": time.time_ns() // 1_000_000 + ms}

    poor = await act(venue, action=at(10_000))
    assert poor["response"].startswith(
        "Cannot set scheduled cancel time until enough volume traded. Required: $1000000."
    )
    venue.market.trading[OWNER].volume = Decimal(1_000_000)
    early = await act(venue, action=at(1_000))
    assert early["response"] == "Scheduled cancel time too early, must be at least 5 seconds from now."
    oid = the_status(await act(venue, order("0.5", "66000", t=GTC)))["resting"]["oid"]
    assert (await act(venue, action=at(6_000)))["status"] == "ok"
    venue.market.trading[OWNER].cancel_at = 0  # its time has come
    venue.exchange.tick()
    assert (await ask(venue, type="orderStatus", user=OWNER, oid=oid))["order"]["status"] == "scheduledCancel"


async def test_leverage_and_margin_mode_are_read_back(venue: Sandbox) -> None:
    def setting(leverage: int, *, cross: bool) -> dict[str, Any]:
        return {"type": "updateLeverage", "asset": 0, "isCross": cross, "leverage": leverage}

    assert (await act(venue, action=setting(41, cross=True)))["response"] == "Invalid leverage value."
    assert (await act(venue, action=setting(5, cross=False)))["status"] == "ok"
    await act(venue, order("1", "66500"))
    switched = await act(venue, action=setting(5, cross=True))
    assert switched["response"] == "Cannot switch leverage type with open position."
    before = (await ask(venue, type="clearinghouseState", user=OWNER))["assetPositions"][0]["position"]
    assert (before["leverage"]["type"], before["leverage"]["value"]) == ("isolated", 5)
    assert Decimal(before["marginUsed"]) == Decimal(13_300) + Decimal(before["unrealizedPnl"])
    add = {"type": "updateIsolatedMargin", "asset": 0, "isBuy": True, "ntli": 1_000_000_000}
    assert (await act(venue, action=add))["status"] == "ok"
    after = (await ask(venue, type="clearinghouseState", user=OWNER))["assetPositions"][0]["position"]
    assert Decimal(after["marginUsed"]) - Decimal(before["marginUsed"]) == 1_000


async def test_a_position_without_margin_is_liquidated(venue: Sandbox) -> None:
    await act(venue, action={"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 40})
    await act(venue, order("6"))
    async with connected(venue) as client:
        await client.subscribe(type="userEvents", user=OWNER)
        moved(venue, book(66_000, 66_100))
        assert venue.market.accounts[OWNER].positions["BTC"].size == 6
        moved(venue, book(48_000, 48_010, "4"))
        fills = (await client.next("user"))["data"]["fills"] + (await client.next("user"))["data"]["fills"]
        event = (await client.next("user"))["data"]["liquidation"]
    assert event["liquidated_user"] == OWNER
    assert [(fill["sz"], fill["liquidation"]["method"]) for fill in fills] == [("4.0", "market"), ("2.0", "backstop")]
    assert venue.market.accounts[OWNER].positions == {}


@pytest.mark.parametrize(("buys", "leverage", "cross"), [(True, 40, True), (False, 40, True), (True, 5, False)])
async def test_a_position_is_liquidated_at_the_price_that_its_state_names(
    venue: Sandbox, buys: bool, leverage: int, cross: bool
) -> None:
    await act(venue, action={"type": "updateLeverage", "asset": 0, "isCross": cross, "leverage": leverage})
    await act(venue, order("6", "66600" if buys else "66200", buys=buys))
    state = await ask(venue, type="clearinghouseState", user=OWNER)
    price = Decimal(state["assetPositions"][0]["position"]["liquidationPx"])
    step = -1 if buys else 1
    nearly, beyond = int(price) - 20 * step, int(price) + 20 * step
    moved(venue, book(nearly - 1, nearly + 1))
    assert venue.market.accounts[OWNER].positions
    moved(venue, book(beyond - 1, beyond + 1))
    assert not venue.market.accounts[OWNER].positions


async def test_positions_end_without_an_order_by_deleveraging_and_delisting(venue: Sandbox) -> None:
    await act(venue, order("0.5", "66500"))
    trades = len(venue.market.recent_trades["BTC"])
    async with aiohttp.ClientSession() as session:
        await session.post(f"{venue.url}/sandbox/faults", json={"auto_deleverage": [OWNER]})
        first, *_ = await ask(venue, type="userFills", user=OWNER)
        assert (first["dir"], first["side"], first["sz"], first["fee"]) == ("Auto-Deleveraging", "A", "0.5", "0.0")
        assert len(venue.market.recent_trades["BTC"]) == trades
        await act(venue, order("0.4", "66300", buys=False))
        resting = the_status(await act(venue, order("0.1", "66000", t=GTC)))["resting"]["oid"]
        await session.post(f"{venue.url}/sandbox/faults", json={"delist": ["BTC"]})
    first, *_ = await ask(venue, type="userFills", user=OWNER)
    assert (first["dir"], first["side"], first["sz"]) == ("Settlement", "B", "0.4")
    assert (await ask(venue, type="orderStatus", user=OWNER, oid=resting))["order"]["status"] == "delistedCanceled"
    assert (await ask(venue, type="meta"))["universe"][0]["isDelisted"]
    assert the_status(await act(venue, order()))["error"].startswith("Asset is delisted.")
    assert venue.market.accounts[OWNER].positions == {}


async def test_the_sdk_approves_an_agent_that_may_trade(venue: Sandbox) -> None:
    def approve() -> Any:
        answer, key = Exchange(MASTER, venue.url).approve_agent("copy1")
        agent = Exchange(Account.from_key(key), venue.url, account_address=OWNER)
        assert answer == {"status": "ok", "response": {"type": "default"}}
        return agent.order("BTC", True, 0.01, 66600, IOC), agent.wallet.address.lower()

    traded, address = await in_thread(approve)
    assert the_status(traded)["filled"]["totalSz"] == "0.01"
    assert await ask(venue, type="userRole", user=address) == {"role": "agent", "data": {"user": OWNER}}
    venue.market.trading[OWNER].valid_until[AGENT.address] = 0
    expired = await act(venue, order())
    assert expired["response"] == f"User or API Wallet {AGENT.address} does not exist."


async def test_a_vault_is_traded_by_its_leader_alone(venue: Sandbox) -> None:
    vault = "0x" + "cd" * 20
    body = {"address": vault, "deposit": "5000", "leader": OWNER}
    async with aiohttp.ClientSession() as session:
        assert (await session.post(f"{venue.url}/sandbox/accounts", json=body)).status == 200
    venue.exchange.open_account("0x" + "ef" * 20, Decimal(100), {OTHER.address: "other"})

    async def trade(key: SigningKey) -> Any:
        action, nonce = {"type": "order", "orders": [order()], "grouping": "na"}, time.time_ns() // 1_000_000
        signature = sign_action(key, action, nonce=nonce, expires_after=None, vault=vault, mainnet=False)
        sent = {"action": action, "nonce": nonce, "signature": signature.wire(), "vaultAddress": vault}
        async with aiohttp.ClientSession() as session, session.post(f"{venue.url}/exchange", json=sent) as answer:
            return await answer.json()

    assert the_status(await trade(AGENT))["filled"]["totalSz"] == "0.01"
    assert venue.market.accounts[vault].positions["BTC"].size == Decimal("0.01")
    assert (await trade(OTHER))["response"] == f"Vault not registered: {vault}"


@pytest.mark.parametrize(("price", "size"), [("66600.0", "0.01"), ("66600", "0.010")])
async def test_a_number_written_otherwise_than_the_venue_does_hides_the_signer(
    venue: Sandbox, price: str, size: str
) -> None:
    answer = await act(venue, order(size, price))
    assert answer["response"].startswith("User or API Wallet 0x")
    assert AGENT.address not in answer["response"]


async def test_the_keys_of_a_body_may_come_in_any_order(venue: Sandbox) -> None:
    action, nonce = {"type": "order", "orders": [order(c=CLOID)], "grouping": "na"}, time.time_ns() // 1_000_000
    signature = sign_action(AGENT, action, nonce=nonce, expires_after=None, mainnet=False)
    body = json.dumps({"action": action, "nonce": nonce, "signature": signature.wire()}, sort_keys=True)
    async with aiohttp.ClientSession() as session, session.post(f"{venue.url}/exchange", data=body) as answer:
        assert the_status(await answer.json())["filled"]["cloid"] == CLOID


async def test_errors_are_ordered_by_name_or_by_text(venue: Sandbox) -> None:
    async with aiohttp.ClientSession() as session:
        faults = f"{venue.url}/sandbox/faults"
        assert (await session.post(faults, json={"exchange_errors": ["oracle", "A text of tomorrow."]})).status == 200
        assert (await session.post(faults, json={"exchange_errors": ["orcale"]})).status == 422
    assert the_status(await act(venue, order(c=CLOID))) == {"error": "Order price too far from oracle asset=0"}
    found = await ask(venue, type="orderStatus", user=OWNER, oid=CLOID)
    assert found["order"]["status"] == "oracleRejected"
    assert the_status(await act(venue, order())) == {"error": "A text of tomorrow. asset=0"}
    assert the_status(await act(venue, order()))["filled"]


async def test_the_budget_of_an_account_ends_and_one_action_in_ten_seconds_is_left(venue: Sandbox) -> None:
    venue.market.trading[OWNER].requests = 10_000
    assert the_status(await act(venue, order("0.01", "66400", t=GTC)))["resting"]
    refused = await act(venue, order("0.01", "66400", t=GTC))
    assert refused["response"] == (
        "Too many cumulative requests sent (10002 > 10000) for cumulative volume traded $0.00. "
        "Place taker orders to free up 1 request per USDC traded."
    )
    (open_order,) = await ask(venue, type="openOrders", user=OWNER)
    cancel = {"type": "cancel", "cancels": [{"a": 0, "o": open_order["oid"]}]}
    assert the_status(await act(venue, action=cancel)) == "success"
