"""The request budget of a venue: one weighted token bucket, which a 429 closes for a while.

`RateLimiter` is the bucket of one process; `SharedRateLimiter` spends from one that all processes with the same
outgoing address share.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, Self


class RateLimiter:
    """`rate_per_second` weight on average, `burst` at once. Requests are served in the order in which they came."""

    def __init__(self, rate_per_second: float, burst: float) -> None:
        if rate_per_second <= 0 or burst < 1:
            raise ValueError(
                f"a rate above 0 and a burst of at least 1 are expected, not {rate_per_second} and {burst}"
            )
        self._rate = rate_per_second
        self._burst = float(burst)
        self._tokens = float(burst)
        self._refilled_at = 0.0
        self._opens_at = 0.0
        self._queue = asyncio.Lock()

    @classmethod
    def per_minute(cls, weight: float) -> Self:
        """At most `weight` within any minute: a quarter of it may be spent at once, the rest evenly."""
        return cls(*per_minute(weight))

    async def spend(self, weight: float = 1.0) -> None:
        """Wait until a request of this weight may go. One above the burst goes when the bucket is full."""
        async with self._queue:
            await self._until(weight, 0.0)
            self._tokens -= weight

    async def affordable(self, weight: float = 1.0) -> None:
        """Wait until a request of this weight could go at once, so that its turn can still be given to another one."""
        async with self._queue:
            await self._until(weight, 0.0)

    async def spare(self) -> None:
        """Wait until half of the bucket is unspent, so that urgent requests never wait for those that can."""
        await self._until(self._burst / 2, 0.01)

    def pause(self, seconds: float) -> None:
        """Serve no request for `seconds`, and then one by one instead of a burst. A longer pause stays in force."""
        self._opens_at = max(self._opens_at, asyncio.get_running_loop().time() + max(0.0, seconds))
        self._tokens = min(self._tokens, 1.0)
        self._refilled_at = self._opens_at

    async def _until(self, weight: float, shortest: float) -> None:
        while True:
            wait = self._wait(weight)
            if wait <= 0:
                return
            # Computed again afterwards: a pause may have begun meanwhile.
            await asyncio.sleep(max(wait, shortest))

    def _wait(self, weight: float) -> float:
        now = asyncio.get_running_loop().time()
        if now < self._opens_at:
            return self._opens_at - now
        if self._refilled_at and now > self._refilled_at:
            self._tokens = min(self._burst, self._tokens + (now - self._refilled_at) * self._rate)
        self._refilled_at = max(self._refilled_at, now)
        return max(0.0, (min(weight, self._burst) - self._tokens) / self._rate)


class Turn(Protocol):
    """When a reserved request may go."""

    @property
    def wait(self) -> float:
        """After so many seconds."""

    @property
    def pauses(self) -> int:
        """How often the bucket had been closed when it was reserved."""


class Bucket(Protocol):
    """A token bucket that several processes draw from, in the order in which they ask."""

    async def take(self, weight: float) -> Turn:
        """Reserve a request of this weight."""

    async def pauses(self) -> int:
        """How often the bucket was closed: what was reserved before is void."""

    async def wait_for(self, weight: float) -> float:
        """Seconds until a request of this weight could go at once; nothing is reserved."""

    async def close(self, seconds: float) -> None:
        """No request goes for so long, in no process."""


class SharedRateLimiter(RateLimiter):
    """A limiter whose bucket is shared with other processes: together they ask for no more than one alone might."""

    def __init__(self, bucket: Bucket, rate_per_second: float, burst: float) -> None:
        super().__init__(rate_per_second, burst)
        self._bucket = bucket
        self._closing = set[asyncio.Task[None]]()

    async def spend(self, weight: float = 1.0) -> None:
        while True:
            turn = await self._bucket.take(weight)
            if turn.wait <= 0:
                await self._until_open()
                return
            await asyncio.sleep(turn.wait)
            await self._until_open()
            if await self._bucket.pauses() == turn.pauses:
                return

    async def affordable(self, weight: float = 1.0) -> None:
        await self._free(weight, 0.0)

    async def spare(self) -> None:
        await self._free(self._burst / 2, 0.01)

    def pause(self, seconds: float) -> None:
        super().pause(seconds)
        closing = asyncio.create_task(self._bucket.close(max(0.0, seconds)))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _free(self, weight: float, shortest: float) -> None:
        await self._until_open()
        while True:
            wait = await self._bucket.wait_for(weight)
            if wait <= 0:
                return
            await asyncio.sleep(max(wait, shortest))

    async def _until_open(self) -> None:
        """While this process knows of a pause that the others are still to hear of, nothing goes."""
        while True:
            early = self._opens_at - asyncio.get_running_loop().time()
            if early <= 0:
                return
            await asyncio.sleep(early)


def per_minute(weight: float) -> tuple[float, float]:
    """(rate per second, burst) of at most `weight` within any minute: a quarter may be spent at once, the rest
    evenly."""
    burst = max(1.0, weight / 4)
    return max(weight - burst, burst) / 60, burst


MakeLimiter = Callable[[str, float, float], RateLimiter]
"""A limiter by the name of its budget, its rate per second and its burst."""


def alone(name: str, rate_per_second: float, burst: float) -> RateLimiter:
    """A budget that no other process shares."""
    return RateLimiter(rate_per_second, burst)
