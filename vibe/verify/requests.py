"""REQUESTS from GROUPS and CONFIG: the stage `match` again, each time with the configuration that it used."""

from __future__ import annotations

from collections.abc import Iterable

from domain.events import GroupExpired, GroupMatched
from domain.reason_codes import Reason
from handlers.match import Match, dropped_group, requests_of
from streams.connection import Connection
from streams.envelope import Recorded
from streams.processing.stage import Output
from vibe.verify.configuration import ConfigurationAt
from vibe.verify.derived import Derivation
from vibe.verify.drops import Drops

TYPES = frozenset({"group.requested", "execution.requested", "group.matched", "group.expired"})


def requests(connection: Connection) -> Derivation:
    """Every request and every summary of a fan-out, each from its quoted group or round of tries."""
    configuration, drops = ConfigurationAt(connection), Drops(connection)

    async def handle(event: Recorded, first: Recorded) -> Iterable[Output]:
        if isinstance(first.data, GroupMatched) and Reason.DROPPED.value in first.data.filtered:
            return list(dropped_group(event)) if await drops.has(Match.name, event.at) else []
        sequence = await configuration.used_at(first)
        now = first.data.expired_at if isinstance(first.data, GroupExpired) else 0
        return list(requests_of(await configuration.at(sequence), event, sequence, now))

    return Derivation(
        reads=Match.reads,
        writes=Match.writes,
        inputs=Match.input_types,
        types=TYPES,
        handle=handle,
        evolve=lambda event, sequence: None,
    )
