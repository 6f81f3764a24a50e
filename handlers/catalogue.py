"""Every type that may stand in the log: the domain's events and the log's own."""

from msgspec import Struct

from domain.events import CATALOGUE
from streams.checkpoint import CHECKPOINT_TYPE, Checkpoint
from streams.dead import DEAD_TYPE, DeadLettered
from streams.envelope import Codec

ALL: dict[str, type[Struct]] = {**CATALOGUE, CHECKPOINT_TYPE: Checkpoint, DEAD_TYPE: DeadLettered}


def codec() -> Codec:
    """A codec for all events of the log."""
    return Codec(ALL)
