"""Moments of the log on the command line: a sequence, or a time."""

import re
from datetime import UTC, datetime


class BadMomentError(ValueError):
    """Neither a sequence nor a time."""


def moment(text: str) -> tuple[int | None, int | None]:
    """(sequence, None) or (None, nanoseconds) of '--at'; a time without an offset is UTC. Raises BadMomentError."""
    if re.fullmatch(r"\d+", text):
        return int(text), None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadMomentError(
            f"--at {text!r} is neither a sequence of EXECUTIONS such as 1234 nor a time such as 2026-11-01T12:00:00Z"
        ) from error
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return None, (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
