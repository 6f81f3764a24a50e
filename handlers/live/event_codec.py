"""Every type that may stand in the log: the domain's events and the log's own."""

from msgspec import Struct

from domain.events import CATALOGUE
from streams.dead_letter_events import DEAD_TYPE, DeadLettered
from streams.dead_letters import DROPPED_TYPE, RETRIED_TYPE, DeadLetterDropped, DeadLetterRetried
from streams.envelope import Codec, Recorded
from streams.errors import UnprocessableError
from streams.processing.checkpoint import CHECKPOINT_TYPE, Checkpoint
from streams.reader import Stored

ALL: dict[str, type[Struct]] = {
    **CATALOGUE,
    CHECKPOINT_TYPE: Checkpoint,
    DEAD_TYPE: DeadLettered,
    RETRIED_TYPE: DeadLetterRetried,
    DROPPED_TYPE: DeadLetterDropped,
}


def codec() -> Codec:
    """A codec for all events of the log."""
    return Codec(ALL)


def readable(codec: Codec, stream: str, stored: Stored) -> Recorded | None:
    """A stored event, or None for what is none: who looks back over history passes that over."""
    try:
        return codec.decode(stream, stored.sequence, stored.subject, stored.payload)
    except UnprocessableError:
        return None
