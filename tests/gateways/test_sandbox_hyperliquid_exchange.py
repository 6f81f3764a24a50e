"""The sandbox as a venue to trade on: the official SDK against it, unmodified, and the venue's refusals."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from eth_account import Account
from hyperliquid.exchange import Exchange
from hyperliquid.info import Info
from hyperliquid.utils.types import Cloid

from gateways.hyperliquid.signing import SigningKey, sign_action
from gateways.sandbox.hyperliquid import FlowSource, Limits, Sandbox, serve
from gateways.sandbox.hyperliquid.exchange import weight
from gateways.sandbox.hyperliquid.market_data import Book, Level

MASTER = Account.from_key("0x" + "11" * 32)
AGENT = SigningKey.from_hex("22" * 32)
OTHER = SigningKey.from_hex("33" * 32)
OWNER = MASTER.address.lower()
BTC = 0
HOUR_NS = 3_600_000_000_000
IOC = {"limit": {"tif": "Ioc"}}


@pytest.fixture
async def venue() -> AsyncIterator[Sandbox]:
    """A venue whose BTC book is 99 x 1 and 98 x 5 against 101 x 1 and 102 x 5, in thousands of dollars."""
    made = await serve(FlowSource(1, origin_ns=time.time_ns() + HOUR_NS))
    made.exchange.open_account(OWNER, Decimal(100_000), {AGENT.address: "copier"})
    made.market.books["BTC"] = Book(
        (Level(Decimal(66_300), Decimal(1), 1), Level(Decimal(66_200), Decimal(5), 1)),
        (Level(Decimal(66_500), Decimal(1), 1), Level(Decimal(66_600), Decimal(5), 1)),
    )
    yield made
    await made.close()


def order(size: str = "0.01", price: str = "66600", *, buys: bool = True, **changes: Any) -> dict[str, Any]:
    return {"a": BTC, "b": buys, "p": price, "s": size, "r": False, "t": IOC, **changes}


async def act(
    venue: Sandbox,
    *orders: dict[str, Any],
    key: SigningKey = AGENT,
    nonce: int | None = None,
    expires_after: int | None = None,
    action: dict[str, Any] | None = None,
) -> Any:
    action = action or {"type": "order", "orders": list(orders), "grouping": "na"}
    nonce = nonce or time.time_ns() // 1_000_000
    signature = sign_action(key, action, nonce=nonce, expires_after=expires_after, mainnet=False)
    body = {"action": action, "nonce": nonce, "signature": signature.wire(), "vaultAddress": None}
    if expires_after is not None:
        body["expiresAfter"] = expires_after
    async with aiohttp.ClientSession() as session, session.post(f"{venue.url}/exchange", json=body) as answer:
        return await answer.json() if answer.status == 200 else answer.status


async def ask(venue: Sandbox, **body: Any) -> Any:
    async with aiohttp.ClientSession() as session, session.post(f"{venue.url}/info", json=body) as answer:
        return await answer.json()


def the_status(answer: Any) -> Any:
    assert answer["status"] == "ok", answer
    (status,) = answer["response"]["data"]["statuses"]
    return status


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def test_the_official_sdk_trades(venue: Sandbox) -> None:
    def trade() -> dict[str, Any]:
        exchange = Exchange(MASTER, venue.url)
        info = Info(venue.url, skip_ws=True)
        cloid = Cloid.from_int(77)
        return {
            "leverage": exchange.update_leverage(5, "BTC"),
            "bought": exchange.order("BTC", True, 1.5, 66600, {"limit": {"tif": "Ioc"}}, cloid=cloid),
            "by_cloid": info.query_order_by_cloid(OWNER, cloid),
            "resting": exchange.order("BTC", False, 0.5, 70000, {"limit": {"tif": "Gtc"}}),
            "open": info.open_orders(OWNER),
            "cancelled": exchange.cancel("BTC", info.open_orders(OWNER)[0]["oid"]),
            "again": exchange.cancel("BTC", 1),
            "fills": info.user_fills(OWNER),
            "state": info.user_state(OWNER),
            "closed": exchange.market_close("BTC"),
            "flat": info.user_state(OWNER),
            "role": info.user_role(AGENT.address),
            "agents": info.extra_agents(OWNER),
            "limit": info.user_rate_limit(OWNER),
        }

    made = await in_thread(trade)
    assert made["leverage"] == {"status": "ok", "response": {"type": "default"}}
    filled = the_status(made["bought"])["filled"]
    assert (filled["totalSz"], filled["avgPx"]) == ("1.5", "66533.333")
    assert made["by_cloid"]["order"]["status"] == "filled"
    assert made["by_cloid"]["order"]["order"]["oid"] == filled["oid"]
    assert [one["limitPx"] for one in made["open"]] == ["70000.0"]
    assert the_status(made["cancelled"]) == "success"
    assert the_status(made["again"])["error"].startswith("Order was never placed, already canceled, or filled.")
    fills = made["fills"][::-1]
    assert [(one["px"], one["sz"], one["crossed"], one["oid"]) for one in fills] == [
        ("66500.0", "1.0", True, filled["oid"]),
        ("66600.0", "0.5", True, filled["oid"]),
    ]
    assert {one["cloid"] for one in fills} == {f"0x{77:032x}"}
    assert made["state"]["assetPositions"][0]["position"]["szi"] == "1.5"
    assert the_status(made["closed"])["filled"]["totalSz"] == "1.5"
    assert made["flat"]["assetPositions"] == []
    assert made["role"] == {"role": "agent", "data": {"user": OWNER}}
    assert [one["address"] for one in made["agents"]] == [AGENT.address]
    assert made["limit"]["nRequestsUsed"] == 6


async def test_an_order_takes_what_is_inside_its_limit_and_the_rest_is_gone(venue: Sandbox) -> None:
    status = the_status(await act(venue, order("1.5", "66500")))
    assert (status["filled"]["totalSz"], status["filled"]["avgPx"]) == ("1", "66500")
    assert "could not immediately match" in the_status(await act(venue, order("0.1", "66500")))["error"]
    status = await ask(venue, type="orderStatus", user=OWNER, oid=status["filled"]["oid"])
    assert (status["order"]["status"], status["order"]["order"]["sz"]) == ("canceled", "0.5")


async def test_what_one_order_fills_has_one_time(venue: Sandbox) -> None:
    ticks = iter(range(10**9))
    venue.venue.clock = lambda: next(ticks) * 1_000_000  # every look at the clock is a millisecond later
    venue.market.books["BTC"] = Book((), tuple(Level(Decimal(66_500 + step), Decimal("0.01"), 1) for step in range(9)))
    await act(venue, order("0.09"))
    fills = venue.market.accounts[OWNER].fills
    assert (len(fills), len({fill.time for fill in fills})) == (9, 1)


async def test_fees_have_six_decimals_and_are_rounded_down(venue: Sandbox) -> None:
    await act(venue, order("0.00031"))
    (fill,) = await ask(venue, type="userFillsByTime", user=OWNER, startTime=0)
    assert Decimal(fill["fee"]) == Decimal("0.009276")  # 66500 x 0.00031 x 0.00045 = 0.00927675


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (order(price="66600.55"), "Price must be divisible by tick size. asset=0"),
        (order(price="0"), "Order has invalid price. asset=0"),
        (order("0"), "Order has zero size. asset=0"),
        (order("0.0000001"), "Order has invalid size. asset=0"),
        (order("0.0001"), "Order must have minimum value of $10. asset=0"),
        (order(r=True), "Reduce only order would increase position. asset=0"),
        (order("100"), "Insufficient margin to place order. asset=0"),
        (order(price="400", s="0.5"), "Order price cannot be more than 80% away from the reference price asset=0"),
        (order(price="66400"), "Order could not immediately match against any resting orders. asset=0"),
        (order(t={"limit": {"tif": "Alo"}}), "Post only order would have immediately matched, bbo was 66300@66500."),
    ],
)
async def test_refusals_have_the_venues_words(venue: Sandbox, wrong: dict[str, Any], text: str) -> None:
    assert the_status(await act(venue, wrong))["error"].startswith(text)


async def test_one_order_of_a_batch_is_refused_alone(venue: Sandbox) -> None:
    answer = await act(venue, order("0.0001"), order("0.01"))
    refused, filled = answer["response"]["data"]["statuses"]
    assert "minimum value" in refused["error"]
    assert filled["filled"]["totalSz"] == "0.01"


async def test_what_no_market_would_take_is_one_error_for_the_whole_batch(venue: Sandbox) -> None:
    answer = await act(venue, order("0.01"), order(price="66600.55"), order("0.01"))
    assert the_status(answer) == {"error": "Price must be divisible by tick size. asset=0"}
    assert venue.market.accounts[OWNER].positions == {}


async def test_a_reduction_never_turns_the_position(venue: Sandbox) -> None:
    await act(venue, order("0.3"))
    status = the_status(await act(venue, order("5", "66200", buys=False, r=True)))
    assert status["filled"]["totalSz"] == "0.3"
    small = the_status(await act(venue, order("0.0001", buys=True)))
    assert "minimum value" in small["error"]


async def test_nonces_prove_what_arrived(venue: Sandbox) -> None:
    now = time.time_ns() // 1_000_000
    assert the_status(await act(venue, order(), nonce=now))["filled"]
    again = await act(venue, order(), nonce=now)
    assert again == {"status": "err", "response": f"Invalid nonce: duplicate nonce {now}"}
    for nonce in (now - 3 * 86_400_000, now + 2 * 86_400_000):
        assert (await act(venue, order(), nonce=nonce))["response"].startswith("Invalid nonce")
    late = await act(venue, order(), expires_after=now - 1)
    assert (late["status"], "expire" in late["response"].lower()) == ("err", True)
    assert venue.market.accounts[OWNER].positions["BTC"].size == Decimal("0.01")


async def test_a_stranger_and_a_broken_signature_are_named(venue: Sandbox) -> None:
    stranger = await act(venue, order(), key=OTHER)
    assert stranger["response"] == f"User or API Wallet {OTHER.address} does not exist."
    assert await act(venue, action={"type": "withdraw3"}) == 422


async def test_faults_of_the_exchange(venue: Sandbox) -> None:
    async with aiohttp.ClientSession() as session:
        await session.post(f"{venue.url}/sandbox/faults", json={"exchange_lost_answers": 1, "exchange_5xx": 0})
        with pytest.raises(aiohttp.ClientError):
            await act(venue, order(c="0x" + "0" * 31 + "1"))
        status = await ask(venue, type="orderStatus", user=OWNER, oid="0x" + "0" * 31 + "1")
        assert status["order"]["status"] == "filled"
        await session.post(f"{venue.url}/sandbox/faults", json={"exchange_5xx": 1})
        assert await act(venue, order(c="0x" + "0" * 31 + "2")) == 502
        status = await ask(venue, type="orderStatus", user=OWNER, oid="0x" + "0" * 31 + "2")
        assert status == {"status": "unknownOid"}


async def test_accounts_are_opened_on_request(venue: Sandbox) -> None:
    account = "0x" + "ab" * 20
    body = {"address": account, "deposit": "500", "agents": [{"address": OTHER.address}]}
    async with aiohttp.ClientSession() as session:
        assert (await session.post(f"{venue.url}/sandbox/accounts", json=body)).status == 200
        assert (await session.post(f"{venue.url}/sandbox/accounts", json={"address": "x"})).status == 422
    assert the_status(await act(venue, order("0.01"), key=OTHER))["filled"]
    state = await ask(venue, type="clearinghouseState", user=account)
    assert state["assetPositions"][0]["position"]["szi"] == "0.01"


@pytest.mark.parametrize(
    ("kind", "rows", "expected"),
    [("orders", 1, 1), ("orders", 39, 1), ("orders", 40, 2), ("cancels", 81, 3), ("modifies", 200, 6)],
)
def test_a_batch_weighs_one_more_for_every_forty(kind: str, rows: int, expected: int) -> None:
    assert weight({"action": {"type": "any", kind: [{}] * rows}}) == expected


async def test_actions_beyond_the_weight_of_a_client_are_refused_and_not_carried_out() -> None:
    made = await serve(FlowSource(1, origin_ns=time.time_ns() + HOUR_NS), limits=Limits(weight_per_minute=2))
    try:
        made.exchange.open_account(OWNER, Decimal(100_000), {AGENT.address: "copier"})
        answers = [await act(made, order("0.01", "60000", t={"limit": {"tif": "Gtc"}})) for _ in range(3)]
        assert [answer if answer == 429 else answer["status"] for answer in answers] == ["ok", "ok", 429]
        assert len(made.market.trading[OWNER].open_orders()) == 2
        assert made.usage.requests_refused == 1
    finally:
        await made.close()
