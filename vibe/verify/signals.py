"""SIGNALS from RAW: the stage `normalize` again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from domain.configuration import Configuration
from handlers.normalize import Normalize
from streams.connection import Connection
from streams.envelope import Recorded
from streams.processing.stage import Output
from streams.subjects import lanes
from vibe.verify.configuration import ConfigurationAt
from vibe.verify.derived import Derivation

if TYPE_CHECKING:
    from handlers.live.configuration import LiveConfiguration

TYPES = frozenset(
    {"signal.recorded", "account.seeded", "account.mode_stated", "fill.observed", "gap.detected", "market.described"}
)


class _AsOf(Struct):
    """What `normalize` reads of the configuration: the addresses of influencers, as of one event."""

    directory: Configuration


def signals(connection: Connection) -> Derivation:
    """Every event of SIGNALS, each from its raw event and the signals before it, with the addresses that its influencer
    had when it was stored."""
    configuration, known = ConfigurationAt(connection), _AsOf(Configuration())
    stage = Normalize(cast("LiveConfiguration", known))
    state = stage.initial(lanes(1)[0])

    async def handle(event: Recorded, first: Recorded) -> Iterable[Output]:
        known.directory = await configuration.at_time(first.time)
        return list(stage.handle(state, event, 0))

    return Derivation(
        reads=stage.reads,
        writes=stage.writes,
        inputs=stage.input_types,
        types=TYPES,
        handle=handle,
        evolve=lambda event, sequence: stage.evolve(state, event, sequence),
    )
