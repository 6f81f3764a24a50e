"""EXECUTIONS -> REQUESTS with real servers: live orders on the sandbox, lost answers, processes that are killed.

Whatever happens, each order is at the venue once at most, its result is stored once, and the sum of what was booked is
what the venue's own account says.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from domain.events import (
    AccountReported,
    LiveAccount,
    Mode,
    OrderConfirmed,
    OrderEnd,
    OrderResulted,
    OrderSent,
    OrderSigned,
    OrderSubmitted,
    TradeSide,
    Venue,
)
from domain.ids import cloid, derived, related
from domain.live_orders import ORDER_LIFE_NS
from domain.micros import MICRO, micros
from domain.reason_codes import Reason
from gateways.hyperliquid.adapter import HyperliquidAdapter
from gateways.hyperliquid.signing import SigningKey
from gateways.keys.sources import AgentKeys
from gateways.live_orders import LiveOrders
from gateways.sandbox.hyperliquid import FlowSource, Limits, Sandbox, serve
from gateways.sandbox.hyperliquid.faults import FaultOrder
from gateways.sandbox.hyperliquid.market_data import Book, Level
from gateways.venue_adapter import Purpose
from handlers.execute import Execute
from handlers.live.event_codec import codec
from streams import subjects
from streams.append import Record, append
from streams.connection import Connection
from streams.processing.stage_runner import StageRunner
from streams.reader import read_all
from streams.subjects import lanes
from streams.topology import REQUESTS

CODEC = codec()
KEY = SigningKey.from_hex("22" * 32)
OWNER = "0x" + "ac" * 20
ACCOUNT = LiveAccount(OWNER, "sam-agent")
KEYS = AgentKeys({"sam-agent": KEY})


@pytest.fixture
async def venue() -> AsyncIterator[Sandbox]:
    # Every restart reads the lists of assets: far more often than a real one.
    limits = Limits(weight_per_minute=1_000_000)
    made = await serve(FlowSource(1, origin_ns=time.time_ns() + 3_600_000_000_000), limits=limits)
    made.exchange.open_account(OWNER, Decimal(1_000_000), {KEY.address: "sam"})
    deep = tuple(Level(Decimal(66_500 + 10 * step), Decimal(1), 1) for step in range(20))
    low = tuple(Level(Decimal(66_400 - 10 * step), Decimal(1), 1) for step in range(20))
    made.market.books["BTC"] = Book(low, deep)
    yield made
    await made.close()


@contextlib.asynccontextmanager
async def trading(venue: Sandbox) -> AsyncIterator[LiveOrders]:
    settings: Any = SimpleNamespace(
        hyperliquid_api_url=venue.url,
        hyperliquid_ws_url=venue.ws_url,
        hyperliquid_weight_per_minute=1_000_000,
        hyperliquid_book_subscriptions=0,
    )
    async with HyperliquidAdapter().connect(settings, Purpose.EXECUTE) as clients:
        orders = clients.live_orders(time.time_ns)
        assert orders is not None
        async with orders:
            await orders.start()
            yield orders


def order(number: int, size: str = "0.01", limit: str = "66700", **changes: Any) -> OrderSubmitted:
    attempt, now = derived("att", number), time.time_ns()
    made = OrderSubmitted(
        order_id=related("ord", attempt),
        cloid=cloid(attempt),
        attempt_id=attempt,
        subscription_id="sam-ann",
        subscriber_id="sam",
        influencer_id="ann",
        group_id=f"grp-{number}",
        mode=Mode.LIVE,
        venue=Venue.HYPERLIQUID,
        asset="BTC",
        trade_side=TradeSide.BUY,
        share_micros=micros(size),
        reduce_micros=0,
        limit_price_micros=micros(limit),
        submitted_at=now,
        account=ACCOUNT,
        size_step_micros=10,
        expires_at=now + ORDER_LIFE_NS,
        fee_part_micros=450,
    )
    return structs.replace(made, **changes)


async def submit(log: Connection, *orders: OrderSubmitted) -> None:
    for one in orders:
        payload = CODEC.encode_commit(
            [(one.order_id, one)], source="vibe/plan", time_ns=time.time_ns(), correlation=one.group_id
        )
        await append(log, [Record(subjects.executions(one.subscriber_id), payload)])


async def stored(log: Connection, kind: type[Any]) -> list[Any]:
    found = []
    async for batch in read_all(log, REQUESTS.name, ["orders.>"]):
        for one in batch:
            for event in CODEC.decode(REQUESTS.name, one.sequence, one.subject, one.payload):
                found += [event.data] if isinstance(event.data, kind) else []
    return found


@contextlib.asynccontextmanager
async def executing(log: Connection, orders: LiveOrders, keys: AgentKeys = KEYS) -> AsyncIterator[asyncio.Task[None]]:
    stage = Execute({Venue.HYPERLIQUID: orders}, keys, time.time_ns)
    task = asyncio.create_task(StageRunner(log, CODEC, stage, lanes(1), time.time_ns).run(asyncio.Event()))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(log: Connection, kind: type[Any], count: int, seconds: float = 20) -> list[Any]:
    deadline = time.monotonic() + seconds
    while len(found := await stored(log, kind)) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} {kind.__name__} after {seconds} s"
        await asyncio.sleep(0.05)
    return found


async def result_of(log: Connection, venue: Sandbox, one: OrderSubmitted, keys: AgentKeys = KEYS) -> OrderResulted:
    await submit(log, one)
    async with trading(venue) as orders, executing(log, orders, keys):
        (result,) = await until(log, OrderResulted, 1)
    assert isinstance(result, OrderResulted)
    return result


def at_venue(venue: Sandbox) -> Counter[str | None]:
    """How many orders the venue has seen of each client order id."""
    return Counter(one.cloid for one in venue.market.trading[OWNER].orders.values())


async def test_an_order_is_signed_before_it_is_sent_and_confirmed_afterwards(log: Connection, venue: Sandbox) -> None:
    one = order(1, "1.5")
    await submit(log, one)
    async with trading(venue) as orders, executing(log, orders):
        (confirmed,) = await until(log, OrderConfirmed, 1)
    (signed,), (sent,), (result,) = [await stored(log, kind) for kind in (OrderSigned, OrderSent, OrderResulted)]
    assert (signed.agent_address, signed.order.cloid) == (KEY.address, one.cloid)
    assert sent.http_status == 200
    assert '"filled"' in sent.response
    assert signed.signed_at <= sent.sent_at <= sent.answered_at <= result.resulted_at
    assert (result.how, result.provisional, result.reasons) == (OrderEnd.FILLED, True, ())
    assert sum(fill.share_micros for fill in result.fills) == micros("1.5")
    # 1 x 66,500 and 0.5 x 66,510: the venue rounds the average price of its answer.
    exact = 66_500 * MICRO + 33_255 * MICRO
    assert sum(fill.notional_micros for fill in confirmed.fills) == exact
    assert result.fills[0].notional_micros + confirmed.notional_delta_micros == exact
    assert result.fills[0].fee_micros + confirmed.fee_delta_micros == sum(fill.fee_micros for fill in confirmed.fills)
    assert at_venue(venue) == {one.cloid: 1}


async def test_a_coin_of_a_builders_dex_is_read_when_it_is_ordered(log: Connection, venue: Sandbox) -> None:
    venue.usage.requests.clear()
    await submit(log, *(order(number, "0.01", "6600", asset="xyz:SP500") for number in range(2)))
    async with trading(venue) as orders, executing(log, orders):
        results = await until(log, OrderResulted, 2)
    assert {result.how for result in results} == {OrderEnd.FILLED}
    assert venue.market.accounts[OWNER].positions["xyz:SP500"].size == Decimal("0.02")
    assert (venue.usage.requests["meta"], venue.usage.requests["perpDexs"]) == (2, 1)


async def test_what_the_venue_refuses_is_a_result(log: Connection, venue: Sandbox) -> None:
    result = await result_of(log, venue, order(1, limit="66000"))
    assert (result.how, result.reasons) == (OrderEnd.REFUSED, (Reason.NO_LIQUIDITY_WITHIN_BOUNDS,))
    assert "could not immediately match" in result.detail


async def test_a_part_that_fills_is_a_result(log: Connection, venue: Sandbox) -> None:
    result = await result_of(log, venue, order(1, "3", "66510"))
    assert (result.how, result.reasons) == (OrderEnd.PARTLY_FILLED, (Reason.PARTIAL_FILL,))
    assert result.fills[0].share_micros == micros("2")


@pytest.mark.parametrize(
    ("changes", "keys", "reason"),
    [
        ({}, AgentKeys({}), Reason.AGENT_UNUSABLE),
        ({"asset": "NOPE"}, KEYS, Reason.UNKNOWN_ASSET),
        ({"expires_at": 1}, KEYS, Reason.ORDER_EXPIRED),
    ],
)
async def test_what_cannot_be_sent_is_not_sent(
    log: Connection, venue: Sandbox, changes: dict[str, Any], keys: AgentKeys, reason: Reason
) -> None:
    result = await result_of(log, venue, order(1, **changes), keys)
    assert (result.how, result.reasons) == (OrderEnd.NOT_SENT, (reason,))
    assert at_venue(venue) == {}


async def test_a_key_that_is_not_the_accounts_is_named(log: Connection, venue: Sandbox) -> None:
    stranger = AgentKeys({"sam-agent": SigningKey.from_hex("33" * 32)})
    result = await result_of(log, venue, order(1), stranger)
    assert (result.how, result.reasons) == (OrderEnd.REFUSED, (Reason.AGENT_UNUSABLE,))
    assert "does not exist" in result.detail


async def test_a_lost_answer_is_asked_for(log: Connection, venue: Sandbox) -> None:
    venue.faults.order(FaultOrder(exchange_lost_answers=1))
    result = await result_of(log, venue, order(1))
    assert (result.how, result.provisional) == (OrderEnd.FILLED, False)
    assert [one.what for one in await stored(log, OrderSent)] == ["order", "status"]
    assert at_venue(venue) == {order(1).cloid: 1}


async def test_what_did_not_arrive_is_sent_again(log: Connection, venue: Sandbox) -> None:
    venue.faults.order(FaultOrder(exchange_5xx=2))
    result = await result_of(log, venue, order(1))
    assert result.how is OrderEnd.FILLED
    sent = [(one.what, one.http_status) for one in await stored(log, OrderSent)]
    assert sent == [("order", 502), ("status", 200), ("order", 502), ("status", 200), ("order", 200)]
    assert at_venue(venue) == {order(1).cloid: 1}


async def test_an_order_that_never_arrives_expires(log: Connection, venue: Sandbox) -> None:
    venue.faults.order(FaultOrder(exchange_5xx=1_000))
    now = time.time_ns()
    result = await result_of(log, venue, order(1, expires_at=now + 700_000_000))
    assert (result.how, result.reasons) == (OrderEnd.EXPIRED, (Reason.ORDER_EXPIRED,))
    assert result.resulted_at > now + 2_700_000_000
    assert at_venue(venue) == {}


async def test_the_account_is_reported_when_none_of_its_orders_is_under_way(log: Connection, venue: Sandbox) -> None:
    await submit(log, order(1, "0.5"))
    async with trading(venue) as orders, executing(log, orders):
        (first, *_) = await until(log, AccountReported, 1)
    assert (first.subscriber_id, first.account) == ("sam", ACCOUNT)
    assert first.positions in ({}, {"BTC": micros("0.5")})
    async with trading(venue) as orders, executing(log, orders):
        *_, second = await until(log, AccountReported, 2)
    assert second.positions == {"BTC": micros("0.5")}


async def test_orders_of_an_account_go_one_after_the_other(log: Connection, venue: Sandbox) -> None:
    await submit(log, *(order(number) for number in range(12)))
    async with trading(venue) as orders, executing(log, orders):
        await until(log, OrderResulted, 12)
    signed, sent = await stored(log, OrderSigned), await stored(log, OrderSent)
    nonces = [one.nonce for one in signed]
    assert nonces == sorted(set(nonces))
    starts = sorted((one.sent_at, one.answered_at) for one in sent)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(starts))


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_again_and_again_nothing_is_lost_and_nothing_doubled(
    log: Connection, venue: Sandbox, seed: int
) -> None:
    rng, count = random.Random(seed), 40
    venue.faults.order(FaultOrder(exchange_lost_answers=8, exchange_delay_ms=20))
    expires_at = time.time_ns() + 20_000_000_000
    for number in range(count):
        await submit(log, order(number, rng.choice(["0.01", "0.3", "0.02"]), expires_at=expires_at))
    deadline, kills = time.monotonic() + 60, 0
    while len(await stored(log, OrderResulted)) < count:
        assert time.monotonic() < deadline
        async with trading(venue) as orders, executing(log, orders):
            await asyncio.sleep(rng.choice([0.2, 0.3, 0.4, 0.6, 1.0]))
        kills += 1
        if rng.random() < 0.3:
            venue.faults.order(FaultOrder(exchange_5xx=1, exchange_delay_ms=rng.choice([20, 20, 150])))
    assert kills >= 3
    async with trading(venue) as orders, executing(log, orders):
        provisional = [one for one in await stored(log, OrderResulted) if one.provisional]
        await until(log, OrderConfirmed, len(provisional))
    assert max(at_venue(venue).values()) == 1
    results = await stored(log, OrderResulted)
    assert Counter(one.order.order_id for one in results) == {order(number).order_id: 1 for number in range(count)}
    confirmed = {one.order.order_id: one for one in await stored(log, OrderConfirmed)}
    shares = cash = 0
    for result in results:
        shares += sum(fill.share_micros for fill in result.fills)
        cash += sum(fill.notional_micros + fill.fee_micros for fill in result.fills)
        if (correction := confirmed.get(result.order.order_id)) is not None:
            cash += correction.notional_delta_micros + correction.fee_delta_micros
    account = venue.market.accounts[OWNER]
    assert shares == int(account.positions["BTC"].size * MICRO)
    assert cash == int(sum((fill.px * fill.sz + fill.fee for fill in account.fills), Decimal(0)) * MICRO)
