"""One token bucket over every process of a log: requests to a venue are paid from it in the order in which they ask.

The bucket is one small document on a subject of LEASES, changed only by compare-and-set. A process reserves what one
request costs at a time and keeps nothing back, so a process that dies takes at most the request with it that it was
about to send. Times are the server's, so clocks of machines that differ give nothing away.
"""

import asyncio
import time
from datetime import datetime
from typing import NamedTuple

import msgspec
import structlog
from msgspec import Struct, structs

from streams.append import ExpectedVersion, Record, append
from streams.connection import Connection
from streams.errors import ConflictError, LogError
from streams.reader import last
from streams.retry import RetryPolicy
from streams.topology import LEASES

log = structlog.get_logger()

_CLOCK_SECONDS = 30.0
"""How long the measured difference to the server's clock is used."""
_AWAY = RetryPolicy(first_delay=0.05, longest_delay=1.0, jitter=0.5)
_CONFLICT_PAUSE_SECONDS = 0.002


class Spent(Struct, frozen=True):
    """The bucket: empty at `spent_until` (seconds since the epoch, the server's clock), it fills at its rate from then.

    `pauses` counts how often it was closed: what was reserved before is void.
    """

    spent_until: float = 0.0
    pauses: int = 0


class Turn(NamedTuple):
    """When a reserved request may go: after so many seconds; and the number of pauses before it."""

    wait: float
    pauses: int


def reserve(spent: Spent, now: float, weight: float, rate: float, burst: float) -> tuple[Spent, float]:
    """The bucket after a request of this weight, and the seconds until it may go. One above the burst goes when the
    bucket is full, and the next one waits the longer for it."""
    begins = max(spent.spent_until, now - burst / rate)
    goes = begins + min(weight, burst) / rate
    return structs.replace(spent, spent_until=begins + weight / rate), max(0.0, goes - now)


def closed(spent: Spent, now: float, seconds: float, rate: float) -> Spent:
    """The bucket once it was closed for so long: it opens empty, but for one request. A longer pause stays in force."""
    opens = max(spent.spent_until, now + seconds - 1.0 / rate)
    return Spent(opens, spent.pauses + 1)


class SharedBucket:
    """The bucket with this name, for one process."""

    def __init__(self, connection: Connection, name: str, rate_per_second: float, burst: float) -> None:
        """`name`: tokens of a subject, separated by dots."""
        self._connection = connection
        self._subject = f"leases.budget.{name}"
        self._rate = rate_per_second
        self._burst = float(burst)
        self._lock = asyncio.Lock()
        self._known: tuple[int, Spent] | None = None
        self._offset = 0.0
        self._measured_at: float | None = None

    async def take(self, weight: float) -> Turn:
        """Reserve a request of this weight; waits while the log does not answer."""
        async with self._lock:
            while True:
                sequence, spent = await self._state()
                after, wait = reserve(spent, await self._now(), weight, self._rate, self._burst)
                if await self._store(sequence, after):
                    return Turn(wait, after.pauses)

    async def pauses(self) -> int:
        """How often the bucket was closed."""
        async with self._lock:
            self._known = None
            return (await self._state())[1].pauses

    async def wait_for(self, weight: float) -> float:
        """Seconds until a request of this weight could go at once; nothing is reserved."""
        async with self._lock:
            self._known = None
            _, spent = await self._state()
            return reserve(spent, await self._now(), weight, self._rate, self._burst)[1]

    async def close(self, seconds: float) -> None:
        """No request goes for so long, in no process."""
        async with self._lock:
            while True:
                sequence, spent = await self._state()
                if await self._store(sequence, closed(spent, await self._now(), seconds, self._rate)):
                    return

    async def _state(self) -> tuple[int, Spent]:
        """The sequence and the document, as last seen: a conflict shows that it has changed."""
        backoff = _AWAY.start()
        while self._known is None:
            try:
                stored = await last(self._connection, LEASES.name, self._subject)
            except LogError:
                await backoff.sleep()
                continue
            self._known = (0, Spent())
            if stored is not None:
                self._known = stored.sequence, msgspec.json.decode(stored.payload, type=Spent)
        return self._known

    async def _store(self, sequence: int, spent: Spent) -> bool:
        """False when another process was first, or it is not known whether this was stored: what is lost then is one
        request's worth."""
        self._known = None
        record = Record(self._subject, msgspec.json.encode(spent))
        try:
            landed = await append(self._connection, [record], ExpectedVersion(self._subject, sequence), timeout=2)
        except ConflictError:
            await asyncio.sleep(_CONFLICT_PAUSE_SECONDS)
            return False
        except LogError as error:
            log.warning("budget.waits", budget=self._subject, error=str(error))
            await asyncio.sleep(_AWAY.longest_delay)
            return False
        self._known = landed.last, spent
        return True

    async def _now(self) -> float:
        """The server's time, in seconds since the epoch."""
        backoff = _AWAY.start()
        while self._measured_at is None or time.monotonic() - self._measured_at > _CLOCK_SECONDS:
            asked = time.monotonic()
            try:
                answer = await self._connection.api(f"STREAM.INFO.{LEASES.name}")
            except LogError:
                await backoff.sleep()
                continue
            # The answer was made after the question: taken as of its arrival, no time is ahead of the server's.
            self._measured_at = time.monotonic()
            self._offset = datetime.fromisoformat(answer["ts"]).timestamp() - self._measured_at
            if self._measured_at - asked > 0.5:
                self._measured_at = None  # too uncertain
        return time.monotonic() + self._offset
