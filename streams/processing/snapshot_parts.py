"""Snapshots in parts: each part of a lane's state is stored by itself, as of a sequence of its own.

A part holds what the events of some subjects of the output stream were folded into, all of them up to its sequence. The
head names a sequence up to which every part is complete: a start replays what is behind it, and passes over the events
of a part that are up to that part's sequence. So parts may be saved one after the other while the lane goes on, and
only those that have changed. Whatever is missing, damaged, of another schema or of another log, the state is replayed.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import structlog
from msgspec import Struct

from streams import topology
from streams.append import Record, append
from streams.connection import Connection
from streams.reader import last, read_all
from streams.subjects import Lane, token
from streams.topology import SNAPSHOTS

log = structlog.get_logger()


class PartsHead(Struct, frozen=True, kw_only=True):
    """`sequence`: every event of `stream` up to it is in the parts. `parts`: name -> the sequence that each part has
    at least."""

    stage: str
    lane: str
    schema: int
    stream: str
    stream_created: str
    sequence: int
    parts: dict[str, int]


class _Part(Struct, frozen=True, array_like=True):
    schema: int
    stream_created: str
    sequence: int
    digest: bytes
    state: bytes


class LoadedParts(NamedTuple):
    """What a start begins with: the head's sequence, and of each part its sequence and its bytes."""

    sequence: int
    sequences: dict[str, int]
    states: dict[str, bytes]


class PartStore:
    """The parts and the head of one lane of a stage whose output stream is `stream`."""

    def __init__(self, connection: Connection, stage: str, lane: Lane, schema: int, stream: str) -> None:
        self._connection = connection
        self._stage = stage
        self._lane = lane.name
        self._schema = schema
        self._stream = stream
        self._created = ""

    async def save_part(self, name: str, sequence: int, state: bytes) -> None:
        """Store one part as of a sequence, in place of what it was before. Raises LogError."""
        part = _Part(self._schema, await self._stream_created(), sequence, _digest(state), state)
        await append(self._connection, [Record(self._subject("part", token(name)), msgspec.msgpack.encode(part))])

    async def save_head(self, sequence: int, parts: Mapping[str, int]) -> None:
        """Declare the parts complete up to a sequence. Raises LogError."""
        head = PartsHead(
            stage=self._stage,
            lane=self._lane,
            schema=self._schema,
            stream=self._stream,
            stream_created=await self._stream_created(),
            sequence=sequence,
            parts=dict(parts),
        )
        await append(self._connection, [Record(self._subject("parts"), msgspec.json.encode(head))])

    async def load(self) -> LoadedParts | None:
        """The parts, when they can be used; else None, and the reason is logged. Raises LogError."""
        stored = await last(self._connection, SNAPSHOTS.name, self._subject("parts"))
        if stored is None:
            return None
        loaded = await self._load(stored.payload)
        if isinstance(loaded, LoadedParts):
            return loaded
        log.warning("snapshot.ignored", stage=self._stage, lane=self._lane, why=loaded)
        return None

    async def _load(self, payload: bytes) -> LoadedParts | str:
        """The parts of a stored head, or why they cannot be used."""
        try:
            head = msgspec.json.decode(payload, type=PartsHead)
        except msgspec.MsgspecError as error:
            return str(error)
        found = await topology.info(self._connection, self._stream)
        if head.schema != self._schema:
            return f"its schema is {head.schema}, not {self._schema}"
        if found is None or head.stream_created != found["created"] or head.sequence > found["state"]["last_seq"]:
            return "it is of another log"
        parts = await self._parts(head.stream_created)
        for name, sequence in head.parts.items():
            if name not in parts or parts[name].sequence < sequence:
                return f"part {name} does not match its head"
        return LoadedParts(
            head.sequence,
            {name: part.sequence for name, part in parts.items()},
            {name: part.state for name, part in parts.items()},
        )

    async def _parts(self, created: str) -> dict[str, _Part]:
        """The parts of this schema and log that are whole, by name."""
        prefix = self._subject("part", "")
        parts = {}
        async for batch in read_all(
            self._connection,
            SNAPSHOTS.name,
            [f"{prefix}*"],
            batch=64,
            description=f"loads the snapshot of {self._stage} {self._lane}",
        ):
            for stored in batch:
                try:
                    part = msgspec.msgpack.decode(stored.payload, type=_Part)
                except msgspec.MsgspecError as error:
                    log.warning("snapshot.unreadable", stage=self._stage, subject=stored.subject, error=str(error))
                    continue
                if (part.schema, part.stream_created, part.digest) == (self._schema, created, _digest(part.state)):
                    parts[stored.subject.removeprefix(prefix)] = part
        return parts

    async def _stream_created(self) -> str:
        if not self._created:
            found = await topology.info(self._connection, self._stream)
            self._created = found["created"] if found else ""
        return self._created

    def _subject(self, *rest: str) -> str:
        return ".".join(("snapshots", self._stage, self._lane, *rest))


def _digest(state: bytes) -> bytes:
    return blake2b(state, digest_size=16).digest()
