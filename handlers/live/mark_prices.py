"""Following marks and resolutions: the stages of a process that need prices share one live instance."""

import structlog

from domain.mark_prices import MarkPrices
from handlers.live.stream_follower import StreamFollower
from streams.connection import Connection
from streams.envelope import Codec, nanoseconds
from streams.errors import UnprocessableError
from streams.reader import Stored, read_all
from streams.shared_reader import SharedSubscription
from streams.topology import GROUPS, info

log = structlog.get_logger()

PATTERN = "marks.>"


def fold(marks: MarkPrices, codec: Codec, stored: Stored, until: int | None = None) -> bool:
    """Fold one stored message of GROUPS; False, and not folded, when it was recorded after `until` (ns).

    An unreadable one is skipped: it cannot be removed from the log.
    """
    try:
        events = codec.decode(GROUPS.name, stored.sequence, stored.subject, stored.payload)
    except UnprocessableError as error:
        log.error("mark.unreadable", sequence=stored.sequence, error=str(error))
        return True
    if until is not None and events and nanoseconds(events[0].time) > until:
        return False
    for event in events:
        marks.evolve(event.data, stored.sequence)
    return True


async def marks_at(connection: Connection, codec: Codec, until: int | None = None) -> MarkPrices:
    """The newest mark of every asset, and every resolution, as of a time (ns; None = now)."""
    marks = MarkPrices()
    async for batch in read_all(connection, GROUPS.name, [PATTERN], newest=until is None):
        for stored in batch:
            if not fold(marks, codec, stored, until):
                return marks
    return marks


class LiveMarkPrices:
    """The newest mark of every asset and every resolution, as of a GROUPS sequence."""

    def __init__(self, connection: Connection, codec: Codec) -> None:
        self._connection = connection
        self._codec = codec
        feed = SharedSubscription(connection, GROUPS.name, [PATTERN], description="follows marks")
        self._following = StreamFollower(feed, self._marked)
        self.close, self.watch = self._following.close, self._following.watch
        self.marks = MarkPrices()

    async def start(self) -> None:
        """Load the newest mark and resolution of every asset, then follow."""
        found = await info(self._connection, GROUPS.name)
        end = int(found["state"]["last_seq"]) if found else 0
        async for batch in read_all(self._connection, GROUPS.name, [PATTERN], newest=True):
            for stored in batch:
                fold(self.marks, self._codec, stored)
        await self._following.start(end)

    async def _marked(self, taken: list[Stored]) -> None:
        for stored in taken:
            fold(self.marks, self._codec, stored)
