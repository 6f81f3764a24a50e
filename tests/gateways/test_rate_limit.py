"""The request budget: a burst, then the rate; weights; order of arrival; and a 429 that closes it."""

import asyncio
import time

import pytest

from gateways.rate_limit import RateLimiter


async def served(limiter: RateLimiter, count: int) -> list[float]:
    """When each of `count` requests was served, one after the other, in seconds from now."""
    began = time.monotonic()
    times = []
    for _ in range(count):
        await limiter.spend()
        times.append(time.monotonic() - began)
    return times


async def served_at_once(limiter: RateLimiter, weights: list[int]) -> list[float]:
    """When each of several requests, which all come at once, is served: seconds from now."""
    start = time.monotonic()

    async def spend(weight: int) -> float:
        await limiter.spend(weight)
        return time.monotonic() - start

    return await asyncio.gather(*(spend(weight) for weight in weights))


async def test_a_burst_is_served_at_once_and_the_rest_at_the_rate() -> None:
    times = await served(RateLimiter(rate_per_second=50, burst=5), 10)
    assert times[4] < 0.06
    assert times[9] >= 0.095


async def test_weights_are_spent_at_once_and_then_at_the_rate() -> None:
    times = await served_at_once(RateLimiter(rate_per_second=10, burst=600), [200, 200, 200, 2, 2, 1])
    assert times == sorted(times), "in order of arrival"
    assert max(times[:3]) < 0.15
    for waited, due in zip(times[3:], (0.2, 0.4, 0.5), strict=True):
        assert due - 0.01 <= waited < due + 0.5, "never sooner than the rate allows"


async def test_a_minute_never_sees_more_than_its_weight() -> None:
    # 800 a minute: 200 at once, then 10 a second, which are 600 in the minute.
    times = await served_at_once(RateLimiter.per_minute(800), [100, 100, 2, 3])
    assert max(times[:2]) < 0.15
    for waited, due in zip(times[2:], (0.2, 0.5), strict=True):
        assert due - 0.01 <= waited < due + 0.5


async def test_what_is_not_used_is_saved_up_to_the_burst() -> None:
    limiter = RateLimiter(rate_per_second=100, burst=3)
    await served(limiter, 3)
    await asyncio.sleep(0.1)
    times = await served(limiter, 4)
    assert times[2] < 0.018
    assert times[3] >= 0.008


async def test_idling_never_saves_more_than_the_burst() -> None:
    limiter = RateLimiter(rate_per_second=10, burst=600)
    await limiter.spend(1)
    await asyncio.sleep(0.3)
    first, second = await served_at_once(limiter, [600, 3])
    assert first < 0.15
    assert 0.25 < second < 1


async def test_a_request_above_the_burst_waits_for_a_full_bucket_and_is_paid_back() -> None:
    limiter = RateLimiter(rate_per_second=100, burst=10)
    first, second = await served_at_once(limiter, [20, 1])
    assert first < 0.1
    assert 0.1 <= second < 1, "the ten that were missing come back first"


async def test_requests_are_served_in_order_of_arrival() -> None:
    limiter = RateLimiter(rate_per_second=200, burst=1)
    order: list[int] = []

    async def one(number: int) -> None:
        await limiter.spend()
        order.append(number)

    await asyncio.gather(*(one(number) for number in range(10)))
    assert order == list(range(10))


async def test_requests_that_can_wait_leave_half_of_the_bucket() -> None:
    limiter = RateLimiter(rate_per_second=10, burst=600)
    start = time.monotonic()
    await limiter.spare()
    assert time.monotonic() - start < 0.1, "all of it is there"
    await limiter.spend(303)
    await limiter.spare()
    assert 0.25 < time.monotonic() - start < 1
    (at_once,) = await served_at_once(limiter, [290])
    assert at_once < 0.1, "an urgent request finds it"


async def test_after_a_pause_requests_are_served_one_by_one() -> None:
    limiter = RateLimiter(rate_per_second=50, burst=40)
    await limiter.spend()
    limiter.pause(0.1)
    limiter.pause(0.01)
    times = await served(limiter, 3)
    assert times[0] >= 0.095
    assert times[2] >= 0.135, "one at the end of the pause, then one every 20 ms"


async def test_a_pause_holds_requests_that_wait_already() -> None:
    limiter = RateLimiter(rate_per_second=20, burst=1)
    await limiter.spend()
    waiting = asyncio.create_task(served(limiter, 1))
    await asyncio.sleep(0.01)
    limiter.pause(0.15)
    assert (await waiting)[0] >= 0.14


async def test_a_request_that_is_cancelled_does_not_hold_the_queue() -> None:
    limiter = RateLimiter(rate_per_second=20, burst=1)
    await limiter.spend()
    first, second = (asyncio.create_task(limiter.spend()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(0.2):
        await second


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1.0, 1), (1.0, 0)])
def test_a_limiter_that_would_serve_no_request_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        RateLimiter(rate, burst)
