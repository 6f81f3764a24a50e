"""Following CONFIG: the stages of a process share one live configuration; a change takes effect without a restart."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from domain.configuration import ALL_KINDS, KIND_OF, Configuration, Kind
from domain.events import Event, ImportActivated
from domain.events.catalogue import STORED_NAME
from handlers.live import configuration_snapshot
from handlers.live.stream_follower import StreamFollower
from streams.connection import Connection
from streams.envelope import Codec, Recorded, nanoseconds
from streams.errors import UnprocessableError
from streams.reader import Stored, StreamSubscription, read_all
from streams.topology import CONFIG

log = structlog.get_logger()

SNAPSHOT_EVERY = 5_000
"""Events of CONFIG behind the newest snapshot from which on another one is worth its time."""
IMPORT = "import"
"""The second token of the subjects of large imports; that of other subjects is a kind."""

_ACTIVATED = STORED_NAME[ImportActivated]
_TYPES: dict[str, str] = {kind: STORED_NAME[event] for event, kind in KIND_OF.items()}


class ConfigurationFold:
    """A configuration, and how far CONFIG is folded into it.

    What a large import has staged is kept aside until the event that activates it: a configuration as of any sequence
    has all of an import or nothing of it. `begun` is how far each kind was folded when it was loaded from a snapshot:
    what is older is in it already.
    """

    def __init__(self, codec: Codec, kinds: Collection[Kind] = ALL_KINDS) -> None:
        self._codec = codec
        self.directory = Configuration(kinds)
        self.begun: Mapping[Kind, int] = {}
        self.sequence = 0
        self.folded = 0
        """How many events were folded."""
        self._types = frozenset({_ACTIVATED, *(_TYPES[kind] for kind in self.directory.kinds)})
        self._staged: list[tuple[Event, int]] = []
        self._staged_by = ""

    def fold(self, stored: Stored) -> None:
        """Fold one stored message. An unreadable one is skipped: it cannot be removed from the log."""
        self.sequence = stored.sequence
        kind = stored.subject.split(".", 2)[1]
        types = self._wanted(stored.sequence)
        if kind != IMPORT and kind in _TYPES and _TYPES[kind] not in types:
            return
        try:
            events = self._codec.decode(CONFIG.name, stored.sequence, stored.subject, stored.payload, types)
        except UnprocessableError as error:
            log.error("config.unreadable", sequence=stored.sequence, error=str(error))
            return
        if kind == IMPORT:
            self._stage(stored, events)
        else:
            self._evolve(((event.data, nanoseconds(event.time)) for event in events), stored.sequence)

    def _evolve(self, events: Iterable[tuple[Event, int]], sequence: int) -> None:
        for event, at in events:
            self.directory.evolve(event, at, sequence)
            self.folded += 1

    def _wanted(self, sequence: int) -> frozenset[str]:
        """The stored names of the events that are kept of a message."""
        begun = self.begun
        if sequence > max(begun.values(), default=0):
            return self._types
        return frozenset(
            {_ACTIVATED, *(_TYPES[kind] for kind in self.directory.kinds if sequence > begun.get(kind, 0))}
        )

    def _stage(self, stored: Stored, events: list[Recorded]) -> None:
        if stored.subject != self._staged_by:
            self._staged, self._staged_by = [], stored.subject
        for event in events:
            if isinstance(event.data, ImportActivated):
                staged, self._staged, self._staged_by = self._staged, [], ""
                self._evolve(staged, stored.sequence)
            else:
                self._staged.append((self.directory.compacted(event.data), nanoseconds(event.time)))


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


async def save_if_long(connection: Connection, directory: Configuration, sequence: int, *, behind: int) -> None:
    """Store a snapshot of the configuration as of a sequence when many events have come since the last one."""
    if behind > SNAPSHOT_EVERY:
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
        await save_if_long(self._connection, fold.directory, fold.sequence, behind=fold.folded)
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
