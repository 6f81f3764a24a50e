"""Plays a recording of the real venue: JSON lines of `received_wall_ns` and a frame.

The frames go out with the bytes they were recorded with, times included, to those who subscribe to their channel and
coin. Positions start flat and are folded from the trades played.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from gateways.sandbox.hyperliquid.coins import BY_NAME, Coin
from gateways.sandbox.hyperliquid.market import Market
from gateways.sandbox.hyperliquid.market_data import Book, Fill, Level, Trade
from gateways.sandbox.hyperliquid.venue import Venue

_LEVERAGE: Final = 10
_OID_BITS: Final = 40


class _Line(msgspec.Struct):
    received_wall_ns: int
    channel: str
    data: msgspec.Raw


@dataclass(frozen=True)
class _Frame:
    received_ns: int
    channel: str
    coin: str
    data: Any
    raw: bytes
    times: tuple[int, ...]


class RecordingSource:
    """Plays `path` once at `speed` times the recorded pace, starting `lead_s` after the first `trades` subscription.

    Within the lead a client subscribes to all its coins and so loses nothing. The venue's time is the largest time
    played; before that, a millisecond less than the smallest in the recording.
    """

    quotes_itself = True

    def __init__(self, path: Path, *, speed: float = 1.0, lead_s: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be positive, got {speed}")
        self._frames = [_frame(line, number) for number, line in enumerate(path.read_bytes().splitlines(), 1)]
        if not self._frames:
            raise ValueError(f"{path} holds no frame")
        self._speed = speed
        self._lead_s = lead_s
        self._now_ms = min(time for frame in self._frames for time in frame.times) - 1
        self._settled: set[tuple[str, int, int]] = set()

    def prepare(self, market: Market) -> None:
        market.list_coins(_coins(self._frames))
        for frame in self._frames:
            if frame.channel == "trades":
                for user in {user for trade in frame.data for user in trade["users"]}:
                    market.open_account(user)

    def now_ms(self, clock_ns: int) -> int:
        return self._now_ms

    async def run(self, venue: Venue) -> None:
        await venue.trades_wanted.wait()
        loop = asyncio.get_running_loop()
        start, first_ns = loop.time() + self._lead_s, self._frames[0].received_ns
        for frame in self._frames:
            due = start + (frame.received_ns - first_ns) / 1e9 / self._speed
            # Sleeping for 0 s lets the sockets write when many frames are due at once.
            await asyncio.sleep(max(0.0, due - loop.time()))
            self._send(venue, frame)

    def _send(self, venue: Venue, frame: _Frame) -> None:
        self._now_ms = max(self._now_ms, *frame.times)
        match frame.channel:
            case "trades":
                trades = [Trade.from_wire(wire) for wire in frame.data]
                fills = [fill for trade in trades for fill in self._settle(venue.market, trade)]
                venue.traded(trades, fills, frame=frame.raw)
            case "bbo":
                bid, ask = (None if wire is None else Level.from_wire(wire) for wire in frame.data["bbo"])
                book = venue.market.books.get(frame.coin, Book((), ())).with_top(bid, ask)
                venue.recorded("bbo", frame.coin, book, frame.raw)
            case "l2Book":
                bids, asks = (tuple(map(Level.from_wire, side)) for side in frame.data["levels"])
                venue.recorded("l2Book", frame.coin, Book(bids, asks), frame.raw)

    def _settle(self, market: Market, trade: Trade) -> Sequence[tuple[str, Fill]]:
        # The replay at the start of a recording can overlap with its live frames.
        identity = (trade.coin, trade.time, trade.tid)
        if identity in self._settled:
            return ()
        self._settled.add(identity)
        # A trade names no orders. The taker's follows from the transaction, the maker's from the trade.
        taker, maker = int(trade.hash[-10:], 16) or trade.tid, trade.tid % (1 << _OID_BITS)
        return market.settle(trade, *((taker, maker) if trade.side == "B" else (maker, taker)))


def _frame(line: bytes, number: int) -> _Frame:
    try:
        parsed = msgspec.json.decode(line, type=_Line)
        data = msgspec.json.decode(parsed.data)
        match parsed.channel:
            case "trades":
                coin, times = data[0]["coin"], tuple(trade["time"] for trade in data)
            case "bbo" | "l2Book":
                coin, times = data["coin"], (data["time"],)
            case _:
                raise ValueError(f"channel {parsed.channel!r} cannot be played; use trades, bbo, l2Book")
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"recording line {number}: {error}") from error
    raw = b'{"channel":"%b","data":%b}' % (parsed.channel.encode(), bytes(parsed.data))
    return _Frame(parsed.received_wall_ns, parsed.channel, coin, data, raw, times)


def _coins(frames: Sequence[_Frame]) -> list[Coin]:
    """The coins in order of appearance; `szDecimals` of an unknown one is what its sizes need."""
    decimals: dict[str, int] = {}
    for frame in frames:
        rows = frame.data if frame.channel == "trades" else _levels(frame.data)
        seen = max((_decimals(row["sz"]) for row in rows), default=0)
        decimals[frame.coin] = max(decimals.get(frame.coin, 0), seen)
    return [BY_NAME.get(name) or Coin(name, needed, _LEVERAGE) for name, needed in decimals.items()]


def _levels(data: dict[str, Any]) -> list[dict[str, Any]]:
    rows = data["bbo"] if "bbo" in data else [level for side in data["levels"] for level in side]
    return [row for row in rows if row is not None]


def _decimals(size: str) -> int:
    exponent = Decimal(size).normalize().as_tuple().exponent
    assert isinstance(exponent, int), "sizes are finite"
    return max(0, -exponent)
