"""When an event was recorded, from its envelope, as a time that Postgres keeps."""

from datetime import datetime
from functools import lru_cache

from streams.envelope import Recorded


def recorded_time(event: Recorded) -> datetime:
    """To the microsecond, UTC."""
    return datetime.fromisoformat(event.time)


def recorded_minute(event: Recorded) -> datetime:
    """The beginning of its minute, UTC."""
    return _minute(event.time[:16])


@lru_cache(maxsize=64)
def _minute(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")
