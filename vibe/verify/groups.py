"""Signal groups from SIGNALS: the stage `group` again, at the times that its events state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from domain import groups
from domain.events import Event, GapDetected, GroupCause, GroupClosed, SignalGrouped, SignalRecorded
from handlers.group import Group, OpenGroups, output_of
from streams.envelope import Recorded
from streams.processing.stage import Output
from streams.subjects import lanes
from vibe.verify.derived import Derivation

TYPES = frozenset({"signal.grouped", "group.closed"})


def signal_groups() -> Derivation:
    """Every signal in a window, each from its signal, and every closed window from what was put into it."""
    stage = Group()
    windows = stage.initial(lanes(1)[0])

    async def handle(event: Recorded, first: Recorded) -> Iterable[Output]:
        return [output_of(made) for made in _made(windows, event, first.data)]

    return Derivation(
        reads=stage.reads,
        writes=stage.writes,
        inputs=stage.input_types,
        types=TYPES,
        handle=handle,
        evolve=lambda event, sequence: stage.evolve(windows, event, sequence),
    )


def _made(windows: OpenGroups, event: Recorded, stored: Event) -> Iterator[Event]:
    """What a signal or gap leads to of the kind of the stored event. A window closes by a later signal or by time, so
    it is closed at the time that is stored; how long it stays open at least depends on when its first signal came."""
    found: SignalRecorded | GapDetected = event.data
    window = windows.get((found.influencer_id, found.venue.value, found.asset))
    match stored:
        case GroupClosed(cause=GroupCause.TRADE):
            if window is not None and window.signal_sequences[-1] == event.sequence:
                yield groups.close(window, stored.closed_at)
        case GroupClosed():
            for made in _given_up(window, found, event.sequence, stored.closed_at):
                if made.cause is not GroupCause.TRADE:
                    yield made
        case SignalGrouped() if isinstance(found, SignalRecorded):
            now = stored.closes_at - groups.SETTLE_NS
            for joined in groups.join(window, found, event.sequence, now=now):
                if isinstance(joined, SignalGrouped):
                    yield joined


def _given_up(
    window: groups.OpenGroup | None, found: SignalRecorded | GapDetected, sequence: int, now: int
) -> Iterator[GroupClosed]:
    for made in groups.given_up(window, found, sequence, now=now):
        if isinstance(made, GroupClosed):
            yield made
