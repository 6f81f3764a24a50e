"""Whether the feed missed something: a replay must reach back to the last trade seen of its coin (hyperliquid 7.6).

At every subscribe the venue replays the last 30 trades of a coin. When the last one seen is among them, the replay
closes what was missed; when it is not, there may be more. Trades are told apart by (block time in ms, tid).
"""

from collections.abc import Iterable

REPLAY = 30


class GapDetector:
    """How far every coin has come; coins that were never seen have come to `stored_ms`, the newest in the log (0)."""

    def __init__(self, stored_ms: int = 0) -> None:
        self._stored_ms = stored_ms
        self._last: dict[str, tuple[int, int]] = {}
        self._fresh: set[str] = set()
        self.newest_ms = 0

    def connected(self, coins: Iterable[str]) -> None:
        """These coins were subscribed to: the next frame of each is a replay."""
        self._fresh.update(coins)

    def missed(self, coin: str, trades: list[tuple[int, int]]) -> int | None:
        """Take note of a frame, oldest trade first; the time (ms) from which on trades of the coin may be missing."""
        last = self._last.get(coin, (self._stored_ms, -1))
        missing = None
        if coin in self._fresh:
            self._fresh.discard(coin)
            # A shorter replay is all that the coin ever traded. Inside one block only the trade itself is proof.
            if last[0] and len(trades) >= REPLAY and last not in trades and trades[0][0] >= last[0]:
                missing = last[0]
        newest = trades[-1] if trades[-1][0] >= max(time for time, _ in trades) else max(trades)
        if newest[0] >= last[0]:
            self._last[coin] = newest
        self.newest_ms = max(self.newest_ms, newest[0])
        return missing
