"""The configuration as of any event of the log, folded along."""

from __future__ import annotations

from collections.abc import AsyncIterator

from domain.configuration import ALL_KINDS, Configuration
from domain.events import GroupMatched
from handlers.live.configuration import ConfigurationFold
from handlers.live.event_codec import codec, readable
from streams.connection import Connection
from streams.envelope import Recorded
from streams.reader import Stored, read_all
from streams.topology import CONFIG
from vibe.verify.derived import UnknownInputError


class ConfigurationAt:
    """The configuration as of sequences that mostly increase: it is folded on, and from the start when one is lower."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._begin()

    def _begin(self) -> None:
        self._fold = ConfigurationFold(codec(), ALL_KINDS)
        self._messages = self._each()
        self._next: Stored | None = None
        self._next_time = ""
        self._as_of = 0
        self._at = ""

    async def _each(self) -> AsyncIterator[Stored]:
        async for batch in read_all(self._connection, CONFIG.name):
            for stored in batch:
                yield stored

    async def used_at(self, event: Recorded) -> int:
        """The sequence that an event states; of a fan-out without a request the one before it, while no other is in
        force. Raises UnknownInputError when there is one."""
        if not isinstance(event.data, GroupMatched):
            sequence: int = event.data.config_sequence
            return sequence
        await self.at(self._as_of)
        if self._next is not None and _time_of(self._next) <= event.time:
            raise UnknownInputError(f"{event.at} does not state which configuration it used")
        return self._as_of

    async def at(self, sequence: int) -> Configuration:
        """The configuration as of a sequence of CONFIG; valid until the next call."""
        if sequence < self._as_of:
            self._begin()
        self._as_of = sequence
        while True:
            if self._next is None:
                self._next = await anext(self._messages, None)
            if self._next is None or self._next.sequence > sequence:
                return self._fold.directory
            self._fold.fold(self._next)
            self._next, self._next_time = None, ""

    async def at_time(self, time: str) -> Configuration:
        """The configuration that was stored up to a time (RFC 3339); valid until the next call."""
        if time < self._at:
            self._begin()
        self._at = time
        while True:
            if self._next is None:
                self._next, self._next_time = await anext(self._messages, None), ""
            if self._next is not None and not self._next_time:
                self._next_time = _time_of(self._next)
            if self._next is None or self._next_time > time:
                return self._fold.directory
            self._as_of = self._next.sequence
            self._fold.fold(self._next)
            self._next, self._next_time = None, ""


def _time_of(stored: Stored) -> str:
    events = readable(codec(), CONFIG.name, stored)
    return events[0].time if events else ""
