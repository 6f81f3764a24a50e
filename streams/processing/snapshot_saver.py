"""Saving snapshots of a lane that is at work."""

import asyncio
from typing import Generic, TypeVar

import structlog

from streams.connection import Connection
from streams.errors import LogError, UnavailableError
from streams.processing import snapshots
from streams.processing.loading import LoadedLane
from streams.processing.stage import Stage
from streams.subjects import Lane

log = structlog.get_logger()

S = TypeVar("S")

_CATCH_UP_SECONDS = 1.0


class SnapshotSaver(Generic[S]):
    """Saves the state of one loaded lane in the background, one snapshot at a time."""

    def __init__(self, connection: Connection, stage: Stage[S], lane: Lane, loaded: LoadedLane[S]) -> None:
        self._connection = connection
        self._stage = stage
        self._lane = lane
        self._loaded = loaded
        self._saving: asyncio.Task[None] | None = None
        self._log = log.bind(stage=stage.name, lane=lane.name)

    def is_due(self, every: int, *, stopping: bool = False) -> bool:
        """True once `every` events were folded since the last snapshot and that one is saved."""
        saving = self._saving is not None and not self._saving.done()
        return bool(self._stage.schema) and self._loaded.state.folded >= every and not saving

    async def save(self, every: int) -> None:
        """Begin to save the state, unless it cannot be brought to one sequence now: then it is due again later.

        The caller has no commit in flight. Raises FencedError.
        """
        state = self._loaded.state
        sequence = await sequence_of_state(self._loaded)
        if sequence is None:
            state.folded = every // 2
            return
        state.folded = 0
        try:
            payload = self._stage.dump(state.value)
        except Exception as error:  # a snapshot is only a shortcut: the lane goes on without it
            self._log.error("snapshot.not_saved", error=f"{type(error).__name__}: {error}")
            return
        self._saving = asyncio.create_task(self._save(sequence, payload))

    async def finish(self) -> None:
        """Wait until the snapshot that is being saved is stored."""
        if self._saving is not None:
            await asyncio.gather(self._saving, return_exceptions=True)

    async def cancel(self) -> None:
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.gather(self._saving, return_exceptions=True)

    async def _save(self, sequence: int, payload: bytes) -> None:
        stage = self._stage
        try:
            await snapshots.save(
                self._connection, stage.name, self._lane, stage.schema, stage.writes.name, sequence, payload
            )
            self._log.info("snapshot.saved", sequence=sequence, bytes=len(payload))
        except LogError as error:
            self._log.warning("snapshot.not_saved", error=str(error))


async def sequence_of_state(loaded: LoadedLane[S]) -> int | None:
    """The sequence of the output stream up to which all events are in the state and none behind it.

    The lane has no commit in flight; here it waits until it has read back what it wrote, if it follows others, and
    makes sure that no other instance has committed for it. None when that cannot be brought about now. Raises
    FencedError.
    """
    state = loaded.state
    deadline = _now() + _CATCH_UP_SECONDS
    while loaded.followed is not None and state.sequence < state.stored:
        left = deadline - _now()
        if left <= 0:
            return None
        await loaded.followed.wait(left)
        loaded.follow()
    try:
        await loaded.committer.confirm()
    except UnavailableError:
        return None
    return state.sequence if loaded.followed is not None else max(state.sequence, loaded.committer.sequence)


def _now() -> float:
    return asyncio.get_running_loop().time()
