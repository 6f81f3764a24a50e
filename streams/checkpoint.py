"""Checkpoints: how far a lane of a stage has read, stored in the stage's output stream beside its outputs.

The checkpoint travels in the same atomic batch as the outputs and carries the guard: whoever commits with an old
checkpoint is refused. It also names the CONFIG sequence that the commit had seen.
"""

import msgspec
from msgspec import Struct

from streams.connection import Connection
from streams.envelope import rfc3339
from streams.read import last


class Checkpoint(Struct, frozen=True, kw_only=True):
    """`position` is the last input sequence whose outputs are all stored. When an event's outputs fill more than one
    batch, `part_of` is that event's sequence and `parts_done` counts its outputs stored so far. `retried` is the last
    retry of a dead letter (its sequence in DEAD) that was run."""

    stage: str
    lane: str
    stream: str
    position: int
    part_of: int = 0
    parts_done: int = 0
    retried: int = 0
    config_sequence: int = 0
    commit: str = ""


class _Envelope(Struct, omit_defaults=True):
    specversion: str
    type: str
    source: str
    id: str
    time: str
    data: Checkpoint


CHECKPOINT_TYPE = "checkpoint.reached"
_DECODER = msgspec.json.Decoder(_Envelope)


def encode(checkpoint: Checkpoint, time_ns: int) -> bytes:
    """The stored bytes: an envelope like every other event's."""
    return msgspec.json.encode(
        _Envelope(
            "1.0",
            CHECKPOINT_TYPE,
            f"vibe/{checkpoint.stage}",
            checkpoint.commit,
            rfc3339(time_ns),
            checkpoint,
        )
    )


async def load(connection: Connection, stream: str, subject: str) -> tuple[int, Checkpoint | None]:
    """The newest checkpoint on a subject and its own sequence, from the leader; (0, None) when there is none."""
    stored = await last(connection, stream, subject)
    if stored is None:
        return 0, None
    return stored.sequence, _DECODER.decode(stored.payload).data
