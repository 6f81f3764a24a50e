"""What a venue counts of a client within the last so many seconds: requests, their weight, connections, messages."""

import time
from collections import deque


class SlidingWindow:
    """At most `limit` within any `seconds`; the clock is the machine's, whatever time the venue shows."""

    def __init__(self, limit: float, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._spent: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def take(self, weight: float = 1.0) -> bool:
        """Count this much; False, and nothing is counted, when it is more than what is left."""
        self._forget()
        if self._sum + weight > self._limit:
            return False
        self.add(weight)
        return True

    def add(self, weight: float) -> None:
        """Count this much, even above the limit: what is known to be heavy only once it was answered."""
        if weight:
            self._spent.append((time.monotonic(), weight))
            self._sum += weight

    def _forget(self) -> None:
        before = time.monotonic() - self._seconds
        while self._spent and self._spent[0][0] <= before:
            self._sum -= self._spent.popleft()[1]
