"""SIGNALS from RAW: the stage `normalize` again."""

from __future__ import annotations

from collections.abc import Iterable

from handlers.normalize import Normalize
from streams.envelope import Recorded
from streams.processing.stage import Output
from streams.subjects import lanes
from vibe.verify.derived import Derivation

TYPES = frozenset({"signal.recorded", "account.seeded", "fill.observed", "gap.detected", "market.described"})


def signals() -> Derivation:
    """Every event of SIGNALS, each from its raw event and the signals before it."""
    stage = Normalize()
    state = stage.initial(lanes(1)[0])

    async def handle(event: Recorded, _: Recorded) -> Iterable[Output]:
        return list(stage.handle(state, event, 0))

    return Derivation(
        reads=stage.reads,
        writes=stage.writes,
        inputs=stage.input_types,
        types=TYPES,
        handle=handle,
        evolve=lambda event, sequence: stage.evolve(state, event, sequence),
    )
