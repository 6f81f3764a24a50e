"""Candles of a coin: one-minute candles folded from its trades, and every longer interval merged from those."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateways.sandbox.hyperliquid.market_data import text

_MINUTE_MS: Final = 60_000
_KEPT: Final = 5_000
_HOUR: Final = 60
INTERVALS: Final = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": _HOUR,
    "2h": 2 * _HOUR,
    "4h": 4 * _HOUR,
    "8h": 8 * _HOUR,
    "12h": 12 * _HOUR,
    "1d": 24 * _HOUR,
    "3d": 72 * _HOUR,
    "1w": 168 * _HOUR,
    "1M": 720 * _HOUR,
}
"""Minutes of each interval; a month is 30 days here."""


@dataclass
class Candle:
    """`start` in ms, prices in USD, `volume` in base units and `notional` in USD, of `trades` trades."""

    start: int
    open: Decimal
    close: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal
    notional: Decimal
    trades: int

    def wire(self, coin: str, interval: str) -> dict[str, object]:
        return {
            "t": self.start,
            "T": self.start + INTERVALS[interval] * _MINUTE_MS - 1,
            "s": coin,
            "i": interval,
            "o": text(self.open),
            "c": text(self.close),
            "h": text(self.high),
            "l": text(self.low),
            "v": text(self.volume),
            "n": self.trades,
        }


class Candles:
    """The candles of one coin, the last 5,000 minutes in which it was traded."""

    def __init__(self) -> None:
        self.minutes: deque[Candle] = deque(maxlen=_KEPT)

    def add(self, time_ms: int, px: Decimal, size: Decimal) -> None:
        """Fold one trade."""
        traded = Candle(time_ms - time_ms % _MINUTE_MS, px, px, px, px, size, px * size, 1)
        if self.minutes and self.minutes[-1].start == traded.start:
            _merge(self.minutes[-1], traded)
        else:
            self.minutes.append(traded)

    def of(self, interval: str, start_ms: int, end_ms: int) -> list[Candle]:
        """Candles of `interval` that begin within both times, oldest first."""
        length = INTERVALS[interval] * _MINUTE_MS
        merged: list[Candle] = []
        for minute in self.minutes:
            begin = minute.start - minute.start % length
            if merged and merged[-1].start == begin:
                _merge(merged[-1], minute)
            elif start_ms <= begin <= end_ms:
                merged.append(_copy(minute, begin))
        return merged

    def newest(self, interval: str) -> Candle | None:
        """The candle that is forming."""
        if not self.minutes:
            return None
        length = INTERVALS[interval] * _MINUTE_MS
        begin = self.minutes[-1].start - self.minutes[-1].start % length
        return _merged([minute for minute in self.minutes if minute.start >= begin], begin)


def _merged(minutes: Iterable[Candle], begin: int) -> Candle:
    first, *rest = minutes
    whole = _copy(first, begin)
    for minute in rest:
        _merge(whole, minute)
    return whole


def _copy(candle: Candle, begin: int) -> Candle:
    return Candle(
        begin, candle.open, candle.close, candle.high, candle.low, candle.volume, candle.notional, candle.trades
    )


def _merge(into: Candle, later: Candle) -> None:
    into.close = later.close
    into.high = max(into.high, later.high)
    into.low = min(into.low, later.low)
    into.volume += later.volume
    into.notional += later.notional
    into.trades += later.trades
