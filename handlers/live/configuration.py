"""Following CONFIG: the stages of a process share one live configuration; a change takes effect without a restart."""

import asyncio
from collections.abc import Callable, Collection, Mapping

import structlog

from domain.configuration import ALL_KINDS, Configuration, Kind
from handlers.live import configuration_snapshot
from handlers.live.stream_follower import StreamFollower
from streams.connection import Connection
from streams.envelope import Codec, nanoseconds
from streams.errors import UnprocessableError
from streams.reader import Stored, StreamSubscription, read_all
from streams.topology import CONFIG

log = structlog.get_logger()

SNAPSHOT_EVERY = 5_000
"""Messages of CONFIG behind the newest snapshot from which on another one is worth its time."""


class ConfigurationFold:
    """A configuration, and how far CONFIG is folded into it.

    `begun` is how far each kind was folded when it was loaded from a snapshot: what is older is in it already.
    """

    def __init__(self, codec: Codec, kinds: Collection[Kind] = ALL_KINDS) -> None:
        self._codec = codec
        self.directory = Configuration(kinds)
        self.begun: Mapping[Kind, int] = {}
        self.sequence = 0

    def fold(self, stored: Stored) -> None:
        """Fold one stored message. An unreadable one is skipped: it cannot be removed from the log."""
        self.sequence = stored.sequence
        kind = _KIND_OF.get(stored.subject.split(".", 2)[1])
        if kind is not None and (kind not in self.directory.kinds or stored.sequence <= self.begun.get(kind, 0)):
            return
        try:
            events = self._codec.decode(CONFIG.name, stored.sequence, stored.subject, stored.payload)
        except UnprocessableError as error:
            log.error("config.unreadable", sequence=stored.sequence, error=str(error))
            return
        for event in events:
            self.directory.evolve(event.data, nanoseconds(event.time), stored.sequence)


_KIND_OF = {kind.value: kind for kind in Kind}
"""By the second token of a subject."""


async def configuration_fold(
    connection: Connection,
    codec: Codec,
    kinds: Collection[Kind] = ALL_KINDS,
    *,
    until: int | None = None,
    from_snapshot: bool = True,
) -> ConfigurationFold:
    """Everything in CONFIG, or what was in it as of the sequence `until`: the newest snapshot and what came after it.

    Without `from_snapshot` it is read from the first event.
    """
    fold = ConfigurationFold(codec, kinds)
    if from_snapshot:
        fold.begun = await configuration_snapshot.load(connection, fold.directory, until)
    loaded = min((fold.begun.get(kind, 0) for kind in fold.directory.kinds), default=0)
    fold.sequence = loaded
    async for batch in read_all(connection, CONFIG.name, after=loaded):
        for stored in batch:
            if until is not None and stored.sequence > until:
                return fold
            fold.fold(stored)
    return fold


async def save_if_long(
    connection: Connection, begun: Mapping[Kind, int], directory: Configuration, sequence: int
) -> None:
    """Store a snapshot of the configuration as of a sequence when much has come since the one that it began with."""
    if sequence - min((begun.get(kind, 0) for kind in directory.kinds), default=0) > SNAPSHOT_EVERY:
        await configuration_snapshot.save(connection, directory, sequence)


async def directory_at(
    connection: Connection, codec: Codec, sequence: int | None = None, *, kinds: Collection[Kind] = ALL_KINDS
) -> tuple[Configuration, int]:
    """The configuration as of a CONFIG sequence (None = now), and the last sequence in it."""
    fold = await configuration_fold(connection, codec, kinds, until=sequence)
    return fold.directory, fold.sequence


class LiveConfiguration:
    """The live configuration of a process, of the kinds that it needs, and the CONFIG sequence that it has reached."""

    def __init__(self, connection: Connection, codec: Codec, kinds: Collection[Kind] = ALL_KINDS) -> None:
        self._connection = connection
        self._codec = codec
        self._moved = asyncio.Condition()
        self._listeners: list[Callable[[], None]] = []
        feed = StreamSubscription(connection, CONFIG.name, description="follows configuration")
        self._following = StreamFollower(feed, self._changed)
        self.close, self.watch = self._following.close, self._following.watch
        self._fold = ConfigurationFold(codec, kinds)
        self.directory = self._fold.directory
        self.sequence = 0

    async def start(self) -> None:
        """Load CONFIG, then follow it. What took long to load is saved for the next start."""
        self._fold = fold = await configuration_fold(self._connection, self._codec, self.directory.kinds)
        self.directory, self.sequence = fold.directory, fold.sequence
        await save_if_long(self._connection, fold.begun, fold.directory, fold.sequence)
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
        directory, _ = await directory_at(self._connection, self._codec, sequence, kinds=self.directory.kinds)
        return directory

    async def _changed(self, taken: list[Stored]) -> None:
        for stored in taken:
            self._fold.fold(stored)
        self.sequence = self._fold.sequence  # at once: no commit may name an older configuration than it used
        async with self._moved:
            self._moved.notify_all()
        log.info("config.changed", sequence=self.sequence, events=len(taken))
        for listener in self._listeners:
            listener()
