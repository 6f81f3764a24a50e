"""The decisions of a trace, each made again from the log alone."""

from typing import Any, NamedTuple

import msgspec

from domain.events import CopyDecided
from handlers.services.verify_decisions import Difference, verify_one
from streams.connection import Connection
from vibe.trace import Trace


class Verified(NamedTuple):
    """What came of deciding again: `gone` says why that was not possible."""

    difference: Difference | None
    gone: str | None

    def facts(self) -> dict[str, Any]:
        """For JSON: equal, or the first field that differs, or why nobody can tell."""
        if self.gone is not None:
            return {"equal": None, "why": self.gone}
        if self.difference is None:
            return {"equal": True}
        return {
            "equal": False,
            "field": self.difference.field,
            "stored": msgspec.to_builtins(self.difference.stored),
            "again": msgspec.to_builtins(self.difference.again),
        }

    def text(self) -> str:
        """One line for people."""
        if self.gone is not None:
            return f"not verified: {self.gone}"
        if self.difference is None:
            return "decided again from the log alone: equal in every field"
        return (
            f"decided again from the log alone: {self.difference.field} differs, "
            f"stored {self.difference.stored}, again {self.difference.again}"
        )


async def verified(connection: Connection, trace: Trace) -> dict[str, Verified]:
    """The verdict on every decision of a trace, by attempt id."""
    verdicts = {}
    for attempt in trace.attempts:
        for hop in attempt.hops:
            if isinstance(hop.data, CopyDecided) and hop.data.attempt_id == attempt.attempt_id:
                try:
                    verdicts[attempt.attempt_id] = Verified(await verify_one(connection, hop), None)
                except LookupError as error:
                    verdicts[attempt.attempt_id] = Verified(None, str(error))
    return verdicts
