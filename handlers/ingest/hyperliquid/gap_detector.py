"""Whether the feed missed trades: a replay must reach back to the last trade received of its coin.

At every subscribe the venue replays the last 30 trades of a coin (docs/venues/hyperliquid.md, replays and gaps). When
the last trade received is among them, nothing is missing; when it is not, there may be more. Trades are identified by
(block time in ms, tid).
"""

from collections.abc import Iterable

REPLAY = 30


class GapDetector:
    """The newest trade received of every coin; `stored_ms`, the newest time in RAW, counts for a coin without one."""

    def __init__(self, stored_ms: int = 0) -> None:
        self._stored_ms = stored_ms
        self._last: dict[str, tuple[int, int]] = {}
        self._subscribed: set[str] = set()
        self.newest_ms = 0
        """The newest block time received, of any coin."""

    def connected(self, coins: Iterable[str]) -> None:
        """These coins were subscribed to: the next frame of each is a replay."""
        self._subscribed.update(coins)

    def missed(self, coin: str, trades: list[tuple[int, int]], latest_ms: int | None = None) -> int | None:
        """Take note of a frame, oldest trade first. The time (ms) since which trades may be missing; None = never.

        Trades from beyond `latest_ms` are dated wrongly: they prove nothing, and are not taken as the last one.
        """
        replayed = len(trades)
        if latest_ms is not None:
            trades = [trade for trade in trades if trade[0] <= latest_ms]
        last = self._last.get(coin, (self._stored_ms, -1))
        missing = None
        if coin in self._subscribed:
            self._subscribed.discard(coin)
            # A shorter replay is all that the coin ever traded. Inside one block only the trade itself is proof.
            if last[0] and replayed >= REPLAY and last not in trades and (not trades or trades[0][0] >= last[0]):
                missing = last[0]
        if not trades:
            return missing
        newest = trades[-1] if trades[-1][0] >= max(time for time, _ in trades) else max(trades)
        if newest[0] >= last[0]:
            self._last[coin] = newest
        self.newest_ms = max(self.newest_ms, newest[0])
        return missing
