"""Whether readers keep up with their streams: how far their durable consumers are behind, and for how long."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog

from streams.connection import Connection
from streams.errors import LogError, RefusedError

log = structlog.get_logger()

_ASK_SECONDS = 2.0


class LagLimit(NamedTuple):
    """A reader that has more than `events` before it for longer than `seconds` is behind."""

    events: int = 10_000
    seconds: float = 30.0


DEFAULT_LIMIT = LagLimit()

Reader = tuple[str, str]
"""(stream, durable consumer)."""


class Backlogs:
    """Since when the backlog of each reader is above the limit; times in seconds of any one clock."""

    def __init__(self, limit: LagLimit) -> None:
        self._limit = limit
        self._above: dict[str, tuple[float, int]] = {}

    def count(self, waiting: dict[str, int], now: float) -> None:
        """The backlog of every reader by its name, in events, as of `now`. One that is not named is not ours."""
        self._above = {
            name: (self._above.get(name, (now, 0))[0], events)
            for name, events in waiting.items()
            if events > self._limit.events
        }

    def problems(self, now: float) -> list[str]:
        """One text for each reader that is behind."""
        return [
            f"{name}: {events:,} events behind, and more than {self._limit.events:,} for {now - since:.0f} s"
            for name, (since, events) in self._above.items()
            if now - since >= self._limit.seconds
        ]


class LagWatch:
    """Asks again and again how far the readers are that `readers` names at that time."""

    def __init__(self, connection: Connection, limit: LagLimit, readers: Callable[[], Iterable[Reader]]) -> None:
        self._connection = connection
        self._readers = readers
        self._backlogs = Backlogs(limit)
        self._every = min(_ASK_SECONDS, max(0.1, limit.seconds / 2))

    @property
    def problems(self) -> list[str]:
        """One text for each reader that is behind."""
        return self._backlogs.problems(time.monotonic())

    async def run(self) -> None:
        """Until cancelled. A log that does not answer changes nothing: that is a problem of its own."""
        while True:
            try:
                waiting = {consumer: await self._waiting(stream, consumer) for stream, consumer in self._readers()}
                self._backlogs.count(waiting, time.monotonic())
            except LogError as error:
                log.debug("lag.unknown", error=str(error))
            await asyncio.sleep(self._every)

    async def _waiting(self, stream: str, consumer: str) -> int:
        try:
            answer = await self._connection.api(f"CONSUMER.INFO.{stream}.{consumer}")
        except RefusedError:  # it is not made yet
            return 0
        return int(answer["num_pending"]) + int(answer["num_ack_pending"])
