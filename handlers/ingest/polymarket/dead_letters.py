"""What Polymarket sent about a followed wallet and nobody can read: to DEAD, once, with its payload."""

from collections.abc import Callable
from hashlib import blake2b

import msgspec
import structlog

from gateways.venue_errors import WireError
from handlers import metrics
from handlers.ingest.recent_ids import RecentIds
from streams import dead_letter_events
from streams.connection import Connection
from streams.retry import retry_forever

log = structlog.get_logger()

STAGE = "ingest"
UNREADABLE = (WireError, msgspec.MsgspecError, UnicodeError, RecursionError)
"""What reading hostile bytes may end in."""


class DeadLetters:
    """The way to DEAD. What was written is remembered here, and by the server for a day."""

    def __init__(self, connection: Connection, clock: Callable[[], int]) -> None:
        self._connection = connection
        self._clock = clock
        self._written = RecentIds(50_000)

    async def write(self, key: str, *, subject: str, payload: bytes, error: str) -> bool:
        """Bury a payload under the id `ingest:{key}`; False when that was done before. Waits until the log takes it."""
        if not self._written.add(key):
            return False
        log.warning("polymarket.unreadable", key=key[:200], error=error[:500])
        await retry_forever(
            lambda: dead_letter_events.dead_letter(
                self._connection,
                stage=STAGE,
                stream="polymarket",
                sequence=0,
                subject=subject,
                payload=payload,
                error=error,
                now=self._clock(),
                dead_id=f"{STAGE}:{key}",
            )
        )
        metrics.DEAD.labels(STAGE).inc()
        return True


def digest(payload: bytes) -> str:
    """An id for what has none."""
    return blake2b(payload, digest_size=12).hexdigest()
