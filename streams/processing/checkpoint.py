"""Checkpoints: how far a lane of a stage has read, stored in the stage's output stream beside its outputs.

The checkpoint is stored in the same atomic batch as the outputs, which expects the lane's last checkpoint to be the
newest on its subject: the server refuses an instance that commits with an old one. It also names the CONFIG sequence
up to which the stage had read.

An operator changes the number of lanes by stopping every instance of the stage and starting them with the new number.
A lane then takes over from the checkpoints of the lanes that had its partitions before: one atomic batch stores its
own checkpoint and supersedes theirs, so that an instance that still works in the old layout is refused from then on.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from streams.connection import Connection
from streams.envelope import Codec
from streams.reader import last
from streams.subjects import PARTITIONS, Lane


class Checkpoint(Struct, frozen=True, kw_only=True):
    """`position` is the last input sequence whose outputs are all stored. When an event's outputs fill more than one
    batch, `part_of` is that event's sequence and `parts_done` counts its outputs stored so far. `retried` is the last
    retry of a dead letter (its sequence in DEAD) that was run; `retry_of` and `retry_done` count its parts.

    `ahead` holds partitions that were further when the lane took them over: partition -> (position, retried).
    `superseded` says that lanes of another layout have taken over from this one.
    """

    stage: str
    lane: str
    stream: str
    position: int
    part_of: int = 0
    parts_done: int = 0
    retried: int = 0
    config_sequence: int = 0
    commit: str = ""
    retry_of: int = 0
    retry_done: int = 0
    ahead: dict[int, tuple[int, int]] = {}
    superseded: bool = False

    def reached(self, partition: int) -> tuple[int, int]:
        """How far one partition is: (last input sequence, last retry) whose outputs are all stored."""
        position, retried = self.ahead.get(partition, (0, 0))
        return max(self.position, position), max(self.retried, retried)

    def still_ahead(self, position: int, retried: int) -> dict[int, tuple[int, int]]:
        """What is left of `ahead` once the whole lane has come to (position, retried)."""
        return {
            partition: reached
            for partition, reached in self.ahead.items()
            if reached[0] > position or reached[1] > retried
        }


class HalfStoredError(Exception):
    """The number of lanes was changed while one event's outputs were stored in part."""


CHECKPOINT_TYPE = "checkpoint.reached"
_CODEC = Codec({CHECKPOINT_TYPE: Checkpoint})


def encode(checkpoint: Checkpoint, time_ns: int) -> bytes:
    """The stored bytes: a commit like every other event's."""
    return _CODEC.encode(checkpoint, id=checkpoint.commit, source=f"vibe/{checkpoint.stage}", time_ns=time_ns)


def decode(stream: str, sequence: int, subject: str, payload: bytes) -> Checkpoint:
    """The checkpoint in a stored message on a subject of checkpoints."""
    checkpoint: Checkpoint = _CODEC.decode(stream, sequence, subject, payload)[0].data
    return checkpoint


async def load(connection: Connection, stream: str, subject: str) -> tuple[int, Checkpoint | None]:
    """The newest checkpoint on a subject and its own sequence, from the leader; (0, None) when there is none."""
    stored = await last(connection, stream, subject)
    if stored is None:
        return 0, None
    return stored.sequence, decode(stream, *stored)


class StoredCheckpoint(NamedTuple):
    """A checkpoint with its subject and sequence in the log."""

    subject: str
    sequence: int
    checkpoint: Checkpoint


async def overlapping(connection: Connection, stream: str, subject: str, lane: Lane) -> list[StoredCheckpoint]:
    """The newest checkpoints of all lanes, in any layout, that share a partition with `lane`.

    `subject` is the subject of the lane's own checkpoints.
    """
    pattern = f"{subject.rpartition('.')[0]}.*"
    info = await connection.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern})
    found = []
    for name in info["state"].get("subjects") or ():
        first, _, end = name.rpartition(".")[2].partition("-")
        if int(first) <= lane.last and lane.first <= int(end):
            sequence, checkpoint = await load(connection, stream, name)
            if checkpoint is not None:
                found.append(StoredCheckpoint(name, sequence, checkpoint))
    return found


def merged(start: Checkpoint, lane: Lane, stored: Sequence[StoredCheckpoint]) -> Checkpoint:
    """`start` as the checkpoint of a lane that takes over from the lanes of `stored`.

    It reads on from the partition that is least far and passes over what the others have done. A partition never moves
    back, so the furthest of all lanes that ever had it says where it is. Raises HalfStoredError.
    """
    for other in (each.checkpoint for each in stored):
        if other.part_of or other.retry_of:
            first, _, end = other.lane.partition("-")
            count = PARTITIONS // (int(end) - int(first) + 1)
            half = f"{other.stream}:{other.part_of}" if other.part_of else f"the retry DEAD:{other.retry_of}"
            raise HalfStoredError(
                f"{start.stage} {lane.name} cannot take over from lane {other.lane}: the outputs of {half} are stored "
                f"in part; start {start.stage} once with {count} lanes, as it was, then change the number"
            )
    positions: dict[int, tuple[int, int]] = {}
    for partition in range(lane.first, lane.last + 1):
        position = retried = 0
        for each in stored:
            first, _, end = each.checkpoint.lane.partition("-")
            if int(first) <= partition <= int(end):
                reached = each.checkpoint.reached(partition)
                position, retried = max(position, reached[0]), max(retried, reached[1])
        positions[partition] = (position, retried)
    lowest = (min(reached[0] for reached in positions.values()), min(reached[1] for reached in positions.values()))
    return replace(
        start,
        position=lowest[0],
        retried=lowest[1],
        config_sequence=max(each.checkpoint.config_sequence for each in stored),
        ahead={partition: reached for partition, reached in positions.items() if reached != lowest},
    )
