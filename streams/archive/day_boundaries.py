"""Where the days of a stream end: a day's cut is a sequence, so that every file holds a contiguous range.

Events near midnight do not stand in the order of their times: writers have clocks and delays of their own. So the cut
at a midnight is the first sequence from which on all events have a time at or after it. What comes before the cut
belongs to the day that ends there (or to earlier days), even an event of the next day that has an older one behind
it. Times are those of the envelopes; a message without one belongs to the day of the message before it.
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


async def day_boundaries(
    url: str, stream: str, after: int, closed: str, *, until: int, progress: Callable[[int, int], None]
) -> list[DayBoundary]:
    """The cuts of all days up to and with `closed` among the sequences `after` + 1 .. `until`, in order.

    Everything up to `until` is looked at: only then it is known that nothing older comes behind a cut.
    """
    days = Days()
    reader = Replay(url, stream, after=after, until=until)
    async with aclosing(reader.blocks()) as blocks:
        async for block in blocks:
            days.add(block)
            progress(reader.done, reader.total)
    return days.boundaries(closed)


class Days:
    """The last sequence of every day."""

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
    # In what our encoder writes no text can hold these signs, and `data` comes last: the first find is the time.
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
