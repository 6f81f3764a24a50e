"""Answers that are kept for a while, because making them reads much: one is made at a time, an old one is given
meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

_KEPT = 500


class Cache:
    """At most 500 answers; those that were not asked for longest are forgotten."""

    def __init__(self) -> None:
        self._made: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._making: dict[Hashable, asyncio.Future[Any]] = {}

    async def get(self, key: Hashable, seconds: float, make: Callable[[], Awaitable[T]]) -> T:
        """The answer under `key`. One that is older than `seconds` is given too, and made anew in the background;
        only without any does the caller wait. Raises what `make` raises."""
        known = self._made.get(key)
        if known is not None:
            self._made.move_to_end(key)
            if time.monotonic() - known[0] > seconds and key not in self._making:
                self._start(key, make)
            answer: T = known[1]
            return answer
        making = self._making.get(key) or self._start(key, make)
        made: T = await asyncio.shield(making)
        return made

    def forget(self) -> None:
        """Drop every answer."""
        self._made.clear()

    def _start(self, key: Hashable, make: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
        task = asyncio.ensure_future(self._make(key, make))
        self._making[key] = task
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[Any]]) -> Any:
        try:
            answer = await make()
            self._made[key] = time.monotonic(), answer
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
            return answer
        finally:
            self._making.pop(key, None)
