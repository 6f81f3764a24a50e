"""Saving the parts of a lane's state that have changed, while the lane is at work."""

import asyncio
import time
from typing import Generic, TypeVar

import structlog

from streams.connection import Connection
from streams.errors import LogError
from streams.processing.loading import LoadedLane
from streams.processing.snapshot_parts import PartStore
from streams.processing.snapshot_saver import sequence_of_state
from streams.processing.stage import Stage
from streams.subjects import Lane

log = structlog.get_logger()

S = TypeVar("S")

_SLICE_SECONDS = 0.01
"""How long the lane stops at once for the encoding of parts."""
_PAUSE_SECONDS = 0.1
"""How long the lane works between two slices."""
_SHARE = 0.02
"""The share of a lane's time that encoding may take over many rounds."""
_STOP_SECONDS = 5.0


class PartSaver(Generic[S]):
    """Saves in rounds: every part that has changed when a round begins, a slice at a time; the head ends the round.

    The caller of `save` has no commit in flight: each part is as of the last commit before it is encoded. `wake` is set
    when the next slice may be due.
    """

    def __init__(
        self, connection: Connection, stage: Stage[S], lane: Lane, loaded: LoadedLane[S], wake: asyncio.Event
    ) -> None:
        self._stage = stage
        self._loaded = loaded
        self._wake = wake
        self._store = PartStore(connection, stage.name, lane, stage.schema, stage.writes.name)
        self._saved = dict(loaded.part_sequences)
        self._round_at: int | None = None
        self._left: dict[str, None] = {}
        self._saving: asyncio.Task[None] | None = None
        self._spent = 0.0
        self._bytes = 0
        self._next_slice = self._next_round = 0.0
        self._log = log.bind(stage=stage.name, lane=lane.name)

    def is_due(self, every: int, *, stopping: bool = False) -> bool:
        """True when the next slice of a round may be saved; a round begins once `every` events were folded since the
        last one, and at a stop whenever so many were."""
        if self._saving is not None and not self._saving.done():
            return False
        if self._round_at is not None:
            return stopping or _now() >= self._next_slice
        return self._loaded.state.folded >= every and (stopping or _now() >= self._next_round)

    async def save(self, every: int) -> None:
        """Encode one slice and begin to store it. Raises FencedError."""
        sequence = await sequence_of_state(self._loaded)
        if sequence is None:
            self._loaded.state.folded = every // 2
            return
        if self._round_at is None:
            self._round_at, self._spent, self._bytes = sequence, 0.0, 0
            self._left = dict.fromkeys(sorted(self._loaded.changed))
            self._loaded.changed.clear()
            self._loaded.state.folded = 0
        try:
            encoded = self._encode_slice()
        except Exception as error:  # a snapshot is only a shortcut: the lane goes on without it
            self._log.error("snapshot.not_saved", error=f"{type(error).__name__}: {error}")
            self._abandon()
            return
        self._saving = asyncio.create_task(self._store_slice(sequence, encoded))
        self._saving.add_done_callback(lambda _: self._wake.set())

    async def finish(self) -> None:
        """Complete the round that has begun, when that does not take long. Raises FencedError."""
        deadline = _now() + _STOP_SECONDS
        while True:
            if self._saving is not None:
                await asyncio.gather(self._saving, return_exceptions=True)
            if self._round_at is None or _now() > deadline:
                return
            await self.save(0)

    async def cancel(self) -> None:
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)

    def _encode_slice(self) -> dict[str, bytes]:
        """So many parts as the time of a slice allows, one at least."""
        began, encoded = time.perf_counter(), dict[str, bytes]()
        took = 0.0
        while self._left and (took < _SLICE_SECONDS or not encoded):
            part = next(iter(self._left))
            encoded[part] = self._stage.dump_part(self._loaded.state.value, part)
            del self._left[part]
            self._loaded.changed.discard(part)
            took = time.perf_counter() - began
        self._spent += took
        self._bytes += sum(map(len, encoded.values()))
        return encoded

    async def _store_slice(self, sequence: int, encoded: dict[str, bytes]) -> None:
        assert self._round_at is not None
        try:
            await asyncio.gather(*(self._store.save_part(part, sequence, state) for part, state in encoded.items()))
            self._saved.update(dict.fromkeys(encoded, sequence))
            if not self._left:
                await self._store.save_head(self._round_at, self._saved)
                self._log.info("snapshot.saved", sequence=self._round_at, bytes=self._bytes, parts=len(self._saved))
                self._round_at, self._next_round = None, _now() + self._spent / _SHARE
        except LogError as error:
            self._log.warning("snapshot.not_saved", error=str(error))
            self._loaded.changed.update(encoded)
            self._abandon()
        self._next_slice = _now() + _PAUSE_SECONDS

    def _abandon(self) -> None:
        """End the round: what was not saved counts as changed."""
        self._loaded.changed.update(self._left)
        self._left.clear()
        self._round_at = None


def _now() -> float:
    return asyncio.get_running_loop().time()
