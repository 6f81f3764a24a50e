"""The decisions of a trace, each decided again from the log alone."""

from typing import Any, NamedTuple

import msgspec

from domain.events import CopyDecided
from handlers.services.trace import Trace
from handlers.services.verify_decisions import Difference, verify_decision
from streams.connection import Connection


class Verified(NamedTuple):
    """Whether a decision comes out the same: `difference` is None when it does.

    `missing` says which input the log no longer has; then the decision could not be made again.
    """

    difference: Difference | None
    missing: str | None

    def facts(self) -> dict[str, Any]:
        """For JSON: equal, or the first field that differs, or why the decision could not be made again."""
        if self.missing is not None:
            return {"equal": None, "why": self.missing}
        if self.difference is None:
            return {"equal": True}
        return {
            "equal": False,
            "field": self.difference.field,
            "stored": msgspec.to_builtins(self.difference.stored),
            "again": msgspec.to_builtins(self.difference.again),
        }

    def text(self) -> str:
        """The same as one line of text."""
        if self.missing is not None:
            return f"not verified: {self.missing}"
        if self.difference is None:
            return "decided again from the log alone: equal in every field"
        return (
            f"decided again from the log alone: {self.difference.field} differs, "
            f"stored {self.difference.stored}, again {self.difference.again}"
        )


async def verify_trace(connection: Connection, trace: Trace) -> dict[str, Verified]:
    """The result for every decision of a trace, by attempt id."""
    results = {}
    for attempt in trace.attempts:
        for hop in attempt.hops:
            if isinstance(hop.data, CopyDecided) and hop.data.attempt_id == attempt.attempt_id:
                try:
                    results[attempt.attempt_id] = Verified(await verify_decision(connection, hop), None)
                except LookupError as error:
                    results[attempt.attempt_id] = Verified(None, str(error))
    return results
