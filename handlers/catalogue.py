"""Every type that may stand in the log: the domain's events and the log's own."""

from msgspec import Struct

from domain.events import CATALOGUE
from streams.checkpoint import CHECKPOINT_TYPE, Checkpoint
from streams.dead import DEAD_TYPE, DeadLettered
from streams.envelope import Codec
from streams.letters import DROPPED_TYPE, RETRIED_TYPE, LetterDropped, LetterRetried

ALL: dict[str, type[Struct]] = {
    **CATALOGUE,
    CHECKPOINT_TYPE: Checkpoint,
    DEAD_TYPE: DeadLettered,
    RETRIED_TYPE: LetterRetried,
    DROPPED_TYPE: LetterDropped,
}


def codec() -> Codec:
    """A codec for all events of the log."""
    return Codec(ALL)
