"""The request budget of a venue: one weighted token bucket, which a 429 closes for a while."""

import asyncio
from typing import Self


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
        burst = max(1.0, weight / 4)
        return cls(max(weight - burst, burst) / 60, burst)

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
