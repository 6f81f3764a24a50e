"""Requests for books, where no live book can be used: one in flight for each asset, the most urgent first.

Those that wait for the same asset share one answer, as long as its request was sent when the book was due for all of
them. The queue is ordered when a request can go: what reduces before what opens, reductions oldest first, openings
newest first, because the oldest of them are worth the least. An opening that becomes too old in the queue leaves it.
"""

import asyncio
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import structlog

from gateways.venue_adapter import Books
from gateways.venue_types import Captured

log = structlog.get_logger()


class Priority(IntEnum):
    """What a book is wanted for. A reduction is owed, an opening is not."""

    REDUCES = 0
    OPENS = 1


class ExpiredError(Exception):
    """An opening became too old before its book was requested."""


class Requested(NamedTuple):
    """The venue's answer, None when it has no book; when it came (ns); and whether another one asked for it."""

    captured: Captured | None
    captured_at: int
    shared: bool


class _Waiter(NamedTuple):
    answer: asyncio.Future[Requested]
    due_at: int
    priority: Priority


class _Request:
    def __init__(self, asset: str) -> None:
        self.asset = asset
        self.waiters: list[_Waiter] = []
        self.sent_at = 0

    def is_wanted(self) -> bool:
        """True while one of those who wait still does."""
        self.waiters = [waiter for waiter in self.waiters if not waiter.answer.done()]
        return bool(self.waiters)

    def order(self) -> tuple[Priority, int]:
        priority = min(waiter.priority for waiter in self.waiters)
        due = [waiter.due_at for waiter in self.waiters if waiter.priority is priority]
        return (priority, min(due)) if priority is Priority.REDUCES else (priority, -max(due))


class BookRequests:
    """The queue of one venue, over the request budget of its books."""

    def __init__(self, books: Books, clock: Callable[[], int]) -> None:
        self._books = books
        self._clock = clock
        self._queued: dict[str, _Request] = {}
        self._sent: dict[str, _Request] = {}
        self._changed = asyncio.Event()
        self._dispatching: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def capture(self, asset: str, due_at: int, priority: Priority, expires_at: int | None = None) -> Requested:
        """A book that was requested at or after `due_at` (ns), which has passed.

        Raises ExpiredError when the request was not sent until `expires_at` (ns), and what the venue's books raise.
        """
        seconds = None if expires_at is None else (expires_at - self._clock()) / 1e9
        if seconds is not None and seconds < 0:
            raise ExpiredError
        waiter = _Waiter(asyncio.get_running_loop().create_future(), due_at, priority)
        self._join(asset, waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter.answer
        except TimeoutError:
            raise ExpiredError from None

    async def close(self) -> None:
        """Give up what is queued and in flight."""
        tasks = [*self._sending, *([self._dispatching] if self._dispatching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _join(self, asset: str, waiter: _Waiter) -> None:
        sent = self._sent.get(asset)
        if sent is not None and sent.sent_at >= waiter.due_at:
            sent.waiters.append(waiter)
            return
        self._queued.setdefault(asset, _Request(asset)).waiters.append(waiter)
        self._changed.set()
        if self._dispatching is None or self._dispatching.done():
            self._dispatching = asyncio.create_task(self._dispatch())

    async def _dispatch(self) -> None:
        """Send the most urgent request whenever the budget has one, until none is queued."""
        while self._queued:
            await self._books.affordable()
            self._changed.clear()
            request = self._next()
            if request is not None:
                self._send(request)
                # Lets the request spend its weight before the budget is looked at again.
                await asyncio.sleep(0)
            elif self._queued:
                await self._changed.wait()

    def _next(self) -> _Request | None:
        """The most urgent request of those whose asset has none in flight."""
        self._queued = {asset: request for asset, request in self._queued.items() if request.is_wanted()}
        free = [request for asset, request in self._queued.items() if asset not in self._sent]
        return min(free, key=_Request.order, default=None)

    def _send(self, request: _Request) -> None:
        del self._queued[request.asset]
        self._sent[request.asset] = request
        request.sent_at = self._clock()
        task = asyncio.create_task(self._answer(request))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _answer(self, request: _Request) -> None:
        try:
            captured = await self._books.capture(request.asset)
        except Exception as error:
            for waiter in request.waiters:
                if not waiter.answer.done():
                    waiter.answer.set_exception(error)
        else:
            now, first = self._clock(), True
            for waiter in request.waiters:
                if not waiter.answer.done():
                    waiter.answer.set_result(Requested(captured, now, not first))
                    first = False
        finally:
            del self._sent[request.asset]
            self._changed.set()
