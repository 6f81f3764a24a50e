"""SIGNALS -> GROUPS: signals of one influencer, asset and side inside one window become one group.

What a movement or a gap takes from a position is a group of its own.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from domain import groups
from domain.events import Event, GapDetected, GroupCause, GroupClosed, SignalGrouped, SignalRecorded
from domain.groups import OpenGroup
from streams import subjects
from streams.envelope import Recorded
from streams.processing.stage import Output, Stage
from streams.subjects import Lane
from streams.topology import GROUPS, SIGNALS

OpenGroups = dict[tuple[str, str, str], OpenGroup]
"""The open window of each (influencer, venue, asset)."""


class Group(Stage[OpenGroups]):
    name = "group"
    description = "collects signals of one window into groups"
    reads = SIGNALS
    writes = GROUPS
    input_patterns = ("signals.{}.>",)
    state_patterns = ("groups.{}.>",)
    input_types = frozenset({"signal.recorded", "gap.detected"})
    schema = 1

    def initial(self, lane: Lane) -> OpenGroups:
        return {}

    def dump(self, state: OpenGroups) -> bytes:
        return msgspec.msgpack.encode(state)

    def restore(self, payload: bytes, lane: Lane) -> OpenGroups:
        return msgspec.msgpack.decode(payload, type=OpenGroups)

    def handle(self, state: OpenGroups, event: Recorded, now: int) -> Iterator[Output]:
        found: SignalRecorded | GapDetected = event.data
        window = state.get((found.influencer_id, found.venue.value, found.asset))
        if isinstance(found, GapDetected):
            made = groups.given_up(window, found, event.sequence, now=now)
        else:
            made = groups.join(window, found, event.sequence, now=now)
        for one in made:
            yield output_of(one)

    def evolve(self, state: OpenGroups, event: Any, sequence: int) -> None:
        if not isinstance(event, SignalGrouped | GroupClosed):
            return
        key = (event.influencer_id, event.venue.value, event.asset)
        window = groups.evolve(state.get(key), event)
        if window is None:
            state.pop(key, None)
        else:
            state[key] = window

    def due(self, state: OpenGroups) -> int | None:
        return min((window.first.closes_at for window in state.values()), default=None)

    def tick(self, state: OpenGroups, now: int) -> Iterator[Output]:
        for window in list(state.values()):
            for closed in groups.expire(window, now):
                yield output_of(closed)


def output_of(event: Event) -> Output:
    """An event of a window, under its id, on the subject of its influencer and asset."""
    assert isinstance(event, SignalGrouped | GroupClosed)
    subject = subjects.groups(event.influencer_id, event.venue.value, event.asset)
    if isinstance(event, SignalGrouped):
        return Output(subject, event, f"{event.signal_id}.grouped", event.group_id)
    if event.cause is not GroupCause.TRADE:
        return Output(subject, event, event.group_id, event.group_id)
    return Output(subject, event, event.group_id, event.group_id, f"{SIGNALS.name}:{event.signal_sequences[-1]}")
