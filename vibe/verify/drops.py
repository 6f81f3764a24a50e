"""The dead letters that operators have dropped: what a stage appended because of one is computed again from it."""

from __future__ import annotations

from handlers.live.event_codec import codec
from streams.connection import Connection
from streams.dead_letters import dead_letters


class Drops:
    """The events whose dead letters were dropped, read from DEAD when the first is asked for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._found: frozenset[tuple[str, str]] | None = None

    async def has(self, stage: str, at: str | None) -> bool:
        """True when a dead letter of this stage of the event at this address was dropped."""
        if self._found is None:
            found = await dead_letters(self._connection, codec())
            self._found = frozenset((one.facts.stage, one.facts.origin) for one in found if one.state == "dropped")
        return (stage, at) in self._found
