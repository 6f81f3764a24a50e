"""What a venue sent about a followed address and ingest cannot read: to DEAD, once, with its payload."""

from collections.abc import Callable
from hashlib import blake2b

import msgspec
import structlog

from gateways.venue_errors import WireError
from handlers.ingest.recent_ids import RecentIds
from streams.connection import Connection
from streams.dead_letters import dead_letter
from streams.metrics import DEAD
from streams.retry import retry_forever

log = structlog.get_logger()

STAGE = "ingest"
UNREADABLE = (WireError, msgspec.MsgspecError, UnicodeError, RecursionError)
"""What parsing a malformed payload may raise."""


class DeadLetters:
    """Writes dead letters of one origin, such as a venue. The log remembers what was written for a day."""

    def __init__(self, connection: Connection, clock: Callable[[], int], origin: str) -> None:
        self._connection = connection
        self._clock = clock
        self._origin = origin
        self._written = RecentIds(50_000)

    async def write(self, key: str, *, subject: str, payload: bytes, error: str) -> bool:
        """Dead-letter a payload under the id `ingest:{key}`; False when that was done before. Waits for the log."""
        if not self._written.add(key):
            return False
        log.warning("ingest.dead_lettered", origin=self._origin, key=key[:200], error=error[:500])
        await retry_forever(
            lambda: dead_letter(
                self._connection,
                stage=STAGE,
                stream=self._origin,
                sequence=0,
                subject=subject,
                payload=payload,
                error=error,
                now=self._clock(),
                dead_id=f"{STAGE}:{key}",
            )
        )
        DEAD.labels(STAGE).inc()
        return True


def digest(payload: bytes) -> str:
    """An id for a payload that has none."""
    return blake2b(payload, digest_size=12).hexdigest()
