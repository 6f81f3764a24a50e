"""Times as the venue writes them. All come in as ns UTC."""

from datetime import UTC, datetime


def _time(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)


def iso(at_ns: int) -> str:
    """`2026-01-01T00:00:10Z`."""
    return _time(at_ns).strftime("%Y-%m-%dT%H:%M:%SZ")


def closed_text(at_ns: int) -> str:
    """Gamma's `closedTime`: `2026-01-01 00:00:10+00`."""
    return _time(at_ns).strftime("%Y-%m-%d %H:%M:%S+00")


def day(at_ns: int) -> str:
    """`2026-01-01`."""
    return _time(at_ns).strftime("%Y-%m-%d")
