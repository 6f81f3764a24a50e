"""Every type of event in the log: the domain's events and those of `streams`."""

from msgspec import Struct

from domain.events import CATALOGUE
from streams.dead_letters import (
    DEAD_TYPE,
    DROPPED_TYPE,
    RETRIED_TYPE,
    DeadLetterDropped,
    DeadLettered,
    DeadLetterRetried,
)
from streams.envelope import Codec, Recorded
from streams.errors import UnprocessableError
from streams.processing.checkpoint import CHECKPOINT_TYPE, Checkpoint
from streams.reader import Stored
from streams.writers import refuse_foreign

ALL: dict[str, type[Struct]] = {
    **CATALOGUE,
    CHECKPOINT_TYPE: Checkpoint,
    DEAD_TYPE: DeadLettered,
    RETRIED_TYPE: DeadLetterRetried,
    DROPPED_TYPE: DeadLetterDropped,
}


def codec() -> Codec:
    """A codec for all events of the log; it refuses those that no writer of their stream stores."""
    return Codec(ALL, refuse_foreign)


def readable(codec: Codec, stream: str, stored: Stored) -> list[Recorded]:
    """The events of a stored message; none when it cannot be decoded: readers of history skip it."""
    try:
        return codec.decode(stream, stored.sequence, stored.subject, stored.payload)
    except UnprocessableError:
        return []
