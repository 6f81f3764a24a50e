"""Waiting for a condition, with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], bool], within: float = 20.0, *, what: str = "the condition") -> None:
    """Return as soon as the condition holds; AssertionError when it does not within so many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not hold within {within} s"
        await asyncio.sleep(0.01)


async def settled(
    look: Callable[[], Awaitable[T]], accept: Callable[[T], bool], within: float = 20.0, *, every: float = 0.02
) -> T:
    """What `look` answers once it is accepted; AssertionError with the last answer after so many seconds."""
    deadline = time.monotonic() + within
    while not accept(seen := await look()):
        assert time.monotonic() < deadline, f"not so within {within} s; last seen: {seen!r}"
        await asyncio.sleep(every)
    return seen
