"""Operator switches: what is switched and since when, as of a CONFIG sequence (docs/design.md, operator switches).

A decision names the CONFIG sequence it had seen, so the same question asked later has the same answer.
"""

from bisect import bisect_right
from typing import NamedTuple

from domain.events import ControlChanged, ControlState, ControlTarget
from domain.reason_codes import Reason


class Switch(NamedTuple):
    """One change: its CONFIG sequence, the new state, when it was recorded (ns), and who did it."""

    sequence: int
    state: ControlState
    at: int
    actor: str


class Controls:
    """Every switch of the log by target and id, in order."""

    def __init__(self) -> None:
        self._switches: dict[tuple[ControlTarget, str], list[Switch]] = {}
        self.resets = 0
        """How often breakers were ordered to reset, for those who watch for a new order."""

    def evolve(self, event: ControlChanged, at: int, sequence: int) -> None:
        """Fold one control event recorded at `at` (ns)."""
        self._switches.setdefault((event.target, event.id), []).append(Switch(sequence, event.state, at, event.actor))
        self.resets += event.target is ControlTarget.BREAKERS

    def last(self, target: ControlTarget, key: str, sequence: int) -> Switch | None:
        """The newest switch of a target that stood at `sequence`."""
        switches = self._switches.get((target, key))
        if not switches:
            return None
        number = bisect_right(switches, sequence, key=lambda switch: switch.sequence)
        return switches[number - 1] if number else None

    def sequence_at(self, time: int) -> int:
        """The CONFIG sequence of the newest switch recorded up to a time (ns); 0 when there was none."""
        stood = (switch.sequence for switches in self._switches.values() for switch in switches if switch.at <= time)
        return max(stood, default=0)

    def now(self) -> dict[str, str]:
        """What is not as it is without any control: 'target id' -> state, for people."""
        usual = (ControlState.RUNNING, ControlState.ENABLED, ControlState.RESET)
        return {
            f"{target} {key}".strip(): switches[-1].state.value
            for (target, key), switches in self._switches.items()
            if switches[-1].state not in usual
        }

    def engine(self, sequence: int) -> ControlState:
        """Whether the engine is running, paused or only recording."""
        switch = self.last(ControlTarget.ENGINE, "", sequence)
        return switch.state if switch else ControlState.RUNNING

    def engine_stops(self, detect_time: int, sequence: int) -> bool:
        """True when the engine is paused, or was when the signal was detected: what came in a pause is never decided
        late."""
        switches = self._switches.get((ControlTarget.ENGINE, ""), [])
        stood = bisect_right(switches, sequence, key=lambda switch: switch.sequence)
        for number in range(stood - 1, -1, -1):
            switch = switches[number]
            if switch.state is ControlState.PAUSED:
                resumed = switches[number + 1].at if number + 1 < stood else None
                return resumed is None or detect_time < resumed
        return False

    def disabled(self, influencer_id: str, subscriber_id: str, market: str, asset: str, sequence: int) -> Reason | None:
        """Why nothing may be opened, by the switches of those whom it concerns."""
        for target, key, reason in (
            (ControlTarget.INFLUENCER, influencer_id, Reason.INFLUENCER_DISABLED),
            (ControlTarget.SUBSCRIBER, subscriber_id, Reason.SUBSCRIBER_DISABLED),
            (ControlTarget.MARKET, market, Reason.MARKET_BLOCKED),
            (ControlTarget.MARKET, asset, Reason.MARKET_BLOCKED),
        ):
            switch = self.last(target, key, sequence)
            if switch is not None and switch.state is ControlState.DISABLED:
                return reason
        return None

    def breakers_reset(self, subscriber_id: str, sequence: int) -> Switch | None:
        """The newest order to reset a subscriber's breakers."""
        return self.last(ControlTarget.BREAKERS, subscriber_id, sequence)
