"""Reading REQUESTS along with the decisions: each request is kept until its decision has been read."""

from collections.abc import AsyncIterator

from domain.events import CopyRequested, ExecutionRequested
from domain.requests import put_together
from handlers.live.event_codec import codec, readable
from streams.connection import Connection
from streams.reader import Stored, read_all
from streams.topology import REQUESTS, info


class RequestReader:
    """The requests of a log, no further than the decisions need them.

    `first` is the sequence at which the stream begins: what an age limit removed is not missing.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._batches: AsyncIterator[list[Stored]] = read_all(connection, REQUESTS.name)
        self._codec = codec()
        self._waiting: dict[str, ExecutionRequested] = {}
        self._read = 0
        self.first = 0

    async def start(self) -> None:
        """Find out where the stream begins."""
        found = await info(self._connection, REQUESTS.name)
        self.first = int(found["state"]["first_seq"]) if found else 0

    async def find(self, request_id: str, sequence: int) -> ExecutionRequested | None:
        """A request that is stored at or before a sequence; None when none is waiting."""
        while self._read < sequence:
            batch = await anext(self._batches, None)
            if batch is None:
                break
            for stored in batch:
                for event in readable(self._codec, REQUESTS.name, stored):
                    if isinstance(event.data, CopyRequested):
                        self._waiting[event.id] = put_together(event.id, event.head, event.data)
            self._read = batch[-1].sequence
        return self._waiting.get(request_id)

    def take(self, request_id: str) -> None:
        """The request was decided; it is not decided twice."""
        self._waiting.pop(request_id, None)
