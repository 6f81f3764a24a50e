"""Following CONFIG: the stages of a process share one live configuration; a change takes effect without a restart."""

import asyncio
from collections.abc import Callable

import structlog

from domain.configuration import Configuration
from handlers.live.stream_follower import StreamFollower
from streams.connection import Connection
from streams.envelope import Codec, nanoseconds
from streams.errors import UnprocessableError
from streams.reader import Stored, StreamSubscription, read_all
from streams.topology import CONFIG

log = structlog.get_logger()


def fold(directory: Configuration, codec: Codec, stored: Stored) -> None:
    """Fold one stored message of CONFIG. An unreadable one is skipped: it cannot be removed from the log."""
    try:
        events = codec.decode(CONFIG.name, stored.sequence, stored.subject, stored.payload)
    except UnprocessableError as error:
        log.error("config.unreadable", sequence=stored.sequence, error=str(error))
        return
    for event in events:
        directory.evolve(event.data, nanoseconds(event.time), stored.sequence)


async def directory_at(connection: Connection, codec: Codec, sequence: int | None = None) -> tuple[Configuration, int]:
    """The configuration as of a CONFIG sequence (None = now), and the last sequence in it."""
    directory, reached = Configuration(), 0
    async for batch in read_all(connection, CONFIG.name):
        for stored in batch:
            if sequence is not None and stored.sequence > sequence:
                return directory, reached
            fold(directory, codec, stored)
            reached = stored.sequence
    return directory, reached


class LiveConfiguration:
    """The live configuration of a process and the CONFIG sequence that it has reached."""

    def __init__(self, connection: Connection, codec: Codec) -> None:
        self._connection = connection
        self._codec = codec
        self._moved = asyncio.Condition()
        self._listeners: list[Callable[[], None]] = []
        feed = StreamSubscription(connection, CONFIG.name, description="follows configuration")
        self._following = StreamFollower(feed, self._changed)
        self.close, self.watch = self._following.close, self._following.watch
        self.directory = Configuration()
        self.sequence = 0

    async def start(self) -> None:
        """Load all of CONFIG, then follow it."""
        self.directory, self.sequence = await directory_at(self._connection, self._codec)
        await self._following.start(self.sequence)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change."""
        self._listeners.append(listener)

    async def reached(self, sequence: int) -> None:
        """Wait until the configuration includes this CONFIG sequence."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.sequence >= sequence)

    async def at(self, sequence: int) -> Configuration:
        """The configuration as of an earlier CONFIG sequence."""
        directory, _ = await directory_at(self._connection, self._codec, sequence)
        return directory

    async def _changed(self, taken: list[Stored]) -> None:
        for stored in taken:
            fold(self.directory, self._codec, stored)
        self.sequence = taken[-1].sequence  # at once: no commit may name an older configuration than it used
        async with self._moved:
            self._moved.notify_all()
        log.info("config.changed", sequence=self.sequence, events=len(taken))
        for listener in self._listeners:
            listener()
