"""When an event was recorded, read from its envelope, as a UTC time."""

from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from streams.envelope import Recorded


class _Envelope(msgspec.Struct):
    time: datetime


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def recorded_at(payload: bytes) -> datetime | None:
    """When a stored payload was recorded, to the microsecond; None when its envelope cannot be read."""
    try:
        return _ENVELOPE.decode(payload).time.astimezone(UTC)
    except (msgspec.MsgspecError, ValueError, OverflowError, UnicodeDecodeError, RecursionError):
        return None


def recorded_time(event: Recorded) -> datetime:
    """When a decoded event was recorded, to the microsecond."""
    return datetime.fromisoformat(event.time)


def recorded_minute(event: Recorded) -> datetime:
    """The beginning of the minute in which a decoded event was recorded."""
    return minute_of(event.time)


def minute_of(time: str) -> datetime:
    """The beginning of the minute of an envelope's time."""
    return _minute(time[:16])


@lru_cache(maxsize=64)
def _minute(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")
