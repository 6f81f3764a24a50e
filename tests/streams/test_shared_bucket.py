"""One request budget over several processes: never more than the limit, and a 429 to one closes it for all."""

import asyncio
import time

from gateways.embedded import Addresses
from gateways.hyperliquid.info_client import InfoClient
from gateways.rate_limit import SharedRateLimiter
from gateways.sandbox.hyperliquid import serve
from gateways.sandbox.hyperliquid.load_source import LoadSource
from gateways.sandbox.hyperliquid.websocket_hub import Limits
from streams.connection import Connection, connect
from streams.shared_bucket import SharedBucket, Spent, closed, reserve
from tests.streams.deadlines import settled


def test_a_full_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    spent, waits = Spent(), []
    for _ in range(5):
        spent, wait = reserve(spent, 1_000.0, weight=2, rate=4, burst=6)
        waits.append(wait)
    assert waits == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert reserve(spent, 1_001.5, weight=2, rate=4, burst=6)[1] == 0.0, "twelve of six and a second and a half"
    assert reserve(spent, 9_999.0, weight=2, rate=4, burst=6)[0].spent_until == 9_998.0, "never more than the burst"


def test_a_request_above_the_burst_goes_when_the_bucket_is_full_and_later_ones_pay_for_it() -> None:
    spent, wait = reserve(Spent(), 1_000.0, weight=10, rate=2, burst=4)
    assert wait == 0.0
    assert reserve(spent, 1_000.0, weight=2, rate=2, burst=4)[1] == 4.0


def test_a_pause_closes_it_for_all_and_a_longer_one_stays_in_force() -> None:
    spent = closed(Spent(), 1_000.0, seconds=10, rate=4)
    assert [reserve(spent, 1_000.0, weight, rate=4, burst=8)[1] for weight in (1, 3)] == [10.0, 10.5]
    assert closed(spent, 1_000.0, seconds=1, rate=4) == Spent(spent.spent_until, 2)


def limiter(connection: Connection, rate: float, burst: float) -> SharedRateLimiter:
    return SharedRateLimiter(SharedBucket(connection, "here.hyperliquid.quote", rate, burst), rate, burst)


async def spending(one: SharedRateLimiter, times: list[float]) -> None:
    while True:
        await one.spend(2)
        times.append(time.monotonic())


async def test_three_instances_of_which_one_dies_spend_what_one_may_and_no_time_sees_more(
    log: Connection, running: Addresses
) -> None:
    connections = [await connect(running.nats_url, f"instance {number}") for number in range(3)]
    times: list[float] = []
    limiters = [limiter(connection, 40.0, 20.0) for connection in connections]
    tasks = [asyncio.create_task(spending(one, times)) for one in limiters for _ in range(3)]
    try:
        await asyncio.sleep(1.5)
        for task in tasks[:3]:
            task.cancel()
        await asyncio.sleep(1.5)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in connections:
            await connection.close()
    assert 2 * len(times) >= 0.6 * (20 + 40 * 3.0), "what a dead instance does not ask for, the others do"
    for begin in times:
        within = 2 * sum(begin <= at < begin + 0.5 for at in times)
        assert within <= 20 + 40 * 0.5 + 8, "never more than the burst and what half a second adds"


async def test_a_429_to_one_instance_stops_the_others_too(log: Connection, running: Addresses) -> None:
    other = await connect(running.nats_url, "other")
    try:
        first, second = limiter(log, 40.0, 20.0), limiter(other, 40.0, 20.0)
        await second.spend(1)
        began = time.monotonic()
        first.pause(0.8)
        bucket = SharedBucket(log, "here.hyperliquid.quote", 40.0, 20.0)
        await settled(bucket.pauses, lambda found: found == 1)
        await second.spend(1)
        assert time.monotonic() - began >= 0.75
        await asyncio.wait_for(first.spend(1), 5)
    finally:
        await other.close()


async def test_what_was_reserved_before_a_pause_waits_for_its_end(log: Connection) -> None:
    one = limiter(log, 10.0, 2.0)
    await one.spend(2)
    began = time.monotonic()
    waiting = asyncio.create_task(one.spend(2))  # due in 0.2 s
    await asyncio.sleep(0.05)
    await SharedBucket(log, "here.hyperliquid.quote", 10.0, 2.0).close(0.6)  # another instance met a 429
    await asyncio.wait_for(waiting, 5)
    assert time.monotonic() - began >= 0.6


async def test_a_venue_that_enforces_its_limit_refuses_none_of_three_instances(
    log: Connection, running: Addresses
) -> None:
    """60 at once, then 3 a second; instances with budgets of their own would meet the limit of 80 at once."""
    venue = await serve(LoadSource(rate=1, influencers=1, coins=1, seconds=1), limits=Limits(weight_per_minute=80))
    connections = [await connect(running.nats_url, f"instance {number}") for number in range(3)]

    async def ask(connection: Connection) -> None:
        async with InfoClient(venue.url, limiter=limiter(connection, 3.0, 60.0)) as info:
            while True:
                await info.book("L000")

    tasks = [asyncio.create_task(ask(connection)) for connection in connections]
    try:
        await asyncio.sleep(4)
        assert venue.usage.requests_refused == 0
        assert 60 <= venue.usage.weight <= 60 + 3 * 5
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in connections:
            await connection.close()
        await venue.close()
