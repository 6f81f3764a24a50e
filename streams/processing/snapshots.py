"""Snapshots: the state of a lane as of one sequence of its output stream, so that a start need not replay it all.

A snapshot is only an optimisation: one with another schema, of another log, or damaged is ignored and the state is
replayed from the first event. Two generations alternate; the head, stored last, names the complete one.
"""

from hashlib import blake2b

import msgspec
import structlog
from msgspec import Struct

from streams import topology
from streams.append import Record, append
from streams.connection import Connection
from streams.errors import LogError
from streams.reader import last, read_all
from streams.subjects import Lane
from streams.topology import SNAPSHOTS

log = structlog.get_logger()

_PART = 1_000_000


class Head(Struct, frozen=True, kw_only=True):
    """What a snapshot belongs to, and how to verify it. `sequence` is the last event of `stream` folded into it."""

    stage: str
    lane: str
    schema: int
    stream: str
    stream_created: str
    sequence: int
    generation: str
    parts: int
    size: int
    digest: str


def _subject(stage: str, lane: Lane, *rest: str) -> str:
    return ".".join(("snapshots", stage, lane.name, *rest))


async def save(
    connection: Connection, stage: str, lane: Lane, schema: int, stream: str, sequence: int, state: bytes
) -> Head:
    """Store a snapshot beside the previous one, then make it the newest by storing its head. Raises LogError."""
    before = await _head(connection, stage, lane)
    generation = "b" if before is not None and before.generation == "a" else "a"
    parts = [state[at : at + _PART] for at in range(0, len(state), _PART)] or [b""]
    for number, part in enumerate(parts):
        await append(connection, [Record(_subject(stage, lane, generation, f"{number:05d}"), part)])
    found = await topology.info(connection, stream)
    head = Head(
        stage=stage,
        lane=lane.name,
        schema=schema,
        stream=stream,
        stream_created=found["created"] if found else "",
        sequence=sequence,
        generation=generation,
        parts=len(parts),
        size=len(state),
        digest=_digest(state),
    )
    await append(connection, [Record(_subject(stage, lane, "head"), msgspec.json.encode(head))])
    return head


async def load(connection: Connection, stage: str, lane: Lane, schema: int, stream: str) -> tuple[int, bytes] | None:
    """(sequence, state) of the newest snapshot when it can be used, else None; the reason is logged."""
    head = await _head(connection, stage, lane)
    if head is None:
        return None
    found = await topology.info(connection, stream)
    if head.schema != schema:
        why = f"its schema is {head.schema}, not {schema}"
    elif found is None or head.stream_created != found["created"] or head.sequence > found["state"]["last_seq"]:
        why = "it is of another log"
    else:
        parts = []
        async for batch in read_all(
            connection, SNAPSHOTS.name, [_subject(stage, lane, head.generation, "*")], batch=64
        ):
            parts += [(stored.subject, stored.payload) for stored in batch]
        state = b"".join(payload for _, payload in sorted(parts)[: head.parts])
        if len(state) == head.size and _digest(state) == head.digest:
            return head.sequence, state
        why = "its parts do not match its head"
    log.warning("snapshot.ignored", stage=stage, lane=lane.name, why=why)
    return None


async def _head(connection: Connection, stage: str, lane: Lane) -> Head | None:
    try:
        stored = await last(connection, SNAPSHOTS.name, _subject(stage, lane, "head"))
        return msgspec.json.decode(stored.payload, type=Head) if stored else None
    except (msgspec.MsgspecError, LogError) as error:
        log.warning("snapshot.unreadable", stage=stage, lane=lane.name, error=str(error))
        return None


def _digest(state: bytes) -> str:
    return blake2b(state, digest_size=16).hexdigest()
