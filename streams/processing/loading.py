"""Loading a lane: its checkpoint, the configuration that it names, its state (snapshot, then replay), and the
subscriptions that it reads on from.

A start, a restart after a crash and the takeover of a lane from another instance are this one code path.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from streams import dead_letters
from streams.connection import Connection
from streams.envelope import Codec
from streams.errors import LogError
from streams.processing import snapshots
from streams.processing.checkpoint import Checkpoint
from streams.processing.commit import Committer
from streams.processing.lane_state import LaneState
from streams.processing.snapshot_parts import PartStore
from streams.processing.stage import Output, Stage
from streams.processing.waiting import wait_unless_stopped
from streams.reader import read_all
from streams.retry import StoppedError
from streams.shared_reader import SharedSubscription
from streams.subjects import Lane
from streams.topology import DEAD

log = structlog.get_logger()

S = TypeVar("S")

_FOLLOW = 1000
_REPLAY = 1000
"""Events folded at once while loading: so much the other lanes of the process wait."""
_RETRIES = ("dead.retry.>",)
"""The lanes of a process read retries alone: DEAD may hold many large dead letters."""


@dataclass(frozen=True)
class LoadedLane(Generic[S]):
    """What a lane works with until it is lost or stopped: `resumed` is the checkpoint that it was loaded from.

    `followed` reads what other stages write into the output stream; None for a stage that follows none.
    """

    committer: Committer
    resumed: Checkpoint
    state: LaneState[S]
    input: SharedSubscription
    retries: SharedSubscription
    followed: SharedSubscription | None
    part_of: Callable[[str], str] | None
    part_sequences: dict[str, int]
    """Of a state that is saved in parts: the sequence of each saved part when the lane was loaded."""
    changed: set[str]
    """Of a state that is saved in parts: those that have changed since they were saved."""

    def follow(self) -> None:
        """Fold what other stages have written into the output stream since the last call."""
        while self.followed is not None and (taken := self.followed.take(_FOLLOW)):
            self.state.follow(taken)
            if self.part_of is not None:
                self.changed.update(self.part_of(stored.subject) for stored in taken)

    def on_stored(self, output: Output, sequence: int) -> None:
        """An output that was folded already is stored now."""
        self.state.on_stored(output, sequence)
        if self.part_of is not None:
            self.changed.add(self.part_of(output.subject))


class LaneLoader(Generic[S]):
    """Loads one lane of a stage. `wake` is set whenever one of its subscriptions has something to read."""

    def __init__(
        self,
        connection: Connection,
        codec: Codec,
        stage: Stage[S],
        lane: Lane,
        clock: Callable[[], int],
        stop: asyncio.Event,
        wake: asyncio.Event,
        read_ahead: int,
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._stage = stage
        self._lane = lane
        self._clock = clock
        self._stop = stop
        self._wake = wake
        self._read_ahead = read_ahead
        self._log = log.bind(stage=stage.name, lane=lane.name)

    @asynccontextmanager
    async def loaded(self) -> AsyncIterator[LoadedLane[S]]:
        """The lane as its newest checkpoint describes it; its subscriptions are closed at the end of the block.

        Waits first until the stage has read CONFIG as far as the checkpoint names it: with an older configuration it
        would take back what was decided with the newer one. Raises FencedError, HalfStoredError and LogError, and
        StoppedError when the lane is stopped while it waits.
        """
        stage, lane = self._stage, self._lane
        async with AsyncExitStack() as subscriptions:
            committer = Committer(
                self._connection, self._codec, stage.name, lane, stage.reads, stage.writes, self._clock, stop=self._stop
            )
            for superseded in await committer.load():
                await self._delete_consumer(superseded)
            reached = committer.reached
            await self._config_reached(reached.config_sequence)
            snapshot_at, value, parts = await self._restore()
            # The state counts as folded up to the checkpoint even if nothing behind the snapshot belongs to it.
            folded_to = max(snapshot_at, committer.sequence)
            state = LaneState(self._codec, stage, lane, value, sequence=folded_to, stored=committer.sequence)
            changed = await self._replay(state, snapshot_at, parts)
            followed = None
            if stage.follows:
                followed = await self._subscribe(
                    subscriptions,
                    stage.writes.name,
                    stage.state_patterns,
                    state.sequence,
                    f"{stage.name} {lane.name} follows its own stream",
                )
            retries = await self._subscribe(
                subscriptions,
                DEAD.name,
                [dead_letters.retry_patterns(stage.name)],
                reached.retried,
                f"{stage.name} {lane.name} runs retries",
                server_filters=_RETRIES,
            )
            inputs = await self._subscribe(
                subscriptions,
                stage.reads.name,
                stage.input_patterns,
                reached.position,
                stage.description,
                name=f"{stage.name}-{lane.name}",
            )
            self._log.info(
                "lane.loaded",
                position=reached.position,
                snapshot=snapshot_at,
                replayed=state.folded,
            )
            part_of = stage.part_of if stage.saved_in_parts else None
            yield LoadedLane(committer, reached, state, inputs, retries, followed, part_of, parts, changed)

    async def _config_reached(self, sequence: int) -> None:
        def report() -> None:
            self._log.warning("lane.config_behind", config=self._stage.config_sequence(), checkpoint=sequence)

        await wait_unless_stopped(self._stage.config_reached(sequence), self._stop, report)

    async def _delete_consumer(self, lane: str) -> None:
        """Delete the durable consumer of a lane that was superseded: its lag would grow without end."""
        consumer = f"{self._stage.name}-{lane}"
        try:
            await self._connection.api(f"CONSUMER.DELETE.{self._stage.reads.name}.{consumer}")
        except LogError as error:
            self._log.info("consumer.not_deleted", consumer=consumer, error=str(error))

    async def _restore(self) -> tuple[int, S, dict[str, int]]:
        """(sequence, state, sequences of its parts) of the newest snapshot that can be used; (0, the initial state, no
        parts) when none can."""
        stage, lane = self._stage, self._lane
        try:
            if stage.saved_in_parts:
                parts = await PartStore(self._connection, stage.name, lane, stage.schema, stage.writes.name).load()
                if parts is not None:
                    return parts.sequence, stage.restore_parts(parts.states, lane), parts.sequences
            elif stage.schema:
                found = await snapshots.load(self._connection, stage.name, lane, stage.schema, stage.writes.name)
                if found is not None:
                    return found[0], stage.restore(found[1], lane), {}
        except LogError:
            raise
        except Exception as error:  # a snapshot is only a shortcut: a replay takes its place
            self._log.warning("snapshot.ignored", why=f"{type(error).__name__}: {error}")
        return 0, stage.initial(lane), {}

    async def _replay(self, state: LaneState[S], after: int, parts: Mapping[str, int]) -> set[str]:
        """Fold what was stored behind `after`: the lane's own outputs, and those of others that belong to its state.

        Events that are in a saved part already are passed over. Returns the parts that others were folded into.
        """
        stage, changed = self._stage, set[str]()
        if not stage.state_patterns:
            return changed
        filters = self._lane.filters(*stage.state_patterns)
        description = f"loads {stage.name} {self._lane.name}"
        async for batch in read_all(
            self._connection, stage.writes.name, filters, after=after, batch=_REPLAY, description=description
        ):
            if self._stop.is_set():
                raise StoppedError
            end = batch[-1].sequence
            if stage.saved_in_parts:
                part_of = stage.part_of
                batch = [stored for stored in batch if stored.sequence > parts.get(part_of(stored.subject), 0)]
                changed.update(part_of(stored.subject) for stored in batch)
            if batch:
                state.replay(batch)
            state.sequence = max(state.sequence, end)
            await asyncio.sleep(0)
        return changed

    async def _subscribe(
        self,
        subscriptions: AsyncExitStack,
        stream: str,
        patterns: Sequence[str],
        after: int,
        description: str,
        *,
        name: str | None = None,
        server_filters: Sequence[str] = (),
    ) -> SharedSubscription:
        stage, lane = self._stage, self._lane
        subscription = SharedSubscription(
            self._connection,
            stream,
            lane.filters(*patterns),
            name=name,
            description=description,
            metadata={"stage": stage.name, "lane": lane.name, "writes": stage.writes.name},
            batch=self._read_ahead,
            wake=self._wake,
            server_filters=server_filters,
        )
        subscriptions.push_async_callback(subscription.close)
        return await subscription.open(after)
