"""The base of all recorders: one stream, and commits that are repeated after conflicts with other writers."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from eventsourcing.persistence import ProgrammingError

from streams.append import MAX_BATCH, Record
from streams.errors import ConflictError
from streams.eventsourcing.stream_io import StreamIO, new_commit
from streams.eventsourcing.sync_bridge import SyncBridge
from streams.retry import RETRY_SECONDS

Decide = Callable[[str], Awaitable[list[Record]]]
"""Makes the records of a commit from its name, with the current expected versions. Raises IntegrityError if they are
not allowed."""


class StreamRecorder:
    """A recorder over one existing stream of the log."""

    def __init__(self, bridge: SyncBridge, stream: str, *, give_up_after: float = RETRY_SECONDS) -> None:
        """`give_up_after`: seconds after which a commit whose outcome stays uncertain, or in conflict, raises."""
        self.bridge = bridge
        self._give_up_after = give_up_after
        self._io = StreamIO(bridge.connection, stream, give_up_after)

    @property
    def stream(self) -> str:
        """The name of the stream."""
        return self._io.stream

    async def _commit(self, decide: Decide) -> int:
        """Decide and append; after a conflict with another writer decide again. Returns the first sequence."""
        now = asyncio.get_running_loop().time
        deadline, commit = now() + self._give_up_after, new_commit()
        while True:
            try:
                return await self._io.append(await decide(commit), commit)
            except ConflictError:
                if now() > deadline:
                    raise
            await asyncio.sleep(random.uniform(0, 0.01))


def check_size(count: int) -> None:
    """Raises ProgrammingError for more messages than one atomic batch may hold."""
    if count > MAX_BATCH:
        raise ProgrammingError(
            f"{count:,} events and tracking rows in one insert; an atomic batch holds {MAX_BATCH:,}: save fewer at once"
        )
