"""Moments of the log on the command line: a sequence, or a time."""

import re
from datetime import UTC, datetime


class BadTimeError(ValueError):
    """Neither a sequence nor a time."""


def time_argument(text: str) -> tuple[int | None, int | None]:
    """(sequence, None) or (None, nanoseconds) of '--at'; a time without an offset is UTC. Raises BadMomentError."""
    if re.fullmatch(r"\d+", text):
        return int(text), None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadTimeError(
            f"--at {text!r} is neither a sequence of EXECUTIONS such as 1234 nor a time such as 2026-11-01T12:00:00Z"
        ) from error
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return None, (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


_AGO = re.compile(r"(\d+)\s*(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def ago(text: str, now: int) -> int:
    """Nanoseconds of '24h' (that long before `now`) or of a time; a time without an offset is UTC.

    Raises BadMomentError.
    """
    match = _AGO.fullmatch(text.strip())
    if match is not None:
        return now - int(match[1]) * _SECONDS[match[2]] * 1_000_000_000
    try:
        _, time_ns = time_argument(text)
    except BadTimeError:
        time_ns = None
    if time_ns is None:
        raise BadTimeError(f"{text!r} is neither a span such as 24h or 7d nor a time such as 2026-11-01T12:00:00Z")
    return time_ns
