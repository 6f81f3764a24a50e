"""Waiting for a log that cannot serve at the moment, in the places that have nothing better to do meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from streams.errors import UnavailableError, UnknownOutcomeError

T = TypeVar("T")

RETRY_SECONDS = 20.0
"""Seconds to wait for a log that cannot serve: a cluster chooses a new leader in about five."""

_QUIET_SECONDS = 2.0

log = structlog.get_logger()


class StoppedError(Exception):
    """Told to stop while waiting."""


async def retry_until_available(work: Callable[[], Awaitable[T]]) -> T:
    """Repeat idempotent work for as long as the log cannot serve, up to PATIENCE; says so when it takes long."""
    now = asyncio.get_running_loop().time
    start, delay, told = now(), 0.02, False
    while True:
        try:
            return await work()
        except UnavailableError as error:
            waited = now() - start
            if waited > RETRY_SECONDS:
                raise
            if waited > _QUIET_SECONDS and not told:
                log.warning("log.waiting", why=str(error), up_to_seconds=RETRY_SECONDS)
                told = True
        await asyncio.sleep(delay)
        delay = min(2 * delay, 0.5)


async def retry_forever(work: Callable[[], Awaitable[None]], stop: asyncio.Event | None = None) -> None:
    """Repeat idempotent work until the log takes it. Raises StoppedError when told to stop meanwhile."""
    delay = 0.1
    while True:
        try:
            return await work()
        except (UnavailableError, UnknownOutcomeError) as error:
            if stop is not None and stop.is_set():
                raise StoppedError from error
            log.warning("retry", error=str(error), in_seconds=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)
