"""Following the gaps that normalize detects: the venue reports a position that the fold did not expect."""

import asyncio
from collections.abc import Callable

import structlog

from domain.events import GapDetected, Venue
from streams import subjects
from streams.connection import Connection
from streams.envelope import Codec
from streams.errors import UnprocessableError
from streams.reader import StreamSubscription
from streams.topology import SIGNALS

log = structlog.get_logger()

_WAIT_SECONDS = 0.5


async def follow_detected_gaps(
    connection: Connection,
    codec: Codec,
    venue: Venue,
    after: int,
    on_gap: Callable[[GapDetected], None],
    stop: asyncio.Event,
) -> None:
    """Call `on_gap` with every gap of a venue stored after SIGNALS sequence `after`, in order, until `stop`.

    `on_gap` must not wait. Unreadable events are logged and skipped.
    """
    pattern = f"signals.*.{subjects.token(venue.value)}.*.{subjects.GAP_TOKEN}"
    feed = await StreamSubscription(
        connection, SIGNALS.name, [pattern], description=f"follows gaps of {venue.value}"
    ).open(after)
    try:
        while not stop.is_set():
            if not await feed.wait(_WAIT_SECONDS):
                continue
            for stored in feed.take(500):
                try:
                    events = codec.decode(SIGNALS.name, stored.sequence, stored.subject, stored.payload)
                except UnprocessableError as error:
                    log.error("gap.unreadable", sequence=stored.sequence, error=str(error))
                    continue
                for event in events:
                    if isinstance(event.data, GapDetected) and event.data.venue is venue:
                        on_gap(event.data)
    finally:
        await feed.close()
