"""Following a stream in the background, for state that the stages of a process share."""

import asyncio
from collections.abc import Awaitable, Callable

from streams.reader import Stored, StreamSubscription
from streams.shared_reader import SharedSubscription

_BATCH = 1000


class StreamFollower:
    """Calls `take` with the events appended to a stream, batch by batch, until it is closed or fails."""

    def __init__(
        self, feed: StreamSubscription | SharedSubscription, take: Callable[[list[Stored]], Awaitable[None]]
    ) -> None:
        self._feed = feed
        self._take = take
        self._task: asyncio.Task[None] | None = None

    async def start(self, after: int) -> None:
        """Follow the events after this sequence."""
        await self._feed.open(after)
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._feed.close()

    async def watch(self, stop: asyncio.Event) -> None:
        """Until `stop`; raises what ended the following, such as a hole in the stream."""
        assert self._task is not None
        stopped = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({self._task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if self._task in done:
            self._task.result()

    async def _follow(self) -> None:
        while True:
            await self._feed.wait()
            if taken := self._feed.take(_BATCH):
                await self._take(taken)
