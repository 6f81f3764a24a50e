"""Day boundaries: the sequence at which each UTC day of a stream ends, so that every file holds a contiguous range.

Events near midnight are not in the order of their times, because writers have their own clocks and delays. A day ends
with the last sequence that holds an event of that day or an earlier one. All sequences up to there belong to the day
(or to earlier days), even an event of the next day that is followed by an older one. Times are those of the envelopes;
a message without one belongs to the day of the message before it.
"""

from collections.abc import Callable
from contextlib import aclosing
from typing import NamedTuple

import msgspec
from msgspec import Struct

from streams.bulk_replay import Block, Replay
from streams.envelope import nanoseconds, rfc3339

_BEGINS = b'{"specversion":"1.0","type":"'
_TIME = b'","time":"'
_DATA = b'"data":'
_LONG = len(rfc3339(0))


class _Timed(Struct, frozen=True, gc=False):
    time: str


_decode = msgspec.json.Decoder(_Timed).decode


class DayBoundary(NamedTuple):
    """The last sequence of a UTC day such as 2026-11-20."""

    day: str
    last: int


async def closed_days(
    url: str, stream: str, after: int, closed: str, *, until: int, progress: Callable[[int, int], None]
) -> list[DayBoundary]:
    """The boundaries of all days up to and including `closed` in the sequences `after` + 1 .. `until`, in order.

    Reads everything up to `until`: only then is it certain that no older event follows a boundary.
    """
    days = Days()
    reader = Replay(url, stream, after=after, until=until)
    async with aclosing(reader.blocks()) as blocks:
        async for block in blocks:
            days.add(block)
            progress(reader.done, reader.total)
    return days.boundaries(closed)


class Days:
    """Collects the last sequence of every day, block by block."""

    def __init__(self) -> None:
        self._last: dict[bytes, int] = {}
        self._before = b""

    def add(self, block: Block) -> None:
        days = list(map(day_of, block.payloads))
        if b"" in days:
            for row, day in enumerate(days):
                days[row] = self._before = day or self._before
        self._before = days[-1]
        self._last.update(zip(days, block.sequences, strict=True))

    def boundaries(self, closed: str) -> list[DayBoundary]:
        found: list[DayBoundary] = []
        for day in sorted(self._last):
            if day and day.decode() <= closed and self._last[day] > (found[-1].last if found else 0):
                found.append(DayBoundary(day.decode(), self._last[day]))
        return found


def day_of(payload: bytes) -> bytes:
    """The UTC day of a stored event, such as b'2026-11-20'; empty when the payload has no time."""
    # In payloads of `Codec` no text contains these bytes unescaped, and `data` is last: the first hit is the time.
    at = payload.find(_TIME) + len(_TIME)
    if (
        at >= len(_TIME)
        and payload[at + _LONG - 1 : at + _LONG + 1] == b'Z"'
        and payload.startswith(_BEGINS)
        and payload.find(_DATA, 0, at) < 0
    ):
        return payload[at : at + 10]
    try:
        return rfc3339(nanoseconds(_decode(payload).time))[:10].encode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError):
        return b""
