"""What every recorder is: one stream, and commits that are repeated until it is certain who wrote."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from eventsourcing.persistence import ProgrammingError

from streams import retry
from streams.append import MAX_BATCH, Record
from streams.errors import ConflictError
from streams.eventsourcing.stream_io import StreamIO, new_commit
from streams.eventsourcing.sync_bridge import SyncBridge

Decide = Callable[[str], Awaitable[list[Record]]]
"""Makes the records of a commit from its name, guarded by what the log says now; IntegrityError when it may not be."""


class StreamRecorder:
    """A recorder over one stream of the log. The stream exists already."""

    def __init__(self, bridge: SyncBridge, stream: str) -> None:
        self.bridge = bridge
        self._journal = StreamIO(bridge.connection, stream)

    @property
    def stream(self) -> str:
        """The name of the stream."""
        return self._journal.stream

    async def _commit(self, decide: Decide) -> int:
        """Decide and append; decide again whenever somebody else wrote in between. The first sequence."""
        now = asyncio.get_running_loop().time
        deadline, commit = now() + retry.RETRY_SECONDS, new_commit()
        while True:
            try:
                return await self._journal.append(await decide(commit), commit)
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
