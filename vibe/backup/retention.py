"""Which backups are kept: the newest of each of the last 7 days, and of each of the last 4 weeks that have one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

DAILY, WEEKLY = 7, 4
_FORMAT = "%Y%m%dT%H%M%SZ"


def set_name(time_ns: int) -> str:
    """The name of a set that is taken now, such as 20261120T030000Z."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime(_FORMAT)


def taken_at(name: str) -> datetime:
    """The time in a set's name. Raises ValueError for any other text."""
    return datetime.strptime(name, _FORMAT).replace(tzinfo=UTC)


def kept(names: Iterable[str]) -> set[str]:
    """Of all sets, those to keep. Days and weeks (ISO, UTC) without a set do not count."""
    newest_first = sorted(names, key=taken_at, reverse=True)
    days: dict[object, str] = {}
    weeks: dict[object, str] = {}
    for name in newest_first:
        days.setdefault(taken_at(name).date(), name)
        weeks.setdefault(taken_at(name).isocalendar()[:2], name)
    return {*list(days.values())[:DAILY], *list(weeks.values())[:WEEKLY]}
