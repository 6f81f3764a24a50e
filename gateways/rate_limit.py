"""One rate limit for all requests to a host: a token bucket with one queue, which a 429 closes for a while."""

import asyncio


class RateLimiter:
    """`rate_per_second` requests on average, `burst` at once. First come, first served."""

    def __init__(self, rate_per_second: float = 20.0, burst: int = 40) -> None:
        if rate_per_second <= 0 or burst < 1:
            raise ValueError(
                f"a rate above 0 and a burst of at least 1 are expected, not {rate_per_second} and {burst}"
            )
        self._rate = rate_per_second
        self._burst = burst
        self._tokens = float(burst)
        self._at = 0.0
        self._opens_at = 0.0
        self._line = asyncio.Lock()

    async def turn(self) -> None:
        """Wait until one more request may go."""
        async with self._line:
            clock = asyncio.get_running_loop().time
            while True:
                wait = self._wait(clock())
                if wait <= 0:
                    break
                # Looked at again afterwards: a pause may have begun meanwhile.
                await asyncio.sleep(wait)
            self._tokens -= 1

    def pause(self, seconds: float) -> None:
        """Let nobody go for `seconds`, and then one by one instead of a burst. A longer pause stays in force."""
        self._opens_at = max(self._opens_at, asyncio.get_running_loop().time() + max(0.0, seconds))
        self._tokens = min(self._tokens, 1.0)
        self._at = self._opens_at

    def _wait(self, now: float) -> float:
        if now < self._opens_at:
            return self._opens_at - now
        if self._at and now > self._at:
            self._tokens = min(float(self._burst), self._tokens + (now - self._at) * self._rate)
        self._at = max(self._at, now)
        return max(0.0, (1.0 - self._tokens) / self._rate)
