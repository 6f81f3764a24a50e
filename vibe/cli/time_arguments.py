"""Times of the log as arguments: a sequence, a time, or a span that ends now."""

import re
from datetime import UTC, datetime

from vibe.cli.errors import UsageError

_SPAN = re.compile(r"(\d+)\s*(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class BadTimeError(UsageError):
    """Text that is neither a sequence, nor a time, nor a span."""


def time_argument(text: str, option: str = "--at") -> tuple[int | None, int | None]:
    """(sequence, None) or (None, nanoseconds); a time without an offset is UTC. Raises BadTimeError."""
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text), None
    time_ns = _nanoseconds(text)
    if time_ns is None:
        raise BadTimeError(
            f"{option} {text!r} is neither a sequence of EXECUTIONS such as 1234 nor a time such as "
            "2026-11-01T12:00:00Z"
        )
    return None, time_ns


def ago(text: str, now: int, option: str = "--since") -> int:
    """Nanoseconds of '24h' (that long before `now`) or of a time; a time without an offset is UTC.

    Raises BadTimeError.
    """
    match = _SPAN.fullmatch(text.strip())
    time_ns = _nanoseconds(text) if match is None else now - int(match[1]) * _SECONDS[match[2]] * 1_000_000_000
    if time_ns is None or time_ns < 0:
        raise BadTimeError(
            f"{option} {text!r} is neither a span such as 24h or 7d nor a time such as 2026-11-01T12:00:00Z"
        )
    return time_ns


def _nanoseconds(text: str) -> int | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
