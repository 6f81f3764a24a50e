"""Retry with exponential backoff: the one policy that every retry in this package follows."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from msgspec import Struct

from streams.errors import UnavailableError, UnknownOutcomeError

T = TypeVar("T")

_QUIET_SECONDS = 2.0

log = structlog.get_logger()


class StoppedError(Exception):
    """The stop event was set while work was being retried."""


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How long to wait between attempts, in seconds, and when to give up.

    The first wait is `first_delay`, each further one `factor` times as long, up to `longest_delay`. `jitter` is the
    share of a wait that is chosen at random: with 0.5 it lasts between half of its length and the whole.
    `give_up_after` counts from the first attempt; None = never.
    """

    first_delay: float = 0.1
    factor: float = 2.0
    longest_delay: float = 5.0
    jitter: float = 0.0
    give_up_after: float | None = None

    def start(self) -> "Backoff":
        """The waits of one series of attempts, which begins now."""
        return Backoff(self)


class Backoff:
    """The waits between the attempts of one series."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._delay = policy.first_delay
        self._began = _now()

    @property
    def elapsed(self) -> float:
        """Seconds since the first attempt."""
        return _now() - self._began

    @property
    def is_over(self) -> bool:
        """True when the policy allows no further attempt."""
        limit = self._policy.give_up_after
        return limit is not None and self.elapsed > limit

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt; each call returns the next wait."""
        delay, policy = self._delay, self._policy
        self._delay = min(delay * policy.factor, policy.longest_delay)
        return delay * random.uniform(1 - policy.jitter, 1)

    def reset(self) -> None:
        """Begin with the first delay again: an attempt made progress."""
        self._delay = self._policy.first_delay

    async def sleep(self) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(self.next_delay())


RETRY_SECONDS = 20.0
"""How long to wait for a log that cannot serve: a cluster elects a new leader in about five seconds."""

UNTIL_AVAILABLE = RetryPolicy(first_delay=0.02, longest_delay=0.5, give_up_after=RETRY_SECONDS)
FOREVER = RetryPolicy(first_delay=0.1, longest_delay=5.0)


async def retry_until_available(work: Callable[[], Awaitable[T]], policy: RetryPolicy = UNTIL_AVAILABLE) -> T:
    """Repeat idempotent work while the log is unavailable; logs a warning when that takes long.

    Raises the last UnavailableError when the policy gives up.
    """
    backoff, warned = policy.start(), False
    while True:
        try:
            return await work()
        except UnavailableError as error:
            if backoff.is_over:
                raise
            if backoff.elapsed > _QUIET_SECONDS and not warned:
                log.warning("log.waiting", why=str(error), up_to_seconds=policy.give_up_after)
                warned = True
        await backoff.sleep()


async def retry_forever(
    work: Callable[[], Awaitable[None]], stop: asyncio.Event | None = None, policy: RetryPolicy = FOREVER
) -> None:
    """Repeat idempotent work until the log takes it. Raises StoppedError when `stop` is set meanwhile."""
    backoff = policy.start()
    while True:
        try:
            return await work()
        except (UnavailableError, UnknownOutcomeError) as error:
            if stop is not None and stop.is_set():
                raise StoppedError from error
            delay = backoff.next_delay()
            log.warning("retry", error=str(error), in_seconds=delay)
            await asyncio.sleep(delay)


def _now() -> float:
    return asyncio.get_running_loop().time()
