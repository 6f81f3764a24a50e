"""Operator switches: what operators switched, and since when (docs/design.md, operator switches).

Every answer is as of a CONFIG sequence. A decision names the one that it used, so the same question has the same
answer later.
"""

from bisect import bisect_right
from typing import NamedTuple

from domain.events import ControlChanged, ControlState, ControlTarget
from domain.reason_codes import Reason

_ORDERS = (ControlTarget.BREAKERS, ControlTarget.POSITIONS)


class Switch(NamedTuple):
    """One change: its CONFIG sequence, the new state, when it was recorded (ns), and who did it."""

    sequence: int
    state: ControlState
    at: int
    actor: str


class Controls:
    """Every switch of the log by target and id, in order."""

    def __init__(self) -> None:
        self.switches: dict[tuple[ControlTarget, str], list[Switch]] = {}
        self.orders = 0
        """Orders to reset breakers or to close positions so far: portfolios are looked at when it grows."""
        self.closings = 0
        """Orders to close positions so far."""

    def evolve(self, event: ControlChanged, at: int, sequence: int) -> None:
        """Fold one control event recorded at `at` (ns)."""
        self.switches.setdefault((event.target, event.id), []).append(Switch(sequence, event.state, at, event.actor))
        self._count(event.target, 1)

    def restore(self, target: ControlTarget, key: str, switches: list[Switch]) -> None:
        """Take over all switches of a target that are known from before."""
        self.switches[target, key] = switches
        self._count(target, len(switches))

    def _count(self, target: ControlTarget, more: int) -> None:
        self.orders += more if target in _ORDERS else 0
        self.closings += more if target is ControlTarget.POSITIONS else 0

    def last(self, target: ControlTarget, key: str, sequence: int) -> Switch | None:
        """The newest switch of a target as of `sequence`."""
        switches = self.switches.get((target, key))
        if not switches:
            return None
        number = bisect_right(switches, sequence, key=lambda switch: switch.sequence)
        return switches[number - 1] if number else None

    def sequence_at(self, time: int) -> int:
        """The CONFIG sequence of the newest switch recorded up to a time (ns); 0 when there was none."""
        recorded = (switch.sequence for switches in self.switches.values() for switch in switches if switch.at <= time)
        return max(recorded, default=0)

    def now(self) -> dict[str, str]:
        """'target id' -> state of every target that an operator switched away from its usual state."""
        usual = (ControlState.RUNNING, ControlState.ENABLED, ControlState.RESET, ControlState.CLOSED)
        return {
            f"{target} {key}".strip(): switches[-1].state.value
            for (target, key), switches in self.switches.items()
            if switches[-1].state not in usual
        }

    def engine(self, sequence: int) -> ControlState:
        """Whether the engine is running, paused or only recording."""
        switch = self.last(ControlTarget.ENGINE, "", sequence)
        return switch.state if switch else ControlState.RUNNING

    def engine_stops(self, detect_time: int, sequence: int) -> bool:
        """True when the engine is paused, or was when the signal was detected (ns): what was detected during a pause is
        not copied later."""
        switches = self.switches.get((ControlTarget.ENGINE, ""), [])
        known = bisect_right(switches, sequence, key=lambda switch: switch.sequence)
        for number in range(known - 1, -1, -1):
            switch = switches[number]
            if switch.state is ControlState.PAUSED:
                resumed = switches[number + 1].at if number + 1 < known else None
                return resumed is None or detect_time < resumed
        return False

    def disabled(self, influencer_id: str, subscriber_id: str, market: str, asset: str, sequence: int) -> Reason | None:
        """Why nothing may be opened: the first of these that is disabled or blocked; None when there is none."""
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

    def closed(
        self, subscription_id: str, subscriber_id: str, influencer_id: str, assets: tuple[str, ...], sequence: int
    ) -> Switch | None:
        """The newest order to close what a subscription holds of an asset; `assets` are its names: the asset and its
        market."""
        whose = (f"subscription:{subscription_id}", f"subscriber:{subscriber_id}", f"influencer:{influencer_id}")
        keys = (key for who in whose for key in (who, *(f"{who} {asset}" for asset in assets)))
        found = (self.last(ControlTarget.POSITIONS, key, sequence) for key in keys)
        return max((order for order in found if order is not None), key=lambda order: order.sequence, default=None)

    def breakers_reset(self, subscriber_id: str, sequence: int) -> Switch | None:
        """The newest order to reset a subscriber's breakers."""
        return self.last(ControlTarget.BREAKERS, subscriber_id, sequence)
