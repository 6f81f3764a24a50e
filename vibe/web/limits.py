"""Request limits: a token bucket for each session, API key or address."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_REMEMBERED = 10_000


class Buckets:
    """Buckets by key: `rate` tokens a second, at most `burst`; keys that were not used for longest are forgotten."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take a token: 0.0, or after how many seconds there is one."""
        now = self._clock()
        tokens, at = self._left.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._left[key] = (tokens - 1 if wait == 0.0 else tokens, now)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return wait
